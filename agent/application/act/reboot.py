"""The reboot that completes an upgrade: now, later, or not by the agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from agent.application import events
from agent.application.act.specialisation import start_by_default
from agent.application.act.try_boot import try_once
from agent.application.facts.ask_gates import apply_override, earliest, find_held
from agent.application.facts.foreign import find_intervention
from agent.application.facts.specialisations import wanted_specialisation
from agent.application.facts.stage_facts import StageFacts
from agent.application.report import error_fields
from agent.domain import states
from agent.domain.errors import AgentError, JournalError
from agent.domain.gate import Judgement, Stage, plan_after
from agent.domain.gates import health, registered, specialisation_lost
from agent.domain.policy import Action
from agent.domain.reboot import RebootPlan
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent.application.ports import HostPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.confirmation import Baseline, Reason
    from agent.domain.reboot import RebootConditions
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

_SOON: Final = timedelta(seconds=1)


class World(Protocol):
    """What the side that talks to the world answers before a reboot, whenever it is asked."""

    async def find_held(self) -> Judgement | None:
        """Return the gate that holds by what the world says now."""

    async def take_baseline(self) -> Baseline:
        """Return how things are."""


@dataclass(frozen=True, slots=True)
class Rebooting:
    """The reboot was asked for, and the end of this process comes with it."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The system stays staged: a gate holds the reboot."""

    held: Judgement
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Reboot:
    """One reboot: into what, why, and how the host was when it was decided on."""

    toplevel: StorePath
    reason: str
    facts: StageFacts
    seen: Systems
    world: World

    def waiting(self, held: Judgement) -> Waiting:
        """Return what holds it, beside why it is needed."""
        return Waiting(held, (("reboot", self.reason), (held.gate, held.reason)))


async def _in_the_way(run: Run, wanted: _Reboot) -> Waiting | None:
    """Return what keeps the host from its reboot now, if anything; see that it is tried again."""
    ports, facts = run.ports, wanted.facts
    facts.forget()
    held = await find_held(facts, ask_world=wanted.world.find_held)
    if held is not None and registered()[held.gate].postpones:
        await _postpone(run, held, await facts.reboot_conditions(), wanted.reason)
        return wanted.waiting(held)
    if held is None:
        held = await _find_intervention(ports, wanted.seen)
    if held is None:
        return None
    if held.opens_at is not None:
        await wake(run, held.opens_at)
    ports.sink.emit(events.GATE_HELD, gate=held.gate, reason=held.reason)
    why = "its health checks fail" if held.gate == health.GATE.name else held.reason
    await cancel_announced(ports, wanted.toplevel, why)
    return wanted.waiting(held)


async def _find_intervention(ports: HostPorts, seen: Systems) -> Judgement | None:
    found = await find_intervention(ports, seen)
    return None if found is None else Judgement(found[0], is_open=False, reason=found[1])


async def _postpone(run: Run, held: Judgement, seen: RebootConditions, reason: str) -> None:
    """Remember what waits, warn those who are logged in, and come again."""
    ports, plan = run.ports, plan_after(registered()[held.gate], held, seen.plan)
    ports.sink.emit(
        events.REBOOT_POSTPONED,
        toplevel=plan.toplevel,
        obstacle=held.gate,
        reason=held.reason,
        until=held.opens_at and held.opens_at.isoformat(),
    )
    ports.journal.set_reboot_plan(plan)
    if plan.announced_for not in (None, seen.plan.announced_for):
        at = format_instant(plan.announced_for)
        await ports.logind.notify_users(
            f"{run.policy.host} reboots at {at} to complete an upgrade ({reason})."
            " `agent pause --reason TEXT` keeps it from that."
        )
    if held.opens_at is not None:
        await wake(run, held.opens_at)


async def schedule_retry(run: Run, held: Sequence[Judgement]) -> None:
    """Let the next run begin at the earliest moment at which the gates that hold may be open.

    Raises:
        AgentError: one of them has held for too long.
    """
    at = earliest(held)
    if at is not None:
        await wake(run, at)
    for one in held:
        refuse_to_wait(run, one)


def refuse_to_wait(run: Run, held: Judgement) -> None:
    """End a run that a gate has held for too long.

    Raises:
        AgentError: it has.
    """
    if held.overdue is not None:
        run.ports.sink.emit(events.GATE_OVERDUE, gate=held.gate, reason=held.reason)
        raise held.overdue


