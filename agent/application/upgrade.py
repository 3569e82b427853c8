"""One run: observe, decide, ask the gates, perform, record."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from agent.application import events
from agent.application.gatekeeper import ask_gates
from agent.application.observe import (
    Found,
    find_candidate,
    look_at_host,
    tell_candidate,
    tell_outlook,
)
from agent.application.perform import Performance, verify
from agent.application.ports import RunRecord
from agent.application.report import Report, error_fields
from agent.domain.decide import AwaitReboot, Decision, Done, Hold, Reboot, Upgrade, decide, held_by
from agent.domain.errors import AgentError, ExitCode, HostError, JournalError, Kind, LockedError
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.request import Request
from agent.domain.systems import Systems

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.application.ports import Ports
    from agent.domain.policy import Policy

_STATE_FAULTS = frozenset({Kind.STATE_READ_ONLY, Kind.STATE_FULL, Kind.STATE_UNUSABLE})


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What is asked of one run, besides the policy."""

    run_id: str
    store_dir: str
    dry_run: bool = False
    ended_by: Callable[[], Kind] = lambda: Kind.TERMINATED
    """Asked after a cancellation: INTERRUPTED or TERMINATED."""


async def upgrade(ports: Ports, policy: Policy, run: RunSettings) -> Report:
    """Do one run and return its report; the run's faults are in it, and never raised.

    A cancellation is recorded as far as it got, and passed on.
    """
    report = Report()
    record = RunRecord(
        run_id=run.run_id,
        started_at=ports.clock.now(),
        host=policy.host,
        job=policy.job.key,
        outcome=Outcome.FAILED,
    )
    performance = Performance(ports, policy, report, record)
    ports.sink.emit(
        events.RUN_STARTED, action=policy.action, strategy=policy.strategy, dry_run=run.dry_run
    )
    try:
        with report.step("total", ports.clock):
            await _run(performance, run)
    except AgentError as error:
        _fail(performance, error)
    except asyncio.CancelledError:
        _fail(performance, _interruption(performance, run.ended_by()))
        _finish(performance, run)
        raise
    except Exception as error:  # noqa: BLE001 - a bug, too, ends in one summary
        _crash(performance, error)
    _finish(performance, run)
    return report


async def _run(performance: Performance, run: RunSettings) -> None:
    if run.dry_run:
        await _rehearse(performance, run)
        return
    with performance.ports.lock.hold():
        performance.ports.journal.prepare()
        # What it says of the links may be true again after this run has failed on the host.
        performance.ports.idle_note.forget()
        await _act(performance, run)


async def _act(performance: Performance, run: RunSettings) -> None:
    ports, report = performance.ports, performance.report
    found, decision = await _observe_and_decide(performance, run)
    match decision:
        case Done():
            report.outcome = Outcome.NOTHING_TO_DO
            _adopt(performance, found)
            tell_outlook(ports.sink, await ports.hydra.outlook(found.candidate.job, found.build))
            _leave_idle_note(performance, found)
        case Hold(reasons):
            report.outcome, report.reasons = Outcome.HELD, reasons
        case AwaitReboot(reason):
            ports.sink.emit(events.REBOOT_NEEDED, reason=reason)
            report.outcome, report.reasons = Outcome.AWAITS_REBOOT, (("reboot", reason),)
        case Reboot(reason):
            await _reboot(performance, reason)
        case Upgrade():
            await _upgrade(performance, found, run)
        case _:
            assert_never(decision)


def _adopt(performance: Performance, found: Found) -> None:
    """Remember a newer build that the host turned out to be on already.

    Otherwise the gate against downgrades would not know of it when Hydra's `latest` goes back:
    after a revert, or on a host that had its system before it had a history.
    """
    if performance.policy.action is Action.DRY_ACTIVATE:
        return  # the host need not be on it
    highest = performance.ports.journal.highest_build(found.candidate.job)
    if highest is None or highest < found.candidate.build_id:
        performance.ports.journal.record(_row(performance))


def _leave_idle_note(performance: Performance, found: Found) -> None:
    """Let later runs rely on what this one has decided on, and on nothing newer."""
    ports, systems = performance.ports, performance.report.systems
    try:
        ports.idle_note.write(found.candidate.build_id, systems or Systems(None, None, None))
    except HostError as error:
        ports.sink.emit(events.IDLE_NOTE_FAILED, **error_fields(error))


async def _observe_and_decide(performance: Performance, run: RunSettings) -> tuple[Found, Decision]:
    ports, policy, report = performance.ports, performance.policy, performance.report
    with report.step("observe", ports.clock):
        report.systems = ports.host.systems()
        found = await find_candidate(ports.hydra, ports.host, policy, run.store_dir)
        candidate = found.candidate
        report.candidate = candidate
        tell_candidate(ports.sink, candidate)
        performance.record = replace(
            performance.record,
            build_id=candidate.build_id,
            eval_id=candidate.eval_id,
            flake=candidate.flake,
            toplevel=candidate.toplevel,
        )
        if not run.dry_run:
            ports.journal.note_contact(ports.clock.now())
        seen = look_at_host(ports.host, candidate)
        report.systems = seen.systems
    decision = decide(seen, ports.journal.history_of(candidate), policy)
    report.decision = decision.name
    ports.sink.emit(
        events.DECISION_MADE, decision=decision.name, reason=getattr(decision, "reason", "")
    )
    return found, decision


