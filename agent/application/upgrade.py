"""One run: recover, observe, choose, bring the candidate here, see it confirmed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, assert_never

from agent.application import events
from agent.application.act.answers import Activated, Failed, NotBegun
from agent.application.act.boot_cleaning import clean_boot_once
from agent.application.act.reboot import (
    Rebooting,
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
from agent.application.report import Report, Result, error_fields
from agent.application.row import row_of
from agent.application.run import Run, begin, carry_out, last_row
from agent.application.watch.choose import Choice, make_choice
from agent.application.watch.observe import (
    Found,
    find_newest,
    log_candidate,
    log_choice,
    log_upcoming_builds,
)
from agent.application.watch.world import WorldBeforeReboot
from agent.domain import states
from agent.domain.candidate import Candidate
from agent.domain.choose import (
    AwaitReboot,
    Done,
    HeldCandidate,
    Hold,
    Reboot,
    Upgrade,
    held_builds,
)
from agent.domain.errors import (
    ActivationError,
    AgentError,
    ExitCode,
    HostError,
    JournalError,
    Kind,
)
from agent.domain.gate import Judgement, Stage
from agent.domain.gates import registered
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.recovery import Step
from agent.domain.retry import MEMORY, wait_before_retry
from agent.domain.window import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.application.ports import Ports, RunRecord
    from agent.application.run import RunSettings
    from agent.domain.candidate import RefusedBuild
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

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


@dataclass(frozen=True, slots=True)
class _Undecided:
    """What is pending, and still to be confirmed once the lock is free."""

    toplevel: StorePath
    is_left: bool = False
    """By an earlier run."""


async def upgrade(ports: Ports, policy: Policy, settings: RunSettings) -> Report:
    """Do one run and return its report; the run's faults are in it, and never raised.

    A cancellation is recorded as far as it got, and passed on.
    """
    return await carry_out(begin(ports, policy, settings), _run)


async def _run(run: Run[Ports]) -> Result:
    if run.settings.dry_run:
        return await _rehearse(run)
    try:
        result = await _take_turns(run)
    except AgentError as error:
        if error.passes:
            await _try_again(run, error)
        raise
    if result.outcome in _REACHED:
        forget_all_silence(run.ports)
    return result


async def _try_again(run: Run[Ports], error: AgentError) -> None:
    """Let a run come again soon, later each time, after a fault that passes by itself."""
    now = run.ports.clock.now()
    place = place_of(f"{run.policy.host} {run.settings.run_id}")
    wait = wait_before_retry(1 + _failed_before(run), place)
    if error.retry_after is not None:
        wait = max(wait, timedelta(seconds=min(error.retry_after, _LONGEST_WISH)))
    await wake(run, now + wait)


def _failed_before(run: Run[Ports]) -> int:
    """Return how many runs in a row have failed for reasons that pass, just before this one."""
    failed = takewhile(lambda row: row.error_kind in _PASSING, _runs_before(run))
    return sum(1 + row.repeats for row in failed)


def _was_hydra_busy(run: Run[Ports]) -> bool:
    """Whether the run before this one has failed, not long ago, because Hydra was too busy."""
    return next((row.error_kind in _BUSY for row in _runs_before(run)), False)


def _runs_before(run: Run[Ports]) -> Iterator[RunRecord]:
    """Return the runs before this one, the newest first, up to one that ended long ago."""
    now = run.ports.clock.now()
    try:
        rows = run.ports.journal.runs(_ROWS_OF_FAILURES)
    except JournalError:
        rows = ()
    for row in rows:
        if row.run_id != run.settings.run_id:
            if row.finished_at is None or abs(now - row.finished_at) > MEMORY:
                return
            yield row


async def _take_turns(run: Run[Ports]) -> Result:
    for _ in range(_TURNS):
        reached = await _take_turn(run)
        if isinstance(reached, Result):
            return reached
        decided = await await_decision(run, reached.toplevel, starts=_STARTS)
        if not reached.is_left or decided.outcome is Outcome.REBOOTING:  # to the confirmed system
            return decided
        if decided.outcome is Outcome.PENDING:
            run.summary.add(decision=Hold.name)
            return decided
        # The earlier upgrade is decided, whichever way; this run's own work begins now.
        run.summary.add(is_recorded_elsewhere=False)
        run.record = begin(run.ports, run.policy, run.settings).record
    raise ActivationError(Kind.ACTIVATION_BUSY, "someone else goes on upgrading this host")


async def _take_turn(run: Run[Ports]) -> Result | _Undecided:
    """Do what needs the lock; return what came of it, or what is to be confirmed afterwards."""
    ports = run.ports
    with ports.lock.hold():
        fault = _make_ready(ports)
        step = await recover_all(run)
        pending = ports.marks.read().pending if step is Step.CONFIRM else None
        if pending is not None:
            return _Undecided(pending, is_left=True)
        if step is not Step.NOTHING:
            raise ActivationError(
                Kind.ACTIVATION_BUSY,
                "an earlier upgrade is still to be decided, and an activation is running, or"
                " may be, or it is unknown which system runs",
                hint="the dead-man's timer ends it if it is the agent's own",
            )
        if fault is not None:
            raise fault
        require_readable(ports.marks.read())
        return await _act(run)


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


async def _act(run: Run[Ports]) -> Result | _Undecided:
    """Do what is to be done; what is out of reach is a failure only after a while."""
    if run.settings.hydra_wait is not None or _was_hydra_busy(run):
        run.ports.hydra.back_off(run.settings.hydra_wait)
    about: Candidate | None = None
    try:
        found = await _observe(run)
        about = found.newest if isinstance(found.newest, Candidate) else None
        choice = await _choose(run, found.newest)
        about = choice.candidate
        await forget_what_is_gone(run.ports)
        return await _act_on(run, found, choice)
    except AgentError as error:
        if error.exit_code is ExitCode.UNREACHABLE:
            overdue = await is_overdue(run.ports, run.policy, error, about)
            run.summary.add(is_overdue=overdue)
        raise


async def _act_on(run: Run[Ports], found: Found, choice: Choice) -> Result | _Undecided:
    """Do what was decided on."""
    ports = run.ports
    match choice.decision:
        case Done():
            _remember_build(run, found)
            _remember_system(run)
            log_upcoming_builds(ports.sink, await ports.hydra.outlook(run.policy.job, found.build))
            _leave_idle_note(run, found, choice.seen.systems)
            return Result(Outcome.NOTHING_TO_DO)
        case Hold() as hold:
            run.summary.add(reasons=hold.reasons)
            if hold.fault is not None:
                at = earliest(_soonest(hold))
                if at is not None:
                    await wake(run, at)
                raise hold.fault
            await schedule_retry(run, _soonest(hold))
            return Result(Outcome.HELD, hold.reasons)
        case AwaitReboot(reason):
            ports.sink.emit(events.REBOOT_NEEDED, reason=reason)
            return Result(Outcome.AWAITS_REBOOT, (("reboot", reason),))
        case Reboot() as decision:
            return await _reboot(run, decision, choice.seen.systems)
        case Upgrade(candidate):
            return await _upgrade(run, candidate, choice)
        case _:
            assert_never(choice.decision)


def _remember_build(run: Run[Ports], found: Found) -> None:
    """Remember a newer build that the host turned out to be on already.

    Otherwise the gate against downgrades would not know of it when Hydra's `latest` goes back:
    after a revert, or on a host that had its system before it had a history.
    """
    if run.policy.action is Action.DRY_ACTIVATE:
        return  # the host need not be on it
    taken = run.ports.journal.newest_taken(run.policy.job)
    if taken is None or taken.build_id < found.newest.build_id:
        run.ports.journal.record(last_row(run, Report(outcome=Outcome.NOTHING_TO_DO)))


def _remember_system(run: Run[Ports]) -> None:
    """Adopt the candidate where someone else has brought it here, wholly."""
    ports, systems = run.ports, run.ports.host.systems()
    profile = systems.profile
    if profile is None or systems.running not in ports.host.equivalents(profile):
        return
    if ports.marks.read().confirmed != profile:
        ports.marks.set(Mark.CONFIRMED, profile)
        ports.sink.emit(events.SYSTEM_ADOPTED, toplevel=profile)


def _leave_idle_note(run: Run[Ports], found: Found, seen: Systems) -> None:
    """Let later runs rely on what this one has decided on, and on nothing newer."""
    try:
        run.ports.idle_note.write(found.newest.build_id, seen)
    except HostError as error:
        run.ports.sink.emit(events.IDLE_NOTE_FAILED, **error_fields(error))


async def _observe(run: Run[Ports]) -> Found:
    """Return Hydra's newest good build."""
    ports, policy = run.ports, run.policy
    with run.step("observe"):
        run.summary.add(systems=ports.host.systems())
        found = await find_newest(ports.hydra, ports.host, policy, run.settings.store_dir)
        if isinstance(found.newest, Candidate):
            _note_candidate(run, found.newest)
            log_candidate(ports.sink, found.newest)
        if not run.settings.dry_run:
            ports.journal.note_contact(ports.clock.now())
            forget_silence(ports)
    return found


