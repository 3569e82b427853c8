"""One run: recover, observe, choose, bring the candidate here, see it confirmed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, assert_never

from agent.application import events
from agent.application.act.answers import Activated, Failed, NotBegun
from agent.application.act.boot_cleaning import clean_boot_once
from agent.application.act.reboot import (
    Waiting,
    cancel_announced,
    reboot,
    refuse_to_wait,
    schedule_retry,
    wake,
)
from agent.application.act.recover import recover_all, require_readable
from agent.application.bring import bring
from agent.application.confirm.await_confirmation import await_decision
from agent.application.facts.ask_gates import earliest, find_postponing
from agent.application.facts.durations import (
    forget_all_silence,
    forget_silence,
    is_overdue,
)
from agent.application.facts.foreign import forget_what_is_gone
from agent.application.facts.stage_facts import StageFacts
from agent.application.facts.verify import verify
from agent.application.report import Report, error_fields
from agent.application.row import row_of
from agent.application.run import Run, RunSettings, begin, carry_out, last_row
from agent.application.watch.choose import Choice, make_choice
from agent.application.watch.observe import (
    Found,
    find_candidate,
    log_candidate,
    log_choice,
    log_upcoming_builds,
)
from agent.application.watch.world import WorldBeforeReboot
from agent.domain.choose import AwaitReboot, Done, Hold, Reboot, Upgrade
from agent.domain.errors import (
    ActivationError,
    AgentError,
    ExitCode,
    HostError,
    JournalError,
    Kind,
)
from agent.domain.gate import Stage
from agent.domain.gates import registered
from agent.domain.marks import Mark
from agent.domain.outcome import HARMLESS, Outcome
from agent.domain.policy import Action
from agent.domain.recovery import Step
from agent.domain.retry import MEMORY, wait_before_retry
from agent.domain.run_record import altered
from agent.domain.systems import Systems
from agent.domain.window import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.ports import Ports, RunRecord
    from agent.domain.candidate import Candidate
    from agent.domain.gate import Judgement
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath

_NEVER = datetime.max.replace(tzinfo=UTC)
_TURNS = 3
_ROWS_OF_FAILURES = 50
"""Newest rows of the history among which failures in a row, this run's aside, are counted."""
_LONGEST_WISH = 86400.0
"""Seconds for which a server that asks to be left alone is."""
_PASSING = frozenset(kind for kind in Kind if kind.passes)
_BUSY = frozenset(
    {
        *(Kind.HYDRA_TIMEOUT, Kind.HYDRA_DEADLINE),
        *(Kind.HYDRA_RATE_LIMITED, Kind.HYDRA_SERVER_ERROR),
    }
)
"""Ends of a run for which Hydra had too much to do."""
_STARTS = 2
"""How often the new system's agent may try to confirm, before it counts as unable."""

_REACHED = frozenset({Outcome.NOTHING_TO_DO, Outcome.CONFIRMED})
"""Ends of a run that could reach all it needed."""

__all__ = ["RunSettings", "upgrade"]


async def upgrade(ports: Ports, policy: Policy, settings: RunSettings) -> Report:
    """Do one run and return its report; the run's faults are in it, and never raised.

    A cancellation is recorded as far as it got, and passed on.
    """
    return await carry_out(begin(ports, policy, settings), _run_with_patience)


async def _run_with_patience(run: Run[Ports]) -> None:
    """Do a run; what is out of reach is a failure only after a while."""
    try:
        await _run(run)
    except AgentError as error:
        if error.exit_code is ExitCode.UNREACHABLE and not run.settings.dry_run:
            report = run.report
            report.is_overdue = await is_overdue(run.ports, run.policy, error, report.candidate)
        raise
    if run.report.outcome in _REACHED and not run.settings.dry_run:
        forget_all_silence(run.ports)


async def _run(run: Run[Ports]) -> None:
    if run.settings.dry_run:
        await _rehearse(run)
        return
    try:
        await _take_turns(run)
    except AgentError as error:
        if error.passes:
            await _try_again(run, error)
        raise


