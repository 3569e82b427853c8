"""What every use case has: time, and a place for events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from agent.application.events import Event


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""

    def elapsed(self) -> float:
        """Return seconds on a clock that never jumps."""

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class EventSink(Protocol):
    """Where events go."""

    def emit(self, event: Event, /, **fields: object) -> None:
        """Log `event`; a field's name may have dots in the log (`error_kind` is `error.kind`)."""

    def bind(self, **fields: object) -> None:
        """Add `fields` to every later event."""