async def _choose(run: Run[Ports], newest: Candidate | RefusedBuild) -> Choice:
    """Return what is to be done about Hydra's newest good build, or an older one."""
    with run.step("gates"):
        choice = await make_choice(
            run,
            newest,
            every=run.settings.dry_run,
            clean_boot=lambda: clean_boot_once(run),
        )
    decision = choice.decision.name
    held = held_builds(choice.decision)
    run.summary.add(systems=choice.seen.systems, decision=decision, held=held)
    if choice.candidate is not None:
        _note_candidate(run, choice.candidate)
    run.record = replace(run.record, decision=decision)  # another process may write its end
    log_choice(run.ports.sink, newest, choice.candidate, choice.decision)
    return choice


def _note_candidate(run: Run[Ports], candidate: Candidate) -> None:
    run.summary.add(candidate=candidate)
    run.record = replace(
        run.record,
        state=states.Failed(candidate.toplevel),
        build_id=candidate.build_id,
        eval_id=candidate.eval_id,
        flake=candidate.flake,
    )


def _soonest(hold: Hold) -> Sequence[Judgement]:
    """Return what holds the candidate that may be taken first."""
    return min(
        (one.judgements for one in hold.held), key=lambda held: earliest(held) or _NEVER, default=()
    )


async def _upgrade(run: Run[Ports], candidate: Candidate, choice: Choice) -> Result | _Undecided:
    ports = run.ports
    staged = ports.marks.read().staged
    if staged is not None:
        await cancel_announced(ports, staged, "a newer build has come")
    try:
        answer, fetched = await bring(
            run, candidate, choice.seen.systems, choice.gates, choice.decision.name
        )
    finally:
        run.record = _row_now(run)
    run.summary.add(action=answer.action, fetched=fetched)
    if isinstance(answer, Failed) and answer.is_unprepared and choice.has_older(candidate):
        await _try_again(run, answer.error)  # while it is suspect, that one may be taken
    return await _go_on(run, candidate, answer, held_builds(choice.decision))