async def _try_again(run: Run[Ports], error: AgentError) -> None:
    """Let a run come again soon, later each time, after a fault that passes by itself."""
    now = run.ports.clock.now()
    place = place_of(f"{run.policy.host} {run.settings.run_id}")
    wait = wait_before_retry(1 + _failed_before(run, now), place)
    if error.retry_after is not None:
        wait = max(wait, timedelta(seconds=min(error.retry_after, _LONGEST_WISH)))
    await wake(run, now + wait)


def _failed_before(run: Run[Ports], now: datetime) -> int:
    """Return how many runs in a row have failed for reasons that pass, just before this one."""
    try:
        rows = run.ports.journal.runs(_ROWS_OF_FAILURES)
    except JournalError:
        return 0
    failures = 0
    for row in rows:
        if row.run_id == run.settings.run_id:
            continue
        is_recent = row.finished_at is not None and abs(now - row.finished_at) <= MEMORY
        if not is_recent or row.error_kind not in _PASSING:
            break
        failures += 1 + row.repeats
    return failures


def _was_hydra_busy(run: Run[Ports]) -> bool:
    """Whether the run before this one has failed, not long ago, because Hydra was too busy."""
    try:
        rows = run.ports.journal.runs(_ROWS_OF_FAILURES)
    except JournalError:
        return False
    last = next((row for row in rows if row.run_id != run.settings.run_id), None)
    return (
        last is not None
        and last.finished_at is not None
        and abs(run.ports.clock.now() - last.finished_at) <= MEMORY
        and last.error_kind in _BUSY
    )


async def _take_turns(run: Run[Ports]) -> None:
    for _ in range(_TURNS):
        left, pending = await _take_turn(run)
        if left is None:
            if pending is not None:
                run.report.conclude(await await_decision(run, pending, starts=_STARTS))
            return
        decided = await await_decision(run, left, starts=_STARTS)
        if decided.outcome is Outcome.PENDING:
            run.report.conclude(decided)
            run.report.decision = Hold.name
            return
        if decided.outcome is Outcome.REBOOTING:  # back to the confirmed system
            run.report.conclude(decided)
            return
        # The earlier upgrade is decided, whichever way; this run's own work begins now.
        fresh = begin(run.ports, run.policy, run.settings)
        run.report, run.record = fresh.report, fresh.record
    raise ActivationError(Kind.ACTIVATION_BUSY, "someone else goes on upgrading this host")


async def _take_turn(run: Run[Ports]) -> tuple[StorePath | None, StorePath | None]:
    """Do what needs the lock; return what an earlier run, and what this one, has left pending."""
    ports = run.ports
    with ports.lock.hold():
        fault = _make_ready(ports)
        step = await recover_all(run)
        if step is Step.WAIT:
            raise ActivationError(
                Kind.ACTIVATION_BUSY,
                "an earlier upgrade is still to be decided, and an activation is running, or"
                " may be, or it is unknown which system runs",
                hint="the dead-man's timer ends it if it is the agent's own",
            )
        if step is Step.CONFIRM:
            return ports.marks.read().pending, None
        if fault is not None:
            raise fault
        require_readable(ports.marks.read())
        return None, await _act(run)


def _make_ready(ports: Ports) -> AgentError | None:
    """Make sure that this run can be written down; what an earlier one has left needs no history.

    The idle note is forgotten: what it says of the links may be true again after this run has
    failed on the host.
    """
    try:
        ports.journal.prepare()
        ports.nixos_rebuild.sweep()
        ports.idle_note.forget()
    except (JournalError, HostError) as error:
        return error
    return None


