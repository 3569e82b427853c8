"""The ICMP check: is a host there?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from agent.adapters.probes.echo import Echo, why_unsent
from agent.adapters.probes.names import Address, resolve, why_unresolved
from agent.application.check import in_seconds
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.domain.check import IcmpCheck

    Resolve = Callable[[str], Awaitable[tuple[Address, ...]]]


class IcmpProbe:
    """Asks a host by ICMP echo.

    Of a name's addresses the resolver's first is asked; where nothing can be sent to it, or it
    gives no reply at all, the first address of the other family has its turn within the time.
    """

    def __init__(self, resolve: Resolve = resolve) -> None:
        self._resolve = resolve

    async def probe(self, check: IcmpCheck) -> CheckResult:
        """Return what came of the check, within its timeout; never raises."""
        ends = asyncio.get_running_loop().time() + check.timeout.total_seconds()
        try:
            async with asyncio.timeout_at(ends):
                addresses = await self._resolve(check.host)
        except TimeoutError:
            reason = f"name does not resolve within {in_seconds(check.timeout)}"
            return CheckResult(check, is_well=False, reason=reason)
        except (OSError, ValueError) as error:
            return CheckResult(check, is_well=False, reason=why_unresolved(error))
        return await _ask_in_turn(check, addresses, ends)


async def _ask_in_turn(
    check: IcmpCheck, addresses: tuple[Address, ...], ends: float
) -> CheckResult:
    """Ask one address after the other until one gives a reply, good enough or not."""
    loop = asyncio.get_running_loop()
    reasons: dict[str, str] = {}
    for turn, address in enumerate(addresses):
        now = loop.time()
        result, was_heard = await _ask(check, address, now + (ends - now) / (len(addresses) - turn))
        if was_heard:
            return result
        reasons[address.text] = result.reason
    if len(set(reasons.values())) > 1:
        reason = "; ".join(f"{address}: {reason}" for address, reason in reasons.items())
    else:
        reason = next(iter(reasons.values()), "name does not resolve")
    return CheckResult(check, is_well=False, reason=reason)


async def _ask(check: IcmpCheck, address: Address, until: float) -> tuple[CheckResult, bool]:
    """Return what one address says, and whether it said anything."""
    try:
        with Echo(address, count=check.count, required=check.required_replies) as echo:
            await echo.converse(until)
    except OSError as error:
        return CheckResult(check, is_well=False, reason=why_unsent(error)), False
    latency = None if echo.latency is None else timedelta(seconds=echo.latency)
    if echo.has_enough:
        return CheckResult(check, is_well=True, latency=latency), True
    if echo.replies:
        reason = f"{echo.replies} of {check.count} replies, {check.required_replies} required"
    elif echo.fault is not None:
        reason = why_unsent(echo.fault)
    else:
        reason = f"no reply (0 of {check.count})"
    return CheckResult(check, is_well=False, reason=reason, latency=latency), echo.replies > 0
