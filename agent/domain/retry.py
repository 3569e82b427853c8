"""When to retry after a failure that is likely to pass."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

_FIRST: Final = timedelta(minutes=2)
_LONGEST: Final = timedelta(hours=1)
_MOST_DOUBLINGS: Final = 5
_SPREAD: Final = 0.5
"""Width of the range of delays, as a fraction of its middle."""
MEMORY: Final = 2 * _LONGEST
"""Failures longer ago than this do not count."""


def wait_before_retry(failures: int, place: float) -> timedelta:
    """Return how long to wait after so many failures in a row, the last one included.

    2 minutes, doubled up to an hour, plus or minus a quarter: `place`, from 0 to 1, is this run's
    position in that range, so that the hosts of a fleet do not retry all at once.
    """
    doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
    wait: timedelta = min(_FIRST * 2**doublings, _LONGEST)
    return wait * (1 + _SPREAD * (place - 0.5))