async def _upgrade(performance: Performance, found: Found, run: RunSettings) -> None:
    ports, report = performance.ports, performance.report
    with report.step("gates", ports.clock):
        judgements = await ask_gates(ports, performance.policy, found.candidate, every=False)
    held = [judgement for judgement in judgements if not judgement.is_open]
    if held:
        report.decision, report.outcome = Hold.name, Outcome.HELD
        report.reasons = tuple((judgement.gate, judgement.reason) for judgement in held)
        return
    request = Request(
        candidate=found.candidate,
        action=performance.policy.action,
        reasons=tuple(f"{told.gate}: {told.reason}" for told in judgements),
    )
    await performance.upgrade(request.serialise(), run.store_dir)


async def _reboot(performance: Performance, reason: str) -> None:
    """Complete an earlier upgrade, if the neighbours can spare this host."""
    if await performance.is_still_healthy():
        systems = performance.ports.host.systems()
        performance.record = replace(
            performance.record,
            previous=systems.running or "unknown",
            boot_id=systems.boot_id,
            toplevel=systems.profile or performance.record.toplevel,
        )
        await performance.reboot(reason)


async def _rehearse(performance: Performance, run: RunSettings) -> None:
    """Ask every gate and verify, but fetch, build, record and change nothing."""
    ports, report = performance.ports, performance.report
    found, decision = await _observe_and_decide(performance, run)
    with report.step("gates", ports.clock):
        report.gates = await ask_gates(ports, performance.policy, found.candidate, every=True)
    if isinstance(decision, Upgrade):
        await verify(ports, performance.policy, found.candidate, report)
    if isinstance(decision, Hold):
        report.reasons = decision.reasons
    elif held := held_by(decision, report.gates):
        report.decision = Hold.name
        report.reasons = tuple((told.gate, told.reason) for told in held)
    report.outcome = Outcome.DRY_RUN


def _fail(performance: Performance, error: AgentError) -> None:
    """Note a fault; one that can only be waited for is a hold."""
    report = performance.report
    report.error = error
    if error.exit_code is ExitCode.HELD:
        report.decision, report.outcome = Hold.name, Outcome.HELD
        report.reasons = ((error.kind, error.message),)
        performance.ports.sink.emit(events.RUN_HELD, **error_fields(error))
    else:
        report.outcome = Outcome.FAILED
        performance.ports.sink.emit(events.RUN_FAILED, **error_fields(error))


def _interruption(performance: Performance, kind: Kind) -> AgentError:
    """Return the fault of a run that was asked to end, and where it left a host it had begun on."""
    told = "the run was asked to end"
    if performance.record.previous is not None:
        _look_again(performance)
        found = performance.report.systems or Systems(None, None, None)
        told += (
            f" when it had begun to change the host; the running system is"
            f" {found.running or 'unknown'}, the profile is {found.profile or 'unknown'}"
        )
    return AgentError(kind, told)


def _crash(performance: Performance, error: Exception) -> None:
    """Note a bug, with its traceback."""
    performance.ports.sink.emit(events.BUG_FOUND, exception=traceback.format_exc())
    _fail(performance, AgentError(Kind.BUG, f"{type(error).__name__}: {error}"))


def _finish(performance: Performance, run: RunSettings) -> None:
    """Record a run that was notable, and tell the summary, whatever goes wrong here."""
    report = performance.report
    _look_again(performance)
    try:
        _record(performance, run)
    except JournalError as error:
        if report.outcome is Outcome.FAILED:  # its cause has been told, and stays the summary's
            performance.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        else:
            _fail(performance, error)
    except Exception as error:  # noqa: BLE001 - a bug, too, ends in one summary
        _crash(performance, error)
    performance.ports.sink.emit(events.RUN_FINISHED, **report.fields())


def _look_again(performance: Performance) -> None:
    """Let the summary of a run that touched the host tell where the host is now."""
    if performance.record.previous is None:
        return
    performance.report.systems = None
    try:
        performance.report.systems = performance.ports.host.systems()
    except HostError:
        return
    except Exception as error:  # noqa: BLE001 - a bug, too, ends in one summary
        _crash(performance, error)


def _record(performance: Performance, run: RunSettings) -> None:
    report = performance.report
    is_notable = report.outcome is not Outcome.NOTHING_TO_DO
    if is_notable and not run.dry_run and not _is_unrecordable(report):
        performance.ports.journal.record(_row(performance))


def _is_unrecordable(report: Report) -> bool:
    """Whether the state directory is not this run's to write to, or cannot be written."""
    error = report.error
    return isinstance(error, LockedError | JournalError) or (
        error is not None and error.kind in _STATE_FAULTS
    )


def _row(performance: Performance) -> RunRecord:
    """Return the run's last row: what an activation has reached stands, whatever failed later."""
    report, error = performance.report, performance.report.error
    reached = performance.record.outcome
    if reached in (Outcome.FAILED, Outcome.ACTIVATING):
        reached = report.outcome or Outcome.FAILED
    return replace(
        performance.record,
        finished_at=performance.ports.clock.now(),
        outcome=reached,
        decision=report.decision,
        reasons=report.reasons,
        action=performance.record.action or performance.policy.action,
        error_kind=error.kind if error else None,
        error_message=error.message if error else None,
        exit_code=int(report.exit_code),
    )
