"""Finishes or undoes what an earlier run has left under way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.rival_activation import restore_profile
from agent.application.act.try_boot import make_confirmed_default
from agent.application.confirm.confirm import action_back
from agent.application.confirm.denial import held_as
from agent.application.confirm.roll_back import roll_back
from agent.application.confirm.settle import (
    ConfirmedSystem,
    FailedSystem,
    settle_confirmed,
    settle_rolled_back,
)
from agent.application.facts.specialisations import what_is_noted
from agent.application.report import Report, error_fields
from agent.domain.errors import HostError, JournalError, Kind
from agent.domain.marks import UNREADABLE_HINT, Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.recovery import OpenRow, RecoveryState, Step, recover
from agent.domain.store_path import StorePath, parse_store_path

if TYPE_CHECKING:
    from agent.application.ports import HostPorts, RunRecord
    from agent.application.run import Run
    from agent.domain.confirmation import Reason
    from agent.domain.marks import Marks

_MOST_STEPS = 12
_ROWS_OF_UPGRADES = 50
"""Newest rows of the history among which that of an upgrade is looked for."""
_LEFT_TO_OTHERS = (Step.NOTHING, Step.WAIT, Step.CONFIRM)
_BY_WHAT_IS_READ = frozenset(
    {Step.PROMOTE, Step.RESTORE, Step.ROLL_BACK, Step.CLOSE_ROLL_BACK, Step.REMARK}
)
"""Steps that follow from what is there; all others follow from a mark that is not."""


async def recover_all(run: Run) -> Step:
    """Take recovery's steps and return the one that is left: NOTHING, WAIT or CONFIRM.

    Raises:
        AgentError: a step failed; the next run begins with it.
    """
    step = Step.NOTHING
    with run.step("recover"):
        is_writable = True
        for _ in range(_MOST_STEPS):
            row = _row_under_way(run) if is_writable else None
            memory = await _look(run, row, ends_roll_backs=is_writable)
            step = recover(memory)
            if step in _LEFT_TO_OTHERS:
                break
            if step not in _BY_WHAT_IS_READ:
                require_readable(memory.marks)
            _tell(run.ports, step, memory)
            # What cannot be written stays for the next run; all else is as without a history.
            is_writable = await _take(run, step, memory.marks, row) and is_writable
        else:
            raise AssertionError(f"recovery does not end, with {step} again and again")
    return step


def require_readable(marks: Marks) -> None:
    """Raise HostError (MARKS_UNUSABLE) if something in a mark's place says nothing.

    What was under way is ended by the other marks; nothing new is begun.
    """
    for _, what in marks.unreadable:
        raise HostError(Kind.MARKS_UNUSABLE, what, hint=UNREADABLE_HINT)


async def next_step(run: Run) -> Step:
    """Return what recovery would begin with; nothing is changed."""
    return recover(await _look(run, _row_under_way(run)))


def record_of(run: Run, toplevel: StorePath) -> RunRecord:
    """Return the row of the upgrade to `toplevel`; a new one where the history has lost it.

    A `dry-activate` in between has brought nothing here. The history goes before what this run
    remembers of its own: another process may have gone on.
    """
    is_own = run.record.toplevel == toplevel and run.record.previous is not None
    try:
        rows = run.ports.journal.runs(_ROWS_OF_UPGRADES)
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        rows = ()
    for row in rows:
        is_ours = not is_own or row.run_id == run.record.run_id
        is_dry = row.action == Action.DRY_ACTIVATE
        if row.toplevel == toplevel and row.previous is not None and is_ours and not is_dry:
            return row
    if is_own:
        return run.record
    confirmed = run.ports.marks.read().confirmed
    previous = confirmed and what_is_noted(run.ports, confirmed)
    return replace(run.record, toplevel=toplevel, previous=previous, outcome=Outcome.PENDING)


async def forget(ports: HostPorts) -> None:
    """Take back the announcement of an upgrade that has not begun."""
    ports.marks.remove(Mark.PENDING)
    await ports.systemd.disarm()


def _row_under_way(run: Run) -> RunRecord | None:
    try:
        return run.ports.journal.under_way()
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return None


async def _look(run: Run, row: RunRecord | None, *, ends_roll_backs: bool = True) -> RecoveryState:
    ports = run.ports
    marks, systems = ports.marks.read(), ports.host.systems()
    if not ends_roll_backs:
        marks = replace(marks, rolled_back=None)
    known = {path for mark in marks.known for path in ports.host.equivalents(mark)}
    under_way = _under_way(row, run.settings.store_dir)
    if under_way is not None and marks.pending not in (None, under_way.toplevel):
        under_way = None  # of an upgrade before that one; its turn comes when nothing is pending
    if under_way is not None and under_way.previous is not None:
        known.add(under_way.previous)
    is_touching = marks.pending is not None or marks.left is not None
    return RecoveryState(
        marks=marks,
        systems=systems,
        row=under_way,
        is_pending_running=_is_one_of(ports, systems.running, marks.pending),
        is_running_known=systems.running is None or systems.running in known,
        is_staged_booted=(
            systems.running == systems.booted and _is_one_of(ports, systems.booted, marks.staged)
        ),
        is_half_done=is_touching and ports.systemd.has_work_left(),
        is_activating=is_touching and await ports.systemd.is_activating(),
    )


def _is_one_of(ports: HostPorts, path: StorePath | None, mark: StorePath | None) -> bool:
    return path is not None and mark is not None and path in ports.host.equivalents(mark)


def _under_way(row: RunRecord | None, store_dir: str) -> OpenRow | None:
    if row is None:
        return None
    toplevel = parse_store_path(row.toplevel, store_dir)
    if toplevel is None:
        return OpenRow(Outcome.SELECTED, StorePath(""), None)  # nothing that can be acted on
    is_dry = row.action == Action.DRY_ACTIVATE
    previous = None if is_dry else parse_store_path(row.previous, store_dir)
    return OpenRow(Outcome(row.outcome), toplevel, previous)


async def _take(run: Run, step: Step, marks: Marks, row: RunRecord | None) -> bool:
    """Take one step; False if the history could not be written, which is to be done again."""
    keeper = run.ports.marks
    match step:
        case Step.ADOPT:
            keeper.set(Mark.CONFIRMED, _to_adopt(run.ports))
        case Step.PROMOTE if marks.staged:
            keeper.set(Mark.PENDING, marks.staged)  # the patience with it begins now
            keeper.remove(Mark.STAGED)
            run.of(record_of(run, marks.staged)).try_note(Outcome.PENDING)
        case Step.UNSTAGE:
            keeper.remove(Mark.STAGED)
        case Step.RESTORE if marks.pending:
            await resume_roll_back(run, marks.pending)
        case Step.ROLL_BACK if marks.left:
            await resume_roll_back(run, marks.left)
        case Step.CLOSE_ROLL_BACK if marks.rolled_back:
            return await _close_roll_back(run, marks.rolled_back, marks.confirmed)
        case Step.REPAIR if marks.pending:
            await restore_profile(run.ports, marks.pending)
            await _restore_default(run.ports, marks.pending)
            await forget(run.ports)
            return _close_forgotten(run, marks.pending, row)
        case Step.FORGET if marks.pending:
            await _restore_default(run.ports, marks.pending)
            await forget(run.ports)
            return _close_forgotten(run, marks.pending, row)
        case _:
            assert row is not None  # noqa: S101 - all other steps are about the row
            if step is Step.CLOSE_CONFIRMED:
                return await _close_confirmed(run, row, marks)
            await run.ports.systemd.disarm()
            return _take_by_row(run, step, row)
    return True


async def _restore_default(ports: HostPorts, toplevel: StorePath) -> None:
    """Let the next boot not be of a system that is forgotten unproven: somebody has left it."""
    confirmed = ports.marks.read().confirmed
    if confirmed not in (None, toplevel) and ports.host.systems().profile == confirmed:
        await make_confirmed_default(ports, confirmed, before=toplevel)


def _take_by_row(run: Run, step: Step, row: RunRecord) -> bool:
    if step is Step.REMARK:
        _mark_again(run, row)
        return True
    if step is Step.CLOSE_STAGED:
        return _end(run, row, Outcome.STAGED)
    assert step is Step.CLOSE_FAILED, step  # noqa: S101
    return _end(run, row, Outcome.FAILED)


async def _close_confirmed(run: Run, row: RunRecord, marks: Marks) -> bool:
    """Complete what follows a confirmation."""
    store_dir = run.settings.store_dir
    toplevel, before = (parse_store_path(path, store_dir) for path in (row.toplevel, row.previous))
    assert toplevel is not None  # noqa: S101 - `recover` has seen it
    system = ConfirmedSystem(toplevel, before, is_tested=toplevel != marks.confirmed)
    return await settle_confirmed(run.of(row), system)


def _to_adopt(ports: HostPorts) -> StorePath:
    """Return the running system, or the profile's if that is a specialisation of it."""
    systems = ports.host.systems()
    assert systems.running is not None  # noqa: S101 - there is nothing to adopt without one
    if systems.profile and systems.running in ports.host.equivalents(systems.profile):
        return systems.profile
    return systems.running


