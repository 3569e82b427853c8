"""Tries the addresses of a host, one after the other, within a check's timeout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.checks.faults import is_about_target
from agent.checks.resolver import Address, why_unresolved
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.checks.tcp import TcpCheck
    from agent.domain.check import IcmpCheck

    Resolve = Callable[[str], Awaitable[tuple[Address, ...]]]
    Ask = Callable[[Address, float], Awaitable[tuple[CheckResult, bool]]]
    """Checks one address within so many seconds; says whether its result is final."""


async def ask_in_turn(check: IcmpCheck | TcpCheck, resolve: Resolve, ask: Ask) -> CheckResult:
    """Return the first final result; each address gets a share of the time.

    It is inconclusive only if no address could be checked. Never raises.
    """
    loop = asyncio.get_running_loop()
    left = check.timeout.total_seconds()
    try:
        async with WorkingTime(left) as time:
            addresses = await resolve(check.host)
            left -= time.used
    except TimeoutError:
        reason = f"name does not resolve within {format_seconds(check.timeout)}"
        return CheckResult(check, is_well=False, reason=reason)
    except (OSError, ValueError) as error:
        return CheckResult(
            check,
            is_well=False,
            reason=why_unresolved(error),
            is_conclusive=is_about_target(error),
        )
    results: dict[str, CheckResult] = {}
    for turn, address in enumerate(addresses):
        share = left / (len(addresses) - turn)
        began = loop.time()
        result, is_answer = await ask(address, share)
        left -= min(loop.time() - began, share)
        if is_answer:
            return result
        results[address.text] = result
    return CheckResult(
        check,
        is_well=False,
        reason=_joined({address: result.reason for address, result in results.items()}),
        is_conclusive=not results or any(result.is_conclusive for result in results.values()),
    )


def _joined(reasons: dict[str, str]) -> str:
    """Return the human-readable reason; a reason that all addresses share is given once."""
    if len(set(reasons.values())) > 1:
        return "; ".join(f"{address}: {reason}" for address, reason in reasons.items())
    return next(iter(reasons.values()), "name does not resolve")
