"""Asks the gates about a candidate: before anything is done, and again before what lasts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.application import events
from agent.application.facts.stage_facts import StageFacts
from agent.domain.candidate import OF_ONE_BUILD
from agent.domain.errors import AgentError, Kind
from agent.domain.gate import Gate, Judgement, Stage
from agent.domain.gates import asked_at, boot_space, downgrade
from agent.domain.ignored_gate import IgnoredGate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from datetime import datetime

    from agent.application.ports import FactPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.path_record import TakenBuild
    from agent.domain.store_path import StorePath

_ANY: Final = frozenset(Kind)
"""Of faults: whatever keeps a gate from being asked."""


async def ask_gates(
    run: Run[FactPorts],
    candidate: Candidate,
    *,
    every: bool,
    is_newest: bool = True,
    taken: TakenBuild | None = None,
    known: Collection[str] = (),
    clean_boot: Callable[[], Awaitable[bool]] | None = None,
) -> list[Judgement]:
    """Return what the gates that are not `known` say before anything is done.

    They are asked up to the first that holds. Past one that the candidate's own settings may open,
    the others are asked all the same: whether it alone holds is what is to be known. With `every`,
    all are asked, and one that cannot be is held with the fault as its reason, as it is where that
    is about this candidate alone, or about one that is not the newest; otherwise the fault is
    raised. Where `clean_boot` could make room on a boot partition that is full, that gate is asked
    once more. `taken` is the newest build that the host has taken or is on.
    """
    facts = StageFacts(
        run, Stage.CHOOSE, candidate.toplevel, candidate, keeps=not every, taken=taken
    )
    judgements = []
    for gate in asked_at(Stage.CHOOSE):
        if gate.name in known:
            continue
        accepted = _ANY if every else frozenset[Kind]()
        if gate.is_of_candidate:
            accepted = OF_ONE_BUILD if is_newest and not every else _ANY
        judgement = await _ask(facts, gate, accepted)
        if judgement is None:
            continue
        if gate is boot_space.GATE and clean_boot is not None and not judgement.is_open:
            judgement = await _cleaned(facts, judgement, clean_boot)
        event = events.GATE_PASSED if judgement.is_open else events.GATE_HELD
        run.ports.sink.emit(event, gate=judgement.gate, reason=judgement.reason)
        judgements.append(judgement)
        if not (judgement.is_open or every or gate.may_open_once_fetched):
            break
    return judgements


async def ask_again(
    run: Run[FactPorts],
    stage: Stage,
    toplevel: StorePath,
    candidate: Candidate | None,
    *,
    is_world: bool | None = None,
) -> Judgement | None:
    """Return the gate that holds at a late stage, None if `toplevel` may go on.

    `is_world` asks only those that ask the world, or only those whose facts are the host's own.
    """
    facts = StageFacts(run, stage, toplevel, candidate)
    judgement = await find_held(facts, is_world=is_world)
    if judgement is not None:
        run.ports.sink.emit(events.GATE_HELD, gate=judgement.gate, reason=judgement.reason)
    return judgement


async def find_held(
    facts: StageFacts,
    *,
    is_world: bool | None = None,
    ask_world: Callable[[], Awaitable[Judgement | None]] | None = None,
) -> Judgement | None:
    """Return the gate that holds at a late stage.

    The gates that take their time are asked first, so that the answers of the others are fresh when
    the effect begins. One that cannot be asked holds: its earlier answer proves nothing any more.
    Those about the moment of a reboot are asked before all others, too, which need not be asked for
    a reboot that waits. Where `ask_world` is given, it says what the gates that ask the world do.
    """
    gates = [gate for gate in asked_at(facts.stage) if is_world in (None, gate.asks_world)][::-1]
    if facts.stage is not Stage.BEFORE_REBOOT:
        return await _first_held(facts, gates, raises=False)
    if held := await find_postponing(facts):
        return held
    if ask_world is not None:
        if held := await ask_world():
            return held
        gates = [gate for gate in gates if not gate.asks_world]
    others = [gate for gate in gates if not gate.postpones]
    if held := await _first_held(facts, others, raises=False):
        return held
    facts.forget()
    return await find_postponing(facts)


async def find_held_by_world(facts: StageFacts) -> Judgement | None:
    """Return the gate that holds at a late stage, of those that ask the world."""
    gates = [gate for gate in asked_at(facts.stage) if gate.asks_world]
    return await _first_held(facts, gates, raises=False)


async def find_postponing(facts: StageFacts) -> Judgement | None:
    """Return the gate that says a reboot is not due.

    Raises:
        AgentError: one cannot be asked.
    """
    gates = [gate for gate in asked_at(facts.stage) if gate.postpones]
    return await _first_held(facts, gates, raises=True)


async def _first_held(
    facts: StageFacts, gates: Sequence[Gate[Any]], *, raises: bool
) -> Judgement | None:
    for gate in gates:
        judgement = await _ask(facts, gate, frozenset() if raises else _ANY)
        if judgement is not None and not judgement.is_open:
            return judgement
    return None


def earliest(held: Sequence[Judgement]) -> datetime | None:
    """Return the earliest moment at which none of them may hold; None if unknown."""
    return max((one.opens_at for one in held if one.opens_at is not None), default=None)


async def _cleaned(
    facts: StageFacts, judgement: Judgement, clean_boot: Callable[[], Awaitable[bool]]
) -> Judgement:
    """Return what `boot-space` says once the running system has cleaned its boot partition."""
    if not await clean_boot():
        return judgement
    facts.forget()
    return await _ask(facts, boot_space.GATE) or judgement


async def _ask(
    facts: StageFacts, gate: Gate[Any], accepted: Collection[Kind] = frozenset()
) -> Judgement | None:
    """Return what a gate says; a fault that is `accepted` holds, and any other is raised."""
    if facts.is_by_hand and not gate.is_asked_by_hand:
        return None
    try:
        known = await gate.facts(facts)
    except AgentError as fault:
        if fault.kind not in accepted:
            raise
        judgement = Judgement(gate.name, is_open=False, reason=str(fault), fault=fault)
    else:
        result = gate.judgement(facts.question(), known)
        if result is None:
            return None
        judgement = result
    return apply_override(facts.run, judgement)


def apply_override(run: Run[FactPorts], judgement: Judgement) -> Judgement:
    """Open a gate that the person who started this run ignores.

    It is in the run's row from then on, and in the history with the next phase or the run's end.
    What is taken past the gate `downgrade` is what later builds are measured by.
    """
    settings = run.settings
    if judgement.is_open or judgement.gate not in settings.ignored_gates:
        return judgement
    by = settings.ignored_by or settings.by
    run.ports.sink.emit(
        events.GATE_IGNORED,
        gate=judgement.gate,
        reason=judgement.reason,
        given_reason=settings.ignored_because,
        by=by,
    )
    passed = IgnoredGate(judgement.gate, by, settings.ignored_because, judgement.reason)
    others = (other for other in run.record.ignored_gates if other.gate != judgement.gate)
    run.record = replace(run.record, ignored_gates=(*others, passed))
    if judgement.gate == downgrade.GATE.name:
        run.record = replace(run.record, sets_measure=True)
    reason = f"ignored by {by} ({settings.ignored_because}): {judgement.reason}"
    return Judgement(judgement.gate, is_open=True, reason=reason)
