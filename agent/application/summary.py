"""What the summary of a run says beside its result: written by the steps, read at the end alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.application.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.application.ports import Clock


class Summary:
    """What is known of a run so far, whatever ends it: no step ever asks for it."""

    def __init__(self) -> None:
        self._known = Report()
        self._seconds: dict[str, float] = {}

    def add(self, **known: Any) -> None:
        """Add fields of the report, in place of what they were before."""
        self._known = replace(self._known, **known)

    @contextmanager
    def step(self, name: str, clock: Clock) -> Iterator[None]:
        """Add the time of a `with` block to a step's; one that is done twice takes both times."""
        began = clock.elapsed()
        try:
            yield
        finally:
            spent = self._seconds.get(name, 0.0) + clock.elapsed() - began
            self._seconds[name] = round(spent, 3)

    def report(self) -> Report:
        """Return the report of a run that ends here."""
        return replace(self._known, durations=dict(self._seconds))
