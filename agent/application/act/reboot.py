"""The reboot that completes an upgrade: now, later, or not by the agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.application.act.specialisation import start_by_default, wanted_specialisation
from agent.application.act.try_boot import try_once
from agent.application.confirm.take_findings import take_baseline
from agent.application.report import error_fields
from agent.application.watch.ask_gates import apply_override, ask_again, find_intervention
from agent.application.watch.durations import ask_clock
from agent.domain.errors import AgentError, HostError, JournalError
from agent.domain.gates import Gate, Judgement, Stage
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.reboot import (
    Go,
    RebootConditions,
    RebootPlan,
    Wait,
    judge_reboot,
    told_instant,
)

if TYPE_CHECKING:
    from datetime import datetime

    from agent.application.ports import Ports
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

_SOON: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Held:
    """What keeps a host from its reboot that is no obstacle of the reboot's own: a gate."""

    name: str
    reason: str


async def ask_reboot(
    ports: Ports, policy: Policy, toplevel: StorePath, *, keeps: bool = False
) -> Go | Wait:
    """Return whether the host may reboot into the profile's `toplevel` now; changes nothing.

    With `keeps` it is remembered for how long the clock has been without time.

    Raises:
        JournalError: the agenda cannot be read.
    """
    now = ports.clock.now()
    seen = RebootConditions(
        now=now,
        host=policy.host,
        is_clock_synchronised=await _is_clock_right(ports, policy, keeps=keeps),
        pause=ports.agenda.pause(now),
        inhibitors=await ports.logind.inhibitors(),
        people=await ports.logind.people(),
    )
    return judge_reboot(ports.agenda.reboot_plan(toplevel), seen, policy.reboot)


async def _is_clock_right(ports: Ports, policy: Policy, *, keeps: bool) -> bool | None:
    """Ask only where windows rely on it."""
    if not policy.reboot.schedule.windows:
        return None
    return (await ask_clock(ports, keeps=keeps)).is_synchronised


async def _in_the_way(
    run: Run, toplevel: StorePath, reason: str, candidate: Candidate | None, seen: Systems
) -> Go | Wait | Held:
    """Return what keeps the host from its reboot now, if anything; see that it is tried again.

    It is in the report, too, beside `reason`, why the reboot is needed. `seen` is how the host was
    when it was decided on.
    """
    ports = run.ports
    verdict = await ask_reboot(ports, run.policy, toplevel, keeps=True)
    if isinstance(verdict, Wait):
        await _postpone(run, verdict, toplevel, reason)
        return verdict
    judgement = await ask_again(run, Stage.BEFORE_REBOOT, toplevel, candidate)
    held = (judgement.gate, judgement.reason) if judgement else await find_intervention(ports, seen)
    if held is None:
        return verdict
    name, sentence = held
    run.report.reasons = (("reboot", reason), held)
    why = "its health checks fail" if name == Gate.HEALTH else sentence
    await cancel_announced(ports, toplevel, why)
    return Held(name, sentence)


async def _postpone(run: Run, verdict: Wait, toplevel: StorePath, reason: str) -> None:
    ports = run.ports
    ports.sink.emit(
        events.REBOOT_POSTPONED,
        toplevel=toplevel,
        obstacle=verdict.obstacle,
        reason=verdict.reason,
        until=verdict.until and verdict.until.isoformat(),
    )
    ports.agenda.set_reboot_plan(verdict.plan)
    if verdict.announces:
        at = told_instant(verdict.plan.announced_for)
        await ports.logind.tell_people(
            f"{run.policy.host} reboots at {at} to complete an upgrade ({reason})."
            " `agent pause --reason TEXT` keeps it from that."
        )
    if verdict.until is not None:
        await wake(run, verdict.until)
    run.report.reasons = (("reboot", reason), (verdict.obstacle, verdict.reason))


async def wake(run: Run, at: datetime) -> None:
    """Let the next run begin at `at`, and not only when its timer says so."""
    ports = run.ports
    at = max(at, ports.clock.now() + _SOON)
    ports.sink.emit(events.RUN_SCHEDULED, at=at.isoformat())
    await ports.systemd.wake(at)