async def wake(run: Run, at: datetime) -> None:
    """Let the next run begin at `at`, and not only when its timer says so."""
    ports = run.ports
    at = max(at, ports.clock.now() + _SOON)
    ports.sink.emit(events.RUN_SCHEDULED, at=at.isoformat())
    await ports.systemd.wake(at)


async def reboot(
    run: Run,
    toplevel: StorePath,
    reason: str,
    candidate: Candidate | None,
    seen: Systems,
    *,
    world: World,
) -> Rebooting | Waiting:
    """Record the reboot, leave the loader a way back, then ask for it; or say what is in its way.

    All is asked once more when everything is ready, which may take minutes. A refusal, and what
    came in its way meanwhile, leave the system staged: the next run tries the reboot again, and
    nothing else. `seen` is how the host was when the reboot was decided on; `candidate` is None
    where an administrator asks for it.
    """
    run.summary.add(reasons=(("reboot", reason),))
    facts = StageFacts(run, Stage.BEFORE_REBOOT, toplevel, candidate)
    wanted = _Reboot(toplevel, reason, facts, seen, world)
    waiting = await _in_the_way(run, wanted)
    if waiting is not None:
        return waiting
    change = await _prepare(run, toplevel, world)
    run.record = replace(run.record, state=states.Staged(change))
    if not await try_once(run, toplevel) and (lost := await _would_lose(run, toplevel)):
        return wanted.waiting(lost)
    try:
        waiting = await _in_the_way(run, wanted)
        if waiting is None:
            # After the loader knows: a power failure in between is no reboot that did not help.
            run.commit(states.Rebooting(change))
            await _ask_for_it(run, reason, await facts.reboot_conditions())
            return Rebooting((("reboot", reason),))
    except AgentError:
        run.record = replace(run.record, state=states.Staged(change))
        await run.ports.loader.forget_once()
        raise
    # A reboot for any other reason now brings up what has proved healthy.
    await run.ports.loader.forget_once()
    return waiting


async def _would_lose(run: Run, toplevel: StorePath) -> Judgement | None:
    """Return what holds a reboot that would not be into the specialisation which is to run."""
    gate, name = specialisation_lost.GATE.name, wanted_specialisation(run)
    if name is None or name not in run.ports.host.specialisations(toplevel):
        return None  # none is to run, or an administrator has dropped it
    if await start_by_default(run.ports, toplevel, name):
        return None
    reason = f"the boot loader would not start the specialisation {name!r} of {toplevel}"
    judgement = apply_override(run, Judgement(gate, is_open=False, reason=reason))
    if judgement.is_open:
        return None
    run.ports.sink.emit(events.GATE_HELD, gate=gate, reason=reason)
    return judgement


async def _ask_for_it(run: Run, reason: str, seen: RebootConditions) -> None:
    """Ask for the reboot; it passes only those who were respected long enough, and nobody new."""
    ports = run.ports
    inhibitors = await ports.logind.inhibitors() if seen.is_inhibited else ()
    ports.sink.emit(
        events.REBOOT_REQUESTED,
        reason=reason,
        inhibitors=[f"{one.who}: {one.why}" for one in inhibitors or ()],
    )
    await ports.logind.notify_users(
        f"{run.policy.host} reboots now to complete an upgrade ({reason})."
    )
    try:
        await ports.host.reboot(forced=seen.is_inhibited)
    except asyncio.CancelledError:
        return  # the end that this run has asked for comes with the reboot


async def _prepare(run: Run, toplevel: StorePath, world: World) -> states.Change:
    """Return what changes; what an earlier run has left over starts from how things are now."""
    change = states.change_of(run.record.state)
    if change is not None and run.record.baseline is not None:
        return change
    systems = run.ports.host.systems()
    with run.step("baseline"):
        baseline = await world.take_baseline()
    change = replace(change or states.Change(toplevel), action=Action.BOOT, baseline=baseline)
    return replace(change, previous=systems.running, boot_id=systems.boot_id)


async def cancel_announced(ports: HostPorts, toplevel: StorePath, why: str) -> None:
    """Tell the users who are logged in that an announced reboot is cancelled, if one was."""
    try:
        plan = ports.journal.reboot_plan(toplevel)
        if plan.announced_for is None or plan.announced_for < ports.clock.now():
            return
        ports.journal.set_reboot_plan(RebootPlan(toplevel))
    except JournalError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return
    ports.sink.emit(events.REBOOT_CANCELLED, toplevel=toplevel, reason=why)
    await ports.logind.notify_users(f"The announced reboot is not done yet: {why}.")
