"""The DNS check: does a name resolve, and to what it should?"""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.adapters.probes.faults import is_about_target
from agent.adapters.probes.resolver import Address, resolve_all, why_unresolved
from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.adapters.probes.address_fallback import Resolve
    from agent.domain.check import DnsCheck

_MAX_TOLD: Final = 4
"""Addresses in a reason; a name may have dozens."""


class DnsProbe:
    """Asks the system's resolver: name servers, `/etc/hosts` and whatever else is configured."""

    def __init__(self, resolve: Resolve = resolve_all) -> None:
        self._resolve = resolve

    async def probe(self, check: DnsCheck) -> CheckResult:
        """Return what came of the check, within its timeout; never raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with WorkingTime(check.timeout.total_seconds()):
                answers = await self._resolve(check.host)
        except TimeoutError:
            reason = f"name does not resolve within {format_seconds(check.timeout)}"
            return CheckResult(check, is_well=False, reason=reason)
        except (OSError, ValueError) as error:
            reason = why_unresolved(error)
            return CheckResult(
                check, is_well=False, reason=reason, is_conclusive=is_about_target(error)
            )
        latency = timedelta(seconds=loop.time() - began)
        reason = _why_wrong(check, answers)
        return CheckResult(check, is_well=not reason, reason=reason, latency=latency)


def _why_wrong(check: DnsCheck, answers: tuple[Address, ...]) -> str:
    if not answers:
        return "name does not resolve"
    found = [answer.text.partition("%")[0] for answer in answers]
    if not check.addresses or _as_addresses(found) & _as_addresses(check.addresses):
        return ""
    return f"resolves to {_listed(found)}, expected {_listed(check.addresses)}"


def _as_addresses(texts: Iterable[str]) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return what is meant, however it is written."""
    return {ipaddress.ip_address(text) for text in texts}


def _listed(addresses: Sequence[str]) -> str:
    shown = ", ".join(addresses[:_MAX_TOLD])
    return f"{shown} and {len(addresses) - _MAX_TOLD} more" if addresses[_MAX_TOLD:] else shown