async def reboot(
    run: Run, toplevel: StorePath, reason: str, candidate: Candidate | None, seen: Systems
) -> Wait | Held | None:
    """Record the reboot, leave the loader a way back, then ask for it; return what is in its way.

    All is asked once more when everything is ready, which may take minutes. A refusal, and what
    came in its way meanwhile, leave the system staged: the next run tries the reboot again, and
    nothing else. `seen` is how the host was when the reboot was decided on; `candidate` is None
    where a person asks for it.
    """
    way = await _in_the_way(run, toplevel, reason, candidate, seen)
    if not isinstance(way, Go):
        return way
    await _prepare(run, toplevel)
    run.record = replace(run.record, outcome=Outcome.STAGED)
    if not await try_once(run, toplevel) and (lost := await _would_lose(run, toplevel)):
        run.report.reasons = (("reboot", reason), (lost.name, lost.reason))
        return lost
    try:
        way = await _in_the_way(run, toplevel, reason, candidate, seen)
        if isinstance(way, Go):
            # After the loader knows: a power failure in between is no reboot that did not help.
            run.note(Outcome.REBOOTING)
            await _ask_for_it(run, reason, way)
            return None
    except AgentError:
        await run.ports.loader.forget_once()
        raise
    # A reboot for any other reason now brings up what has proved healthy.
    await run.ports.loader.forget_once()
    return way


async def _would_lose(run: Run, toplevel: StorePath) -> Held | None:
    """Return what holds a reboot that would not be into the specialisation which is to run."""
    gate, name = Gate.SPECIALISATION_LOST, wanted_specialisation(run)
    if name is None or name not in run.ports.host.specialisations(toplevel):
        return None  # none is to run, or a person has let it go
    if await start_by_default(run.ports, toplevel, name):
        return None
    reason = f"the boot loader would not start the specialisation {name!r} of {toplevel}"
    judgement = apply_override(run, Judgement(gate, is_open=False, reason=reason))
    if judgement.is_open:
        return None
    run.ports.sink.emit(events.GATE_HELD, gate=gate, reason=reason)
    return Held(gate, reason)


async def _ask_for_it(run: Run, reason: str, verdict: Go) -> None:
    """Ask for the reboot; it passes only those who were respected long enough, and nobody new."""
    ports = run.ports
    inhibitors = await ports.logind.inhibitors() if verdict.forced else ()
    ports.sink.emit(
        events.REBOOT_REQUESTED,
        reason=reason,
        inhibitors=[f"{one.who}: {one.why}" for one in inhibitors or ()],
    )
    await ports.logind.tell_people(
        f"{run.policy.host} reboots now to complete an upgrade ({reason})."
    )
    run.report.outcome = Outcome.REBOOTING
    run.report.reasons = (("reboot", reason),)
    try:
        await ports.host.reboot(forced=verdict.forced)
    except HostError:
        run.record = replace(run.record, outcome=Outcome.STAGED)
        raise


async def _prepare(run: Run, toplevel: StorePath) -> None:
    """Fill the row of a reboot that an earlier run has left over; how things are is noted anew."""
    if run.record.baseline is not None:
        return
    ports, systems = run.ports, run.ports.host.systems()
    with run.step("baseline"):
        baseline = await take_baseline(ports, run.policy)
    run.record = replace(
        run.record,
        previous=systems.running or "unknown",
        boot_id=systems.boot_id,
        toplevel=toplevel,
        action=Action.BOOT,
        baseline=baseline.serialise(),
    )


async def cancel_announced(ports: Ports, toplevel: StorePath, why: str) -> None:
    """Take back what was told to those who are logged in, if anything was."""
    try:
        plan = ports.agenda.reboot_plan(toplevel)
        if plan.announced_for is None or plan.announced_for < ports.clock.now():
            return
        ports.agenda.set_reboot_plan(RebootPlan(toplevel))
    except JournalError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return
    ports.sink.emit(events.REBOOT_CANCELLED, toplevel=toplevel, reason=why)
    await ports.logind.tell_people(f"The announced reboot is not done yet: {why}.")
