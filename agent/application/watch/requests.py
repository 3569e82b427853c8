"""What the part that talks to the world asks of the part that changes the host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application.facts.ask_gates import ask_again
from agent.application.facts.own_settings import own_policy
from agent.application.facts.take_findings import take_baseline
from agent.domain.confirmation import Baseline
from agent.domain.gate import Judgement, Stage
from agent.domain.policy import Action
from agent.domain.request import Activate, Envelope, Fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.ports import WatchPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


def fetch_request(run: Run[WatchPorts], candidate: Candidate, decision: str) -> Fetch:
    """Return the request to bring a candidate into the store."""
    return Fetch(
        envelope=_envelope(run),
        candidate=candidate,
        action=run.policy.action,
        decision=decision,
        started_at=run.record.started_at,
        ignored=run.record.ignored_gates,
    )


async def activate_request(
    run: Run[WatchPorts],
    candidate: Candidate,
    toplevel: StorePath,
    seen: Systems,
    judgements: Sequence[Judgement],
    *,
    is_switch_refused: bool = False,
) -> Activate | Judgement:
    """Return the request to activate what was fetched, or the gate that holds by now.

    Fetching and building may have taken hours: what the world says is asked again, and how things
    are before the activation is noted. `judgements` are what led to it, `seen` is the host that it
    was decided on.
    """
    baseline = await _take_baseline(run, toplevel)
    aside = replace(run, record=replace(run.record, ignored_gates=()))
    with run.step("recheck"):
        held = await ask_again(aside, Stage.BEFORE_ACTIVATION, toplevel, candidate, is_world=True)
    if held is not None:
        return held
    return Activate(
        envelope=_envelope(run),
        candidate=candidate,
        toplevel=toplevel,
        action=run.policy.action,
        reasons=tuple(f"{judgement.gate}: {judgement.reason}" for judgement in judgements),
        running=seen.running,
        profile=seen.profile,
        baseline=baseline.serialise(),
        ignored=aside.record.ignored_gates,
        is_switch_refused=is_switch_refused,
    )


async def _take_baseline(run: Run[WatchPorts], toplevel: StorePath) -> Baseline:
    """Return how things are, as the settings of `toplevel` and the agent's own will ask."""
    if run.policy.action is Action.DRY_ACTIVATE:
        return Baseline()
    with run.step("baseline"):
        policy = own_policy(run, toplevel)
        return await take_baseline(run.ports, policy, run.policy.confirm)


def _envelope(run: Run[WatchPorts]) -> Envelope:
    return Envelope(run.settings.run_id, run.policy.host, run.ports.clock.now())
