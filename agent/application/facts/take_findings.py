"""Looks at what confirmation stands on: checks, units, Hydra, the world outside, the clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agent.application import events
from agent.application.facts.run_checks import run_checks
from agent.domain.check import HttpCheck, IcmpCheck, StatusRange, UnitCheck
from agent.domain.confirmation import Baseline, Findings, touched_among

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.ports import FactPorts, ProbePorts
    from agent.domain.check import Check, CheckResult
    from agent.domain.policy import ConfirmPolicy, Policy

_ANY_STATUS: Final = (StatusRange(100, 599),)
_TIMEOUT: Final = timedelta(seconds=5)
_SLACK: Final = timedelta(seconds=1)


async def take_baseline(
    ports: ProbePorts, policy: Policy, own: ConfirmPolicy | None = None
) -> Baseline:
    """Return how things are before an activation.

    All is asked that `policy` or `own`, the settings of the agent that activates, will ask: where
    the latter cannot read all that the system says of its confirmation, its own may be asked again.
    A check that comes with the system, and fails before, proves nothing: what it is about may come
    with the system, too.
    """
    wanted = policy.confirm if own is None else asked_by_both(policy.confirm, own)
    everything = replace(policy, confirm=wanted)
    seen = await examine(ports, everything, frozenset(), wanted.deadline)
    known = {check.name for check in (policy.confirm if own is None else own).checks}
    baseline = Baseline(
        checks={
            result.check.name: result.is_well
            for result in seen.checks
            if result.is_conclusive and (result.is_well or result.check.name in known)
        },
        failed_units=seen.failed_units,
        hydra=seen.hydra,
        outside_world=seen.outside_world,
        clock=seen.clock,
    )
    ports.sink.emit(
        events.BASELINE_TAKEN,
        checks=baseline.checks,
        failed_units=None if baseline.failed_units is None else sorted(baseline.failed_units),
        hydra=baseline.hydra,
        control=baseline.outside_world,
    )
    return baseline


def asked_by_both(confirm: ConfirmPolicy, own: ConfirmPolicy) -> ConfirmPolicy:
    """Return `confirm`, asking what `own` asks as well; of checks of one name, its own."""
    checks = {check.name: check for check in (*own.checks, *confirm.checks)}
    return replace(
        confirm,
        checks=tuple(checks.values()),
        asks_hydra=confirm.asks_hydra or own.asks_hydra,
        asks_gateway=confirm.asks_gateway or own.asks_gateway,
    )


async def examine(
    ports: ProbePorts,
    policy: Policy,
    touched_units: frozenset[str],
    within: timedelta = timedelta(0),
) -> Findings:
    """Return how things are now; everything is asked at once.

    Where there are more checks than can be run at a time, the others wait for their turn: until
    `within` is over, or as long as a single one may take if that is longer.
    """
    checks, failed, clock, (hydra, outside_world) = await asyncio.gather(
        _run(ports, policy.confirm.checks, within),
        ports.systemd.failed_units(),
        ports.systemd.is_clock_synchronised(),
        _ask_outside_world(ports, policy, within),
    )
    suspects = touched_among(failed or frozenset(), touched_units)
    timer_jobs = await started_by_timers(ports, policy, suspects)
    return Findings(
        checks=checks,
        failed_units=failed,
        touched_units=touched_units,
        timer_jobs=timer_jobs or frozenset(),
        unclear_units=suspects - named_units(policy) if timer_jobs is None else frozenset(),
        hydra=hydra,
        outside_world=outside_world,
        clock=clock,
    )


async def started_by_timers(
    ports: FactPorts, policy: Policy, failed: frozenset[str]
) -> frozenset[str] | None:
    """Return the oneshots among failed units that timers have started, and that no check names.

    None where that is unknown.
    """
    return await ports.systemd.started_by_timers(failed - named_units(policy))


def named_units(policy: Policy) -> frozenset[str]:
    """Return the units that a required check of the confirmation names: their failures count."""
    return frozenset(
        check.unit
        for check in policy.confirm.checks
        if isinstance(check, UnitCheck) and not check.is_wanted
    )


async def _ask_outside_world(
    ports: ProbePorts, policy: Policy, within: timedelta
) -> tuple[bool | None, bool | None]:
    """Return whether Hydra answers, and whether anybody else does; None where it is not asked.

    Any HTTP answer counts: a server that fails is there. A cache that is Hydra itself proves
    nothing beyond Hydra. That nobody else answers is unknown where not all could be asked.
    """
    if not policy.confirm.asks_hydra:
        return None, None
    substituters = policy.substituters or await ports.nix.substituters()
    hydra = HttpCheck("hydra", policy.job.instance, _TIMEOUT, status=_ANY_STATUS)
    controls: list[Check] = [
        HttpCheck(url, f"{url.partition('?')[0].rstrip('/')}/nix-cache-info", _TIMEOUT,
                  status=_ANY_STATUS)
        for url in substituters
        if url.startswith(("http://", "https://")) and not _is_same_server(url, hydra.url)
    ]  # fmt: skip
    if policy.confirm.asks_gateway:
        controls += [
            IcmpCheck(f"gateway {address}", address, _TIMEOUT)
            for address in ports.host.default_gateways()
        ]
    answered, *others = await _run(ports, (hydra, *controls), within)
    is_sure = all(result.is_well or result.is_conclusive for result in (answered, *others))
    return answered.is_well, any(result.is_well for result in others) or (
        False if is_sure else None
    )


def _is_same_server(url: str, other: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(other)[:2]


async def _run(
    ports: ProbePorts, checks: Sequence[Check], within: timedelta
) -> tuple[CheckResult, ...]:
    single = max((check.timeout for check in checks), default=_TIMEOUT) + _SLACK
    return await run_checks(ports.prober, checks, max(within, single), ports.sink)
