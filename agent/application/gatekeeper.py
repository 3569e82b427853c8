"""Asks the gates about a candidate, cheap and local ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.check import run_checks
from agent.domain.errors import AgentError
from agent.domain.gates import (
    Foreign,
    Gate,
    Judgement,
    judge_boot_space,
    judge_booted,
    judge_clock,
    judge_denied,
    judge_downgrade,
    judge_foreign,
    judge_health,
    judge_host_upgrade,
    judge_paused,
    judge_store_space,
    judge_suspect,
    judge_window,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from agent.application.ports import Ports
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.policy import Policy
    from agent.domain.systems import Systems


async def ask_gates(run: Run, candidate: Candidate, *, every: bool) -> list[Judgement]:
    """Return what the gates say, up to the first that holds, or of `every` one.

    With `every`, a gate that cannot be asked is held with the fault as its reason; otherwise the
    fault is raised. The gate `agent-removed` is asked once the candidate is in the store,
    `host-upgrade` only for a home, and those about booting only for what is booted.
    """
    ports, policy = run.ports, run.policy
    now = ports.clock.now()
    questions: tuple[tuple[Gate, Callable[[], Awaitable[Judgement | None]]], ...] = (
        (Gate.PAUSED, lambda: _paused(ports, now)),
        (Gate.HOST_UPGRADE, lambda: ask_host_upgrade(ports)),
        (Gate.BOOTED_UNEXPECTED, lambda: _booted(ports, policy, now)),
        (Gate.FOREIGN_SYSTEM, lambda: _foreign(ports, policy, now)),
        (Gate.DENIED, lambda: _denied(ports, candidate, now)),
        (Gate.SUSPECT, lambda: _suspect(ports, candidate, now)),
        (Gate.DOWNGRADE, lambda: _downgrade(ports, candidate)),
        (Gate.WINDOW, lambda: _window(policy, now)),
        (Gate.CLOCK, lambda: _clock(ports, policy)),
        (Gate.BOOT_SPACE, lambda: _boot_space(ports, policy)),
        (Gate.STORE_SPACE, lambda: _store_space(ports, policy, candidate)),
        (Gate.HEALTH, lambda: ask_health(ports, policy)),
    )
    judgements = []
    for gate, ask in questions:
        try:
            judgement = await ask()
        except AgentError as fault:
            if not every:
                raise
            judgement = Judgement(gate, is_open=False, reason=str(fault))
        if judgement is None:
            continue
        judgement = pass_by_hand(run, judgement)
        event = events.GATE_PASSED if judgement.is_open else events.GATE_HELD
        ports.sink.emit(event, gate=judgement.gate, reason=judgement.reason)
        judgements.append(judgement)
        if not judgement.is_open and not every:
            break
    return judgements


def pass_by_hand(run: Run, judgement: Judgement) -> Judgement:
    """Open a gate that the person who started this run ignores."""
    settings = run.settings
    if judgement.is_open or judgement.gate not in settings.ignored_gates:
        return judgement
    run.ports.sink.emit(
        events.GATE_IGNORED,
        gate=judgement.gate,
        reason=judgement.reason,
        given_reason=settings.ignored_because,
    )
    told = f"ignored by {settings.by} ({settings.ignored_because}): {judgement.reason}"
    return Judgement(judgement.gate, is_open=True, reason=told)


def find_foreign(ports: Ports) -> Foreign | None:
    """Return the system that somebody else has brought here, None where the agent knows all.

    Before the agent has marked anything there is nothing to compare with.
    """
    marks, systems = ports.marks.read(), ports.host.systems()
    if not marks.known:
        return None
    known = {path for mark in marks.known for path in ports.host.equivalents(mark)}
    if systems.booted is not None and marks.staged is not None and marks.staged == marks.confirmed:
        # It lost its power while it was confirmed, and has booted the one confirmed before.
        known.add(systems.booted)
    for what, path in (("running system", systems.running), ("profile", systems.profile)):
        if path is not None and path not in known:
            return Foreign(what, path, ports.host.changed_at() or ports.clock.now())
    return None


def find_unexpected(ports: Ports, systems: Systems) -> Foreign | None:
    """Return the booted system, if it runs and is neither the profile's nor to be left for it."""
    marks = ports.marks.read()
    booted, profile = systems.booted, systems.profile
    if booted is None or profile is None or booted != systems.running:
        return None
    if profile == marks.staged or booted in ports.host.equivalents(profile):
        return None
    since, changed = ports.host.booted_at(), ports.host.changed_at()
    if since is None or (changed is not None and changed > since):
        return None  # the profile has moved after the boot
    return Foreign("booted system", booted, since)


async def ask_health(ports: Ports, policy: Policy) -> Judgement:
    """Run the health checks and judge them."""
    results = await run_checks(ports.prober, policy.checks, policy.health_deadline, ports.sink)
    return judge_health(results)


async def _foreign(ports: Ports, policy: Policy, now: datetime) -> Judgement:
    return judge_foreign(find_foreign(ports), now, policy)


async def _denied(ports: Ports, candidate: Candidate, now: datetime) -> Judgement:
    return judge_denied(ports.journal.standing_of(candidate.toplevel, now))


async def _suspect(ports: Ports, candidate: Candidate, now: datetime) -> Judgement:
    return judge_suspect(ports.journal.standing_of(candidate.toplevel, now), now)


async def _paused(ports: Ports, now: datetime) -> Judgement:
    return judge_paused(ports.agenda.pause(now))


async def ask_host_upgrade(ports: Ports) -> Judgement | None:
    """Ask whether the host's own upgrade lets a home's go on; None for a host."""
    if not ports.systemd.has_host_below:
        return None
    return judge_host_upgrade(is_at_work=await ports.systemd.is_host_upgrading())


async def _booted(ports: Ports, policy: Policy, now: datetime) -> Judgement | None:
    systems = ports.host.systems()
    if systems.booted is None:
        return None
    return judge_booted(find_unexpected(ports, systems), now, policy)


async def _window(policy: Policy, now: datetime) -> Judgement:
    return judge_window(now, policy)


async def _downgrade(ports: Ports, candidate: Candidate) -> Judgement:
    return judge_downgrade(candidate, ports.journal.highest_build(candidate.job))


async def _clock(ports: Ports, policy: Policy) -> Judgement:
    is_asked = bool(policy.upgrade_schedule.windows)
    is_synchronised = await ports.systemd.is_clock_synchronised() if is_asked else None
    return judge_clock(is_synchronised=is_synchronised, policy=policy)


async def _boot_space(ports: Ports, policy: Policy) -> Judgement | None:
    free = ports.host.free_space().boot
    return None if free is None else judge_boot_space(free, policy)


async def _store_space(ports: Ports, policy: Policy, candidate: Candidate) -> Judgement:
    plan = await ports.nix.plan_fetch(candidate.toplevel)
    return judge_store_space(plan, ports.host.free_space(), policy)