async def _go_on(
    run: Run[Ports],
    candidate: Candidate,
    answer: Activated | NotBegun | Failed,
    newer: tuple[HeldCandidate, ...],
) -> Result | _Undecided:
    """Return what came of an upgrade; reboot where it is to be completed by that now."""
    match answer:
        case NotBegun(reasons):
            closed = answer.held or tuple(
                Judgement(name, is_open=False, reason=reason) for name, reason in reasons
            )
            held = (*newer, HeldCandidate(candidate, closed))
            run.summary.add(decision=Hold.name, reasons=reasons, held=held)
            await schedule_retry(run, answer.held)
            return Result(Outcome.HELD, reasons)
        case Failed():
            run.summary.add(
                outcome=answer.outcome,
                reasons=answer.reasons,
                is_recorded_elsewhere=answer.is_recorded_elsewhere,
            )
            if answer.left is not None:
                run.record = replace(run.record, state=answer.left)
            raise answer.error
        case Activated(toplevel, outcome, _, reasons, reason):
            result = Result(outcome, reasons, answer.error, answer.is_recorded_elsewhere)
            run.summary.add(**vars(result))
            if outcome is Outcome.PENDING:
                return _Undecided(toplevel)
            if not reason:
                return result
            seen, world = run.ports.host.systems(), WorldBeforeReboot(run, toplevel, candidate)
            reached = await reboot(run, toplevel, reason, candidate, seen, world=world)
            is_leaving = isinstance(reached, Rebooting)
            return Result(Outcome.REBOOTING if is_leaving else outcome, reached.reasons)
        case _:
            assert_never(answer)