async def _act(run: Run[Ports]) -> StorePath | None:
    """Bring the candidate here if that is to be done; return the system that is pending then."""
    ports, report = run.ports, run.report
    if run.settings.hydra_wait is not None or _was_hydra_busy(run):
        ports.hydra.back_off(run.settings.hydra_wait)
    found, choice = await _observe_and_choose(run)
    await forget_what_is_gone(ports)
    match choice.decision:
        case Done():
            report.outcome = Outcome.NOTHING_TO_DO
            _remember_build(run, found)
            _remember_system(run)
            log_upcoming_builds(
                ports.sink, await ports.hydra.outlook(found.candidate.job, found.build)
            )
            _leave_idle_note(run, found)
        case Hold() as hold:
            report.outcome, report.reasons = Outcome.HELD, hold.reasons
            await schedule_retry(run, _soonest(hold))
        case AwaitReboot(reason):
            ports.sink.emit(events.REBOOT_NEEDED, reason=reason)
            report.outcome, report.reasons = Outcome.AWAITS_REBOOT, (("reboot", reason),)
        case Reboot(candidate, reason):
            await _reboot(run, reason, candidate, choice.seen.systems)
        case Upgrade():
            return await _upgrade(run, choice)
        case _:
            assert_never(choice.decision)
    return None


def _remember_build(run: Run[Ports], found: Found) -> None:
    """Remember a newer build that the host turned out to be on already.

    Otherwise the gate against downgrades would not know of it when Hydra's `latest` goes back:
    after a revert, or on a host that had its system before it had a history.
    """
    if run.policy.action is Action.DRY_ACTIVATE:
        return  # the host need not be on it
    taken = run.ports.journal.newest_taken(found.candidate.job)
    if taken is None or taken.build_id < found.candidate.build_id:
        run.ports.journal.record(last_row(run))


def _remember_system(run: Run[Ports]) -> None:
    """Adopt the candidate where someone else has brought it here, wholly."""
    ports, systems = run.ports, run.ports.host.systems()
    profile = systems.profile
    if profile is None or systems.running not in ports.host.equivalents(profile):
        return
    if ports.marks.read().confirmed != profile:
        ports.marks.set(Mark.CONFIRMED, profile)
        ports.sink.emit(events.SYSTEM_ADOPTED, toplevel=profile)


def _leave_idle_note(run: Run[Ports], found: Found) -> None:
    """Let later runs rely on what this one has decided on, and on nothing newer."""
    ports, systems = run.ports, run.report.systems
    try:
        ports.idle_note.write(found.candidate.build_id, systems or Systems(None, None, None))
    except HostError as error:
        ports.sink.emit(events.IDLE_NOTE_FAILED, **error_fields(error))


async def _observe_and_choose(run: Run[Ports]) -> tuple[Found, Choice]:
    """Return Hydra's newest good build, and what is to be done about it or an older one."""
    ports, policy, report = run.ports, run.policy, run.report
    with run.step("observe"):
        report.systems = ports.host.systems()
        found = await find_candidate(ports.hydra, ports.host, policy, run.settings.store_dir)
        _note_candidate(run, found.candidate)
        log_candidate(ports.sink, found.candidate)
        if not run.settings.dry_run:
            ports.journal.note_contact(ports.clock.now())
            forget_silence(ports)
    with run.step("gates"):
        choice = await make_choice(
            run,
            found.candidate,
            every=run.settings.dry_run,
            clean_boot=lambda: clean_boot_once(run),
        )
    report.systems, report.decision = choice.seen.systems, choice.decision.name
    _note_candidate(run, choice.candidate)
    run.record = replace(run.record, decision=report.decision)  # another process may write its end
    log_choice(ports.sink, found.candidate, choice.candidate, choice.decision)
    return found, choice


def _note_candidate(run: Run[Ports], candidate: Candidate) -> None:
    run.report.candidate = candidate
    run.record = altered(
        run.record,
        build_id=candidate.build_id,
        eval_id=candidate.eval_id,
        flake=candidate.flake,
        toplevel=candidate.toplevel,
    )


def _soonest(hold: Hold) -> Sequence[Judgement]:
    """Return what holds the candidate that may be taken first."""
    found = [one.judgements for one in hold.held]
    return min(found, key=lambda held: earliest(held) or _NEVER, default=())


async def _upgrade(run: Run[Ports], choice: Choice) -> StorePath | None:
    ports, report, candidate = run.ports, run.report, choice.candidate
    staged = ports.marks.read().staged
    if staged is not None:
        await cancel_announced(ports, staged, "a newer build has come")
    try:
        answer, report.fetched = await bring(
            run, candidate, choice.seen.systems, choice.gates, choice.decision.name
        )
    finally:
        run.record = _row_now(run)
    return await _go_on(run, candidate, answer)