async def resume_roll_back(run: Run, failed: StorePath) -> None:
    """Roll back from an upgrade that was cut short, or finish a roll-back that was.

    Raises:
        HostError: as `roll_back`.
    """
    row = _earlier_row(run, failed)
    cause, reasons = _why(row)
    aside = replace(run, record=row, report=Report())
    await roll_back(aside, failed, action_back(run.ports, row, failed), cause, reasons)


async def _close_roll_back(run: Run, failed: StorePath, target: StorePath | None) -> bool:
    row = _earlier_row(run, failed)
    if row.outcome not in (Outcome.ROLLED_BACK, Outcome.ROLLING_BACK):
        # Not even its beginning could be written down.
        cause, reasons = _why(row)
        row = replace(row, fault=held_as(run, failed, cause), reasons=reasons)
    return await settle_rolled_back(run.of(row), FailedSystem(failed, target))


def _earlier_row(run: Run, failed: StorePath) -> RunRecord:
    """Return the row of an earlier upgrade; where it is lost, one that this run does not share."""
    row = record_of(run, failed)
    is_lost = row.run_id == run.settings.run_id and run.record.toplevel != failed
    return replace(row, run_id=f"{row.run_id}-recovered") if is_lost else row


def _why(row: RunRecord) -> tuple[Fault | None, tuple[Reason, ...]]:
    """Return the cause of a roll-back, and the reasons, as far as the history has them."""
    was_asked_to = row.error_kind in (Kind.INTERRUPTED, Kind.TERMINATED)
    cause = None if was_asked_to else Fault.SUSPECT
    reasons: tuple[Reason, ...] = ((Kind.CUT_SHORT, "the activation did not come to its end"),)
    if row.outcome == Outcome.ROLLING_BACK:
        reasons = row.reasons or reasons
        cause = Fault.BROKEN if row.fault == Fault.BROKEN else cause
    return cause, reasons


