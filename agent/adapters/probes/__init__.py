"""Health probes: one module per kind of check, loaded only where there is such a check."""

from __future__ import annotations

import asyncio
import os
import resource
from functools import cached_property
from typing import TYPE_CHECKING, Final, assert_never

from agent.domain.check import HttpCheck, IcmpCheck

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from agent.adapters.probes.http import HttpProbe
    from agent.adapters.probes.icmp import IcmpProbe
    from agent.domain.check import Check, CheckResult

_HTTP_ROOM: Final = 100
"""HTTP checks at once; with many more, connections time out in their own crowd."""
_FILES_KEPT: Final = 192
"""Descriptors left for everything but pings: HTTP checks, programs, files."""


class Probes:
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

    async def probe(self, check: Check) -> CheckResult:
        """Return what came of one check, within its timeout; never raises."""
        match check:
            case IcmpCheck():
                return await self._icmp.probe(check)
            case HttpCheck():
                return await self._http.probe(check)
            case _:
                assert_never(check)

    def room_for(self, check: Check) -> AbstractAsyncContextManager[None]:
        """Wait for room to run `check`: it needs a socket, and they are not without number."""
        match check:
            case IcmpCheck():
                return self._icmp_room
            case HttpCheck():
                return self._http_room
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
    def _icmp_room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_free_descriptors())

    @cached_property
    def _http_room(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_HTTP_ROOM)


def _free_descriptors() -> int:
    """Return how many more sockets may be open.

    The limit is not raised: children inherit it, and not every program can live with a high one.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone, no paths
    return max(16, soft - taken - _FILES_KEPT)
