"""Confirms the pending system, or rolls back from it: `agent confirm`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from agent.application import events
from agent.application.confirm.roll_back import roll_back
from agent.application.confirm.settle import ConfirmedSystem, settle_confirmed
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.facts.specialisations import as_specialised, running_specialisation
from agent.application.facts.take_findings import examine
from agent.application.report import Result, error_fields, reason_fields
from agent.domain.confirmation import Assessment, Baseline, Verdict, judge, last_known
from agent.domain.errors import AgentError, HostError, JournalError, Kind
from agent.domain.gates import denied, foreign_system
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action, OnFailure
from agent.domain.states import still_pending
from agent.domain.systems import inhibitor_reason

if TYPE_CHECKING:
    from agent.application.ports import ConfirmPorts, HostPorts, RunRecord
    from agent.application.run import Run
    from agent.domain.check import CheckResult
    from agent.domain.confirmation import Reason
    from agent.domain.marks import Marks
    from agent.domain.path_record import Denial
    from agent.domain.store_path import StorePath

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 15.0
_ROWS_OF_UPGRADES = 50
"""Newest rows of the history among which that of an upgrade is looked for."""


async def confirm_pending(
    run: Run[ConfirmPorts], toplevel: StorePath, doubt: Reason | None = None
) -> Result:
    """Judge the pending `toplevel` until it is healthy or the deadline ends, and act on that.

    `run.record` is the row of its upgrade. Return what came of it: `confirmed`, `rolled-back` (with
    its error), or `pending`. With a `doubt` it is not taken as healthy here.

    Raises:
        AgentError: the roll-back did not succeed.
    """
    with run.step("confirm"):
        judged = await _checked_verdict(run, toplevel, await _judge(run, toplevel))
        if doubt is not None and judged.verdict is Verdict.HEALTHY:
            judged = Assessment(Verdict.INCONCLUSIVE, (doubt,))
    match judged.verdict:
        case Verdict.HEALTHY:
            return await take_as_confirmed(run, toplevel)
        case Verdict.BROKEN:
            return await _handle_broken(run, toplevel, judged.reasons)
        case Verdict.INCONCLUSIVE:
            return _stay_pending(run, toplevel, judged.reasons)
        case _:
            assert_never(judged.verdict)


async def take_as_confirmed(run: Run[ConfirmPorts], toplevel: StorePath) -> Result:
    """Make the pending system the confirmed one, unless someone else has decided already."""
    ports = run.ports
    is_tested = ports.host.systems().profile != toplevel
    before = ports.marks.read().confirmed
    if not ports.marks.move(Mark.PENDING, toplevel, Mark.TESTED if is_tested else Mark.CONFIRMED):
        ports.sink.emit(events.CLAIM_LOST, toplevel=toplevel)
        return report_decision(run, toplevel)
    await settle_confirmed(run, ConfirmedSystem(toplevel, before, is_tested=is_tested))
    return Result(Outcome.CONFIRMED)


def report_decision(run: Run[HostPorts], toplevel: StorePath) -> Result:
    """Return what someone else has decided about a system that was pending."""
    marks = run.ports.marks.read()
    if toplevel in (marks.confirmed, marks.tested):
        return Result(Outcome.CONFIRMED, is_recorded_elsewhere=True)
    why = _why_rolled_back(run, toplevel, marks)
    if why is None:
        sentence = f"{toplevel} is pending no more, and neither confirmed nor rolled back from"
        return Result(Outcome.HELD, (("not-pending", sentence),), is_recorded_elsewhere=True)
    is_leaving = toplevel == marks.rebooting_back
    sentence = f"{toplevel} was rolled back from; {marks.confirmed} is confirmed"
    return Result(
        Outcome.REBOOTING if is_leaving else Outcome.ROLLED_BACK,
        why,
        AgentError(Kind.ROLLED_BACK, sentence),
        is_recorded_elsewhere=True,
    )


def _why_rolled_back(
    run: Run[HostPorts], toplevel: StorePath, marks: Marks
) -> tuple[Reason, ...] | None:
    """Return why someone has; None if nobody has.

    Where nobody can tell any more, that someone has is the likelier end.
    """
    try:
        rows = run.ports.journal.runs(_ROWS_OF_UPGRADES)
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return ()
    about = (row for row in rows if row.toplevel == toplevel and row.previous is not None)
    row = next(about, None)
    is_marked = toplevel in (marks.left, marks.rolled_back)
    if is_marked or (row is not None and row.outcome == Outcome.ROLLED_BACK):
        return row.reasons if row is not None else ()
    return None


def action_of(record: RunRecord) -> Action:
    """Return the action of a row; a roll-back of an unknown one is a `switch`."""
    try:
        return Action(record.action or Action.SWITCH)
    except ValueError:
        return Action.SWITCH


def action_back(ports: HostPorts, record: RunRecord, failed: StorePath) -> Action:
    """Return how to roll back from a system: one that runs may have come by way of the profile.

    Such a one was staged and booted since; the newest row may be of a `test` in between.
    """
    action, systems = action_of(record), ports.host.systems()
    is_running = systems.running in ports.host.equivalents(failed)
    came_by_profile = action is Action.BOOT or systems.profile == failed
    return Action.SWITCH if is_running and came_by_profile else action


async def _judge(run: Run[ConfirmPorts], toplevel: StorePath) -> Assessment:
    ports, wanted = run.ports, run.policy.confirm
    baseline = Baseline.parse(run.record.baseline)
    old = ports.marks.read().confirmed
    touched = _touched_units(ports, old, toplevel) if old else frozenset()
    _waited(ports)
    await ports.clock.sleep(wanted.settle.total_seconds())
    end = ports.clock.elapsed() + wanted.deadline.total_seconds()
    pause = _FIRST_PAUSE
    checks: tuple[CheckResult, ...] = ()
    while True:
        within = timedelta(seconds=max(end - ports.clock.elapsed(), 0))
        seen = await examine(ports, run.policy, touched, within)
        # There may be time for some of the checks only at the end.
        checks = last_known(checks, seen.checks)
        judged = judge(baseline, replace(seen, checks=checks), wanted.ignored_units)
        _waited(ports)  # counts from one call to the next, even if the host goes down meanwhile
        ports.sink.emit(
            events.CONFIRMATION_JUDGED,
            toplevel=toplevel,
            verdict=judged.verdict,
            reasons=reason_fields(judged.reasons),
            notes=reason_fields(judged.notes),
        )
        left = end - ports.clock.elapsed()
        if judged.verdict is Verdict.HEALTHY or left <= 0:
            return judged
        await ports.clock.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _touched_units(ports: ConfirmPorts, old: StorePath, new: StorePath) -> frozenset[str]:
    """Return what differs between two systems, as the specialisation that runs if both have it."""
    name = running_specialisation(ports)
    was, now = (as_specialised(ports, toplevel, name) for toplevel in (old, new))
    return ports.host.touched_units(was or old, now or new)


async def _checked_verdict(
    run: Run[ConfirmPorts], toplevel: StorePath, judged: Assessment
) -> Assessment:
    """Return what the verdict is worth, given how the system came here and what is here now."""
    if judged.verdict is not Verdict.INCONCLUSIVE and (doubt := await _intervention(run, toplevel)):
        return Assessment(Verdict.INCONCLUSIVE, (doubt,))
    if judged.verdict is Verdict.HEALTHY and await run.ports.systemd.is_activating() is None:
        sentence = "systemd does not say whether an activation is running"
        return Assessment(Verdict.INCONCLUSIVE, ((Kind.ACTIVATION_BUSY, sentence),))
    if judged.verdict is Verdict.HEALTHY and (reason := _objection(run, toplevel)):
        return Assessment(Verdict.BROKEN, (reason,))
    return judged


async def _intervention(run: Run[ConfirmPorts], toplevel: StorePath) -> Reason | None:
    """Return what someone else has done to the host while the system was judged."""
    host = run.ports.host
    running = host.systems().running
    if running not in host.equivalents(toplevel):
        sentence = f"the running system is {running or 'unknown'} by now, which was not judged"
        return foreign_system.GATE.name, sentence
    if await run.ports.systemd.is_activating():
        sentence = "an activation is running that someone else has started"
        return Kind.ACTIVATION_BUSY, sentence
    return None


def _objection(run: Run[ConfirmPorts], toplevel: StorePath) -> Reason | None:
    """Return what being well does not make good: a failed activation that stayed, a denial."""
    if run.record.fault is not None:
        sentence = run.record.error_message or "its activation did not end well"
        return Kind.ACTIVATION_FAILED, sentence
    denial = _denial(run, toplevel)
    return None if denial is None else (denied.GATE.name, f"denied by {denial.by}: {denial.reason}")


async def _handle_broken(
    run: Run[ConfirmPorts], toplevel: StorePath, reasons: tuple[Reason, ...]
) -> Result:
    """Roll back, unless the settings or an earlier roll-back leave that to an administrator."""
    ports = run.ports
    held = why_held(run, toplevel)
    ports.sink.emit(
        events.CONFIRMATION_BROKEN,
        toplevel=toplevel,
        reasons=reason_fields(reasons),
        rolls_back=not held,
    )
    if held:
        return _commit_pending(run, toplevel, (("confirmation-failed", held), *reasons))
    action = action_back(ports, run.record, toplevel)
    result = await roll_back(run, toplevel, action, Fault.BROKEN, reasons)
    if result is None:
        return report_decision(run, toplevel)
    sentence = "; ".join(sentence for _, sentence in reasons)
    error = AgentError(
        Kind.ROLLED_BACK,
        f"{toplevel} proved broken and was rolled back from: {sentence}",
        hint="it is denied: a newer build goes through, `agent allow` lifts it",
    )
    ports.sink.emit(events.RUN_FAILED, **error_fields(error))
    return replace(result, error=error)


def why_held(run: Run[ConfirmPorts], toplevel: StorePath) -> str:
    """Return why a broken system is not rolled back from unattended; empty if it is."""
    if run.policy.confirm.on_failure is OnFailure.HOLD:
        return f"confirm.on_failure is 'hold': an administrator decides{_way_back(run)}"
    if _denial(run, toplevel) is not None:
        return "it was denied before, and is rolled back from only once: an administrator decides"
    return ""


def _way_back(run: Run[ConfirmPorts]) -> str:
    """Return how an administrator goes back, where that is more than to switch; empty elsewhere."""
    inhibited = inhibitor_reason(find_inhibitors(run.ports.host, run.ports.marks.read().confirmed))
    way = f"; `agent rollback --reason TEXT` goes back, by a reboot ({inhibited})"
    return way if inhibited else ""


def _denial(run: Run[ConfirmPorts], toplevel: StorePath) -> Denial | None:
    """Return the denial in force; None as well if the history cannot be read."""
    try:
        return run.ports.journal.standing_of(toplevel, run.ports.clock.now()).denial
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return None


def _stay_pending(
    run: Run[ConfirmPorts], toplevel: StorePath, reasons: tuple[Reason, ...]
) -> Result:
    ports = run.ports
    event = events.CONFIRMATION_OVERDUE if is_overdue(run) else events.CONFIRMATION_INCONCLUSIVE
    ports.sink.emit(event, toplevel=toplevel, reasons=reason_fields(reasons))
    return _commit_pending(run, toplevel, reasons)


def _commit_pending(
    run: Run[ConfirmPorts], toplevel: StorePath, reasons: tuple[Reason, ...]
) -> Result:
    run.try_commit(still_pending(run.record.state, toplevel), reasons=reasons)
    return Result(Outcome.PENDING, reasons)


def is_overdue(run: Run[ConfirmPorts]) -> bool:
    """Whether a system has been pending for longer than `confirm.patience`, as the host was up.

    Where that is unknown it is not: what follows is only that it is tried once more.
    """
    waited = _waited(run.ports)
    return waited is not None and waited > run.policy.confirm.patience


def _waited(ports: ConfirmPorts) -> timedelta | None:
    """Return how long a system has been pending; None where none is, or nobody can tell."""
    try:
        return ports.marks.pending_for()
    except HostError:
        return None
