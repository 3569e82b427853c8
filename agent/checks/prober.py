"""Runs checks of all types, each with the probe from its folder."""

from __future__ import annotations

import asyncio
import os
import resource
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from agent.application.ports import Prober
from agent.checks.check_type import Room
from agent.checks.registry import load_probe

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from agent.checks.check_type import Probe
    from agent.domain.check import Check, CheckResult

_FILES_KEPT: Final = 192
"""File descriptors reserved for everything but pings and connections."""


class Probes(Prober):
    """Runs checks of all types, in one event loop; a context manager."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe[Any]] = {}
        self._rooms: dict[Room, asyncio.Semaphore] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for probe in self._probes.values():
            await probe.close()

    @override
    async def probe(self, check: Check) -> CheckResult:
        return await self._probe_of(check).probe(check)

    @override
    def room_for(self, check: Check) -> AbstractAsyncContextManager[None]:
        probe = self._probe_of(check)
        probe.prepare(check)
        if probe.room not in self._rooms:
            self._rooms[probe.room] = asyncio.Semaphore(_size_of(probe.room))
        return self._rooms[probe.room]

    def _probe_of(self, check: Check) -> Probe[Any]:
        if check.type not in self._probes:
            self._probes[check.type] = load_probe(check.type)
        return self._probes[check.type]


def _size_of(room: Room) -> int:
    return _free_descriptors() if room is Room.SOCKETS else room.value


def _free_descriptors() -> int:
    """Return how many more sockets may be open at once.

    The limit is not raised: children inherit it, and some programs cannot handle a high one.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = sum(1 for _ in os.scandir("/proc/self/fd"))
    return min(Room.SOCKETS.value, max(16, soft - taken - _FILES_KEPT))
