"""Sightings in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Sightings
from agent.domain.sighting import Moment, Sighting

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class FakeSightings(Sightings):
    """Keeps what was seen; with `is_forgetful` nothing. `boot` is the boot's id and its seconds."""

    def __init__(self, boot: Callable[[], tuple[str, float]]) -> None:
        self.seen: dict[str, Sighting] = {}
        self.is_forgetful = False
        self._boot = boot

    @override
    def moment(self, now: datetime, *, is_clock_right: bool) -> Moment:
        boot_id, seconds = self._boot()
        return Moment(now, is_clock_right, boot_id, timedelta(seconds=seconds))

    @override
    def last(self, name: str) -> Sighting | None:
        return self.seen.get(name)

    @override
    def keep(self, name: str, sighting: Sighting) -> None:
        if not self.is_forgetful:
            self.seen[name] = sighting

    @override
    def forget(self, name: str) -> None:
        self.seen.pop(name, None)