def _close_forgotten(run: Run, toplevel: StorePath, row: RunRecord | None) -> bool:
    """Close the row with the mark: alone it would tell that the mark was lost."""
    if row is None or row.toplevel != toplevel:
        return True
    return _end(run, row, Outcome.FAILED)


def _mark_again(run: Run, row: RunRecord) -> None:
    marks, store_dir = run.ports.marks, run.settings.store_dir
    toplevel = parse_store_path(row.toplevel, store_dir)
    previous = parse_store_path(row.previous, store_dir)
    assert toplevel is not None  # noqa: S101 - `recover` has seen both
    assert previous is not None  # noqa: S101
    if marks.read().confirmed is None:
        marks.set(Mark.CONFIRMED, previous)
    is_going_back = row.outcome == Outcome.ROLLING_BACK
    marks.set(Mark.ROLLING_BACK if is_going_back else Mark.PENDING, toplevel)


def _end(run: Run, row: RunRecord, outcome: Outcome) -> bool:
    """Close a row; False if the history cannot be written, which keeps nobody from going on."""
    ended = replace(row, outcome=outcome, finished_at=run.ports.clock.now())
    if outcome is Outcome.FAILED:
        ended = replace(
            ended,
            error_kind=row.error_kind or Kind.CUT_SHORT,
            error_message=row.error_message or f"the run was cut short when it was {row.outcome}",
        )
    try:
        run.ports.journal.record(ended)
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return False
    return True


def _tell(ports: HostPorts, step: Step, memory: RecoveryState) -> None:
    if step is Step.ADOPT:
        ports.sink.emit(events.SYSTEM_ADOPTED, toplevel=_to_adopt(ports))
        return
    marks, row = memory.marks, memory.row
    about = marks.pending or marks.left or marks.rolled_back or marks.staged
    ports.sink.emit(
        events.RECOVERY_STEP,
        step=step,
        phase=row.phase if row else None,
        toplevel=about or (row.toplevel if row else None),
    )
