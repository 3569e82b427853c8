"""When a run that failed for a reason that passes comes again."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

_FIRST: Final = timedelta(minutes=2)
_LONGEST: Final = timedelta(hours=1)
_MOST_DOUBLINGS: Final = 5
_SPREAD: Final = 0.5
"""Width of the range of waits, as a part of the wait in its middle."""
MEMORY: Final = 2 * _LONGEST
"""A failure that is longer ago is of another time."""


def wait_before_retry(failures: int, place: float) -> timedelta:
    """Return how long to wait after so many failures in a row, the last one included.

    2 minutes, doubled up to an hour, and a quarter more or less of that: `place`, from 0 to 1, is
    where in that range this run is, so that a fleet does not come back all at once.
    """
    doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
    wait: timedelta = min(_FIRST * 2**doublings, _LONGEST)
    return wait * (1 + _SPREAD * (place - 0.5))