async def _go_on(
    run: Run[Ports], candidate: Candidate, answer: Activated | NotBegun | Failed
) -> StorePath | None:
    """Report what came of an upgrade, and reboot where it is to be completed by that now."""
    report = run.report
    report.action, report.reasons = answer.action, answer.reasons
    match answer:
        case NotBegun():
            report.decision, report.outcome = Hold.name, Outcome.HELD
            await schedule_retry(run, answer.held)
        case Failed():
            report.outcome = answer.outcome
            report.is_recorded_elsewhere = answer.is_recorded_elsewhere
            if answer.fault is not None:
                # A phase in which nothing was touched has no fault; its end does.
                is_over = run.record.outcome in HARMLESS
                outcome = Outcome.FAILED if is_over else run.record.outcome
                run.record = altered(run.record, outcome=outcome, fault=answer.fault)
            raise answer.error
        case Activated():
            report.outcome, report.error = answer.outcome, answer.error
            report.is_recorded_elsewhere = answer.is_recorded_elsewhere
            if answer.reboot:
                seen = run.ports.host.systems()
                await _complete(run, answer.toplevel, answer.reboot, candidate, seen)
            if report.outcome is Outcome.PENDING:
                return answer.toplevel
        case _:
            assert_never(answer)
    return None


def _row_now(run: Run[Ports]) -> RunRecord:
    """Return the run's row as the part that changes the host has left it."""
    try:
        return row_of(run.ports.journal, run.settings.run_id) or run.record
    except JournalError:
        return run.record


async def _reboot(run: Run[Ports], reason: str, candidate: Candidate, seen: Systems) -> None:
    """Complete an earlier upgrade, if it is time and the neighbours can spare this host."""
    assert seen.profile is not None  # noqa: S101 - it is what the reboot is for
    held = await _complete(run, seen.profile, reason, candidate, seen)
    if held is None:
        return
    if registered()[held.gate].postpones:
        run.report.outcome = Outcome.AWAITS_REBOOT
    else:
        run.report.decision, run.report.outcome = Hold.name, Outcome.HELD
        run.report.reasons = ((held.gate, held.reason),)
    refuse_to_wait(run, held)


async def _complete(
    run: Run[Ports], toplevel: StorePath, reason: str, candidate: Candidate, seen: Systems
) -> Judgement | None:
    """Reboot into what is staged, and report that; return the gate that is in the way."""
    run.report.reasons = (("reboot", reason),)
    world = WorldBeforeReboot(run, toplevel, candidate)
    answer = await reboot(run, toplevel, reason, candidate, seen, world=world)
    run.report.reasons = answer.reasons
    if isinstance(answer, Waiting):
        return answer.held
    run.report.outcome = Outcome.REBOOTING
    return None


async def _rehearse(run: Run[Ports]) -> None:
    """Ask every gate and verify, but fetch, build, record and change nothing."""
    ports, report = run.ports, run.report
    require_readable(ports.marks.read())
    _, choice = await _observe_and_choose(run)
    decision, report.gates = choice.decision, choice.gates
    if not choice.is_settled:
        await verify(run, choice.candidate)
    if isinstance(decision, Hold):
        report.reasons = decision.reasons
    elif isinstance(decision, Reboot) and (postponed := await _postponed(run, choice)):
        report.decision = AwaitReboot.name
        report.reasons = (("reboot", decision.reason), (postponed.gate, postponed.reason))
    report.outcome = Outcome.DRY_RUN


async def _postponed(run: Run[Ports], choice: Choice) -> Judgement | None:
    """Return the gate that says that the reboot into the profile is not due; keep no trace."""
    profile = choice.seen.systems.profile
    assert profile is not None  # noqa: S101 - it is what the reboot is for
    facts = StageFacts(run, Stage.BEFORE_REBOOT, profile, choice.candidate, keeps=False)
    return await find_postponing(facts)
