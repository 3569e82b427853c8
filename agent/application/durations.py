"""How long the steps of a run have taken: written by the steps, read for the summary alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.application.ports import Clock


class Durations:
    """Seconds by the name of a step; one that is done twice has taken both times."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, clock: Clock) -> Iterator[None]:
        """Add the time of a `with` block to a step's."""
        began = clock.elapsed()
        try:
            yield
        finally:
            spent = self._seconds.get(name, 0.0) + clock.elapsed() - began
            self._seconds[name] = round(spent, 3)

    @property
    def seconds(self) -> Mapping[str, float]:
        """The seconds of all steps."""
        return dict(self._seconds)