def _row_now(run: Run[Ports]) -> RunRecord:
    """Return the run's row as the part that changes the host has left it."""
    try:
        return row_of(run.ports.journal, run.settings.run_id) or run.record
    except JournalError:
        return run.record


async def _reboot(run: Run[Ports], decision: Reboot, seen: Systems) -> Result:
    """Complete an earlier upgrade, if it is time and the neighbours can spare this host."""
    assert seen.profile is not None  # noqa: S101 - it is what the reboot is for
    candidate, reason = decision.candidate, decision.reason
    world = WorldBeforeReboot(run, seen.profile, candidate)
    reached = await reboot(run, seen.profile, reason, candidate, seen, world=world)
    if isinstance(reached, Rebooting):
        return Result(Outcome.REBOOTING, reached.reasons)
    held, result = reached.held, Result(Outcome.AWAITS_REBOOT, reached.reasons)
    if not registered()[held.gate].postpones:
        result = Result(Outcome.HELD, ((held.gate, held.reason),))
        of_candidate = HeldCandidate(decision.candidate, (held,))
        run.summary.add(decision=Hold.name, held=(*held_builds(decision), of_candidate))
    run.summary.add(reasons=result.reasons)
    refuse_to_wait(run, held)
    return result


async def _rehearse(run: Run[Ports]) -> Result:
    """Ask every gate and verify, but fetch, build, record and change nothing."""
    require_readable(run.ports.marks.read())
    found = await _observe(run)
    choice = await _choose(run, found.newest)
    decision = choice.decision
    run.summary.add(gates=choice.gates)
    if choice.candidate is None and isinstance(decision, Hold) and decision.fault is not None:
        raise decision.fault
    if choice.candidate is not None and not choice.is_settled:
        await verify(run, choice.candidate)
    if isinstance(decision, Hold):
        return Result(Outcome.DRY_RUN, decision.reasons)
    if isinstance(decision, Reboot) and (postponed := await _postponed(run, choice)):
        run.summary.add(decision=AwaitReboot.name)
        postponement = (postponed.gate, postponed.reason)
        return Result(Outcome.DRY_RUN, (("reboot", decision.reason), postponement))
    return Result(Outcome.DRY_RUN)


async def _postponed(run: Run[Ports], choice: Choice) -> Judgement | None:
    """Return the gate that says that the reboot into the profile is not due; keep no trace."""
    profile = choice.seen.systems.profile
    assert profile is not None  # noqa: S101 - it is what the reboot is for
    facts = StageFacts(run, Stage.BEFORE_REBOOT, profile, choice.candidate, keeps=False)
    return await find_postponing(facts)
