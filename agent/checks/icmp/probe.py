"""The ICMP check: does a host answer?"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.checks.address_fallback import ask_in_turn
from agent.checks.check_type import Probe, Room
from agent.checks.faults import is_about_target
from agent.checks.icmp.echo import Echo, SocketRefusedError, why_unsent
from agent.checks.resolver import Address, resolve
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from agent.checks.address_fallback import Resolve
    from agent.domain.check import IcmpCheck


class IcmpProbe(Probe["IcmpCheck"]):
    """Pings a host.

    The first address from the resolver is pinged; if nothing can be sent to it, or it does not
    reply at all, the first address of the other family is tried within the timeout.
    """

    room = Room.SOCKETS

    def __init__(self, resolve: Resolve = resolve) -> None:
        self._resolve = resolve

    @override
    async def probe(self, check: IcmpCheck) -> CheckResult:

        async def ask(address: Address, within: float) -> tuple[CheckResult, bool]:
            return await _ask(check, address, within)

        return await ask_in_turn(check, self._resolve, ask)


async def _ask(check: IcmpCheck, address: Address, within: float) -> tuple[CheckResult, bool]:
    """Return the result for one address, and whether it replied."""
    try:
        with Echo(address, count=check.count, required=check.required_replies) as echo:
            await echo.converse(within)
    except OSError as error:
        return _unsent(check, error), False
    latency = None if echo.latency is None else timedelta(seconds=echo.latency)
    if echo.has_enough:
        return CheckResult(check, is_well=True, latency=latency), True
    if echo.replies:
        reason = f"{echo.replies} of {check.count} replies, {check.required_replies} required"
        return CheckResult(check, is_well=False, reason=reason, latency=latency), True
    if echo.fault is not None:
        return _unsent(check, echo.fault), False
    return CheckResult(check, is_well=False, reason=f"no reply (0 of {check.count})"), False


def _unsent(check: IcmpCheck, fault: OSError) -> CheckResult:
    return CheckResult(
        check,
        is_well=False,
        reason=why_unsent(fault),
        is_conclusive=is_about_target(fault) and not isinstance(fault, SocketRefusedError),
    )


PROBE: Final = IcmpProbe
