"""The TCP check: does a port accept connections?"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.checks.address_fallback import ask_in_turn
from agent.checks.check_type import Probe, Room
from agent.checks.faults import is_about_target
from agent.checks.resolver import Address, resolve
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from agent.checks.address_fallback import Resolve
    from agent.checks.tcp import TcpCheck


class TcpProbe(Probe["TcpCheck"]):
    """Opens a connection and closes it.

    The first address from the resolver is tried; if it does not accept, the first address of the
    other family is tried within the timeout.
    """

    room = Room.SOCKETS

    def __init__(self, resolve: Resolve = resolve) -> None:
        self._resolve = resolve

    @override
    async def probe(self, check: TcpCheck) -> CheckResult:

        async def ask(address: Address, within: float) -> tuple[CheckResult, bool]:
            result = await _ask(check, address, within)
            return result, result.is_well

        return await ask_in_turn(check, self._resolve, ask)


async def _ask(check: TcpCheck, address: Address, within: float) -> CheckResult:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with WorkingTime(within):
            await _connect(address, check.port)
    except TimeoutError:  # ours, or the kernel's (ETIMEDOUT), which may give up earlier
        reason = f"no answer within {format_seconds(check.timeout)}"
        return CheckResult(check, is_well=False, reason=reason)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        return CheckResult(
            check, is_well=False, reason=reason, is_conclusive=is_about_target(error)
        )
    return CheckResult(check, is_well=True, latency=timedelta(seconds=loop.time() - began))


async def _connect(address: Address, port: int) -> None:
    """Open a connection and close it.

    Raises:
        OSError: it is not accepted, or no socket can be opened.
    """
    with socket.socket(address.family, socket.SOCK_STREAM) as connection:
        connection.settimeout(0)
        host, _, *scope = address.sockaddr
        await asyncio.get_running_loop().sock_connect(connection, (host, port, *scope))
        if connection.getsockname() == connection.getpeername():
            # Nothing listens, and the kernel has chosen the same port as the source port: TCP
            # lets it connect to itself.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


PROBE: Final = TcpProbe
