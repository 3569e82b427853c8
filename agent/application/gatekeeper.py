"""Asks the gates about a candidate, cheap and local ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.check import run_checks
from agent.domain.errors import AgentError
from agent.domain.gates import (
    Gate,
    Judgement,
    judge_boot_space,
    judge_downgrade,
    judge_health,
    judge_store_space,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.application.ports import Ports
    from agent.domain.candidate import Candidate
    from agent.domain.policy import Policy


async def ask_gates(
    ports: Ports, policy: Policy, candidate: Candidate, *, every: bool
) -> list[Judgement]:
    """Return what the gates say, up to the first that holds, or of `every` one.

    With `every`, a gate that cannot be asked is held with the fault as its reason; otherwise the
    fault is raised.
    """
    questions: tuple[tuple[Gate, Callable[[], Awaitable[Judgement]]], ...] = (
        (Gate.DOWNGRADE, lambda: _downgrade(ports, candidate)),
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
        event = events.GATE_PASSED if judgement.is_open else events.GATE_HELD
        ports.sink.emit(event, gate=judgement.gate, reason=judgement.reason)
        judgements.append(judgement)
        if not judgement.is_open and not every:
            break
    return judgements


async def ask_health(ports: Ports, policy: Policy) -> Judgement:
    """Run the health checks and judge them."""
    results = await run_checks(ports.prober, policy.checks, policy.health_deadline, ports.sink)
    return judge_health(results)


async def _downgrade(ports: Ports, candidate: Candidate) -> Judgement:
    return judge_downgrade(candidate, ports.journal.highest_build(candidate.job))


async def _boot_space(ports: Ports, policy: Policy) -> Judgement:
    return judge_boot_space(ports.host.free_space(), policy)


async def _store_space(ports: Ports, policy: Policy, candidate: Candidate) -> Judgement:
    plan = await ports.nix.plan_fetch(candidate.toplevel)
    return judge_store_space(plan, ports.host.free_space(), policy)
