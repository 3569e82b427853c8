"""Health probes: one module per kind of check, loaded only where there is such a check."""

from __future__ import annotations

import asyncio
import os
import resource
from functools import cached_property
from typing import TYPE_CHECKING, Final, assert_never

from typing_extensions import override

from agent.application.ports import Prober
from agent.domain.check import CommandCheck, DnsCheck, HttpCheck, IcmpCheck, TcpCheck, UnitCheck

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from agent.adapters.probes.command import CommandProbe
    from agent.adapters.probes.dns import DnsProbe
    from agent.adapters.probes.http import HttpProbe
    from agent.adapters.probes.icmp import IcmpProbe
    from agent.adapters.probes.tcp import TcpProbe
    from agent.adapters.probes.unit import UnitProbe
    from agent.domain.check import Check, CheckResult

_SOCKET_ROOM: Final = 512
"""Pings and connections at once, however many descriptors there are: neighbours that have yet to be
found are not without number either (1,024: net.ipv4.neigh.default.gc_thresh3)."""
_HTTP_ROOM: Final = 100
"""HTTP checks at once; with many more, connections time out in their own crowd."""
_LOOKUP_ROOM: Final = 32
"""DNS checks at once; each takes one of the threads that resolve names for all."""
_PROGRAM_ROOM: Final = 16
"""Programs of checks at once."""
_FILES_KEPT: Final = 192
"""Descriptors left for everything but pings and connections: HTTP checks, programs, files."""


class Probes(Prober):
    """Runs checks of every kind, in one event loop; a context manager."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if "_http" in self.__dict__:
            await self._http.close()

    @override
    async def probe(self, check: Check) -> CheckResult:
        match check:
            case IcmpCheck():
                return await self._icmp.probe(check)
            case HttpCheck():
                return await self._http.probe(check)
            case TcpCheck():
                return await self._tcp.probe(check)
            case DnsCheck():
                return await self._dns.probe(check)
            case UnitCheck():
                return await self._unit.probe(check)
            case CommandCheck():
                return await self._command.probe(check)
            case _:
                assert_never(check)

    @override
    def room_for(self, check: Check) -> AbstractAsyncContextManager[None]:
        # The probe is loaded at once, before the time of this or any other check begins.
        match check:
            case IcmpCheck():
                _ = self._icmp
                return self._socket_room
            case TcpCheck():
                _ = self._tcp
                return self._socket_room
            case HttpCheck():
                self._http.prepare(check)
                return self._http_room
            case DnsCheck():
                _ = self._dns
                return self._lookup_room
            case UnitCheck():
                _ = self._unit
                return self._program_room
            case CommandCheck():
                _ = self._command
                return self._program_room
            case _:
                assert_never(check)

    @cached_property
    def _icmp(self) -> IcmpProbe:
        from agent.adapters.probes.icmp import IcmpProbe  # noqa: PLC0415 - loads icmplib

        return IcmpProbe()

    @cached_property
    def _http(self) -> HttpProbe:
        from agent.adapters.probes.http import HttpProbe  # noqa: PLC0415 - loads httpx

        return HttpProbe()

    @cached_property
    def _tcp(self) -> TcpProbe:
        from agent.adapters.probes.tcp import TcpProbe  # noqa: PLC0415 - rarely needed

        return TcpProbe()

    @cached_property
    def _dns(self) -> DnsProbe:
        from agent.adapters.probes.dns import DnsProbe  # noqa: PLC0415 - rarely needed

        return DnsProbe()

    @cached_property
    def _unit(self) -> UnitProbe:
        from agent.adapters.probes.unit import UnitProbe  # noqa: PLC0415 - rarely needed

        return UnitProbe()

    @cached_property
    def _command(self) -> CommandProbe:
        from agent.adapters.probes.command import CommandProbe  # noqa: PLC0415 - rarely needed

        return CommandProbe()

    @cached_property
    def _socket_room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_free_descriptors())

    @cached_property
    def _http_room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_HTTP_ROOM)

    @cached_property
    def _lookup_room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_LOOKUP_ROOM)

    @cached_property
    def _program_room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_PROGRAM_ROOM)


def _free_descriptors() -> int:
    """Return how many more sockets may be open at once.

    The limit is not raised: children inherit it, and not every program can live with a high one.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone, no paths
    return min(_SOCKET_ROOM, max(16, soft - taken - _FILES_KEPT))
