"""The DNS check: does a name resolve, and to what it should?"""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.checks.check_type import Probe, Room
from agent.checks.faults import is_about_target
from agent.checks.resolver import Address, resolve_all, why_unresolved
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.checks.address_fallback import Resolve
    from agent.checks.dns import DnsCheck

_MAX_TOLD: Final = 4
"""Addresses in a reason; a name may have dozens."""


class DnsProbe(Probe["DnsCheck"]):
    """Uses the system's resolver: name servers, `/etc/hosts` and whatever else is configured."""

    room = Room.LOOKUPS

    def __init__(self, resolve: Resolve = resolve_all) -> None:
        self._resolve = resolve

    @override
    async def probe(self, check: DnsCheck) -> CheckResult:
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
    """Return addresses in a normal form."""
    return {ipaddress.ip_address(text) for text in texts}


def _listed(addresses: Sequence[str]) -> str:
    shown = ", ".join(addresses[:_MAX_TOLD])
    return f"{shown} and {len(addresses) - _MAX_TOLD} more" if addresses[_MAX_TOLD:] else shown


PROBE: Final = DnsProbe
