"""An event sink that remembers, and a clock that a test owns."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agent.application.events import by_logged_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.application.events import Event


class RememberedEvents:
    """Keeps every event as (event, fields), and refuses fields that the event does not declare."""

    def __init__(self) -> None:
        self.said: list[tuple[Event, dict[str, object]]] = []
        self.bound: dict[str, object] = {}

    def bind(self, **fields: object) -> None:
        self.bound.update(fields)

    def emit(self, event: Event, /, **fields: object) -> None:
        named = by_logged_name(fields)
        unknown = set(named) - set(event.fields)
        assert not unknown, f"{event.name} does not declare {unknown}"
        self.said.append((event, named))

    def names(self) -> list[str]:
        """Names of the events, in order."""
        return [event.name for event, _ in self.said]

    def fields_of(self, event: Event) -> dict[str, object]:
        """Fields of the last such event."""
        return [fields for said, fields in self.said if said is event][-1]


class SteppedClock:
    """Stands still until a test moves it, or someone sleeps: that takes no time but its own.

    `on_sleep` is what happens while someone sleeps.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self.instant = now or datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
        self.seconds = 0.0
        self.on_sleep: Callable[[], None] | None = None

    def now(self) -> datetime:
        return self.instant

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)
        if self.on_sleep is not None:
            self.on_sleep()
        await asyncio.sleep(0)  # where a cancellation arrives

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.instant += timedelta(seconds=seconds)
        self.seconds += seconds
