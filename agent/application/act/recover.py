"""Finishes or undoes what an earlier run has left under way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, assert_never

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
from agent.application.facts.specialisations import noted_specialisation
from agent.application.report import error_fields
from agent.domain import states
from agent.domain.errors import HostError, JournalError, Kind
from agent.domain.marks import UNREADABLE_HINT, Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.recovery import (
    Adopt,
    CloseConfirmed,
    CloseFailed,
    CloseRollBack,
    CloseStaged,
    Forget,
    Left,
    NothingToDo,
    Promote,
    RecoveryState,
    Remark,
    Repair,
    Restore,
    RollBack,
    Step,
    Taken,
    Unstage,
    recover,
)
from agent.domain.states import Change, RolledBack, RollingBack, change_of
from agent.domain.store_path import StorePath, parse_store_path

if TYPE_CHECKING:
    from agent.application.ports import HostPorts, RunRecord
    from agent.application.run import Run
    from agent.domain.confirmation import Reason
    from agent.domain.marks import Marks

_MOST_STEPS = 12
_LONGEST_SHUTDOWN = 600.0
"""Seconds that a host which goes down may take to end this process."""
_ROWS_OF_UPGRADES = 50
"""Newest rows of the history among which that of an upgrade is looked for."""
_BY_WHAT_IS_READ = (Promote, Restore, RollBack, CloseRollBack, Remark)
"""Steps that follow from what is there; all others follow from a mark that is not."""


async def recover_all(run: Run) -> Step:
    """Take recovery's steps and return the one that is left: NOTHING, WAIT or CONFIRM.

    Raises:
        AgentError: a step failed; the next run begins with it.
    """
    step: Left | Taken = NothingToDo()
    with run.step("recover"):
        is_writable = True
        for _ in range(_MOST_STEPS):
            row = _row_under_way(run) if is_writable else None
            memory = await _look(run, row, ends_roll_backs=is_writable)
            step = recover(memory)
            if isinstance(step, Left):
                return step.name
            if not isinstance(step, _BY_WHAT_IS_READ):
                require_readable(memory.marks)
            _log(run.ports, step, memory)
            # What cannot be written stays for the next run; all else is as without a history.
            is_writable = await _take(run, step) and is_writable
    raise AssertionError(f"recovery does not end, with {step.name} again and again")


def require_readable(marks: Marks) -> None:
    """Raise HostError (MARKS_UNUSABLE) if something in a mark's place says nothing.

    What was under way is ended by the other marks; nothing new is begun.
    """
    for _, what in marks.unreadable:
        raise HostError(Kind.MARKS_UNUSABLE, what, hint=UNREADABLE_HINT)


async def next_step(run: Run) -> Step:
    """Return what recovery would begin with; nothing is changed."""
    return recover(await _look(run, _row_under_way(run))).name


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
    previous = confirmed and noted_specialisation(run.ports, confirmed)
    return replace(run.record, state=states.Pending(Change(toplevel, previous=previous)))


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
    if row is not None:
        row = _readable(row, run.settings.store_dir)
        if marks.pending not in (None, row.toplevel):
            row = None  # of an upgrade before that one; its turn comes when nothing is pending
    memory = RecoveryState(marks, systems, row)
    if memory.change is not None and memory.change.previous is not None:
        known.add(memory.change.previous)
    is_touching = marks.pending is not None or marks.left is not None
    return replace(
        memory,
        is_pending_running=_is_one_of(ports, systems.running, marks.pending),
        is_profile_running=_is_one_of(ports, systems.running, systems.profile),
        is_running_known=systems.running is None or systems.running in known,
        is_staged_booted=(
            systems.running == systems.booted and _is_one_of(ports, systems.booted, marks.staged)
        ),
        is_half_done=is_touching and ports.systemd.has_work_left(),
        is_activating=is_touching and await ports.systemd.is_activating(),
    )


def _is_one_of(ports: HostPorts, path: StorePath | None, mark: StorePath | None) -> bool:
    return path is not None and mark is not None and path in ports.host.equivalents(mark)


def _readable(row: RunRecord, store_dir: str) -> RunRecord:
    """Return a row; without what was written by hand or for another store."""
    paths = (row.toplevel, change.previous) if (change := change_of(row.state)) else (row.toplevel,)
    if all(path is None or parse_store_path(path, store_dir) for path in paths):
        return row
    return replace(row, state=states.Unreadable(row.outcome, row.toplevel))


async def _take(run: Run, step: Taken) -> bool:
    """Take one step; False if the history could not be written, which is to be done again."""
    keeper = run.ports.marks
    match step:
        case Adopt(toplevel):
            keeper.set(Mark.CONFIRMED, toplevel)
        case Promote(toplevel):
            keeper.set(Mark.PENDING, toplevel)  # the patience with it begins now
            keeper.remove(Mark.STAGED)
            row = record_of(run, toplevel)
            run.of(row).try_commit(states.still_pending(row.state, toplevel))
        case Unstage():
            keeper.remove(Mark.STAGED)
        case Restore(failed) | RollBack(failed):
            await resume_roll_back(run, failed)
        case Repair(toplevel, row) | Forget(toplevel, row):
            if isinstance(step, Repair):
                await restore_profile(run.ports, toplevel)
            await _restore_default(run.ports, toplevel)
            await forget(run.ports)
            return _close_forgotten(run, toplevel, row)
        case Remark():
            await run.ports.systemd.disarm()
            _mark_again(run, step)
        case CloseRollBack() | CloseConfirmed() | CloseStaged() | CloseFailed():
            return await _close(run, step)
        case _:
            assert_never(step)
    return True


async def _restore_default(ports: HostPorts, toplevel: StorePath) -> None:
    """Let the next boot not be of a system that is forgotten unproven: someone has left it."""
    confirmed = ports.marks.read().confirmed
    if confirmed not in (None, toplevel) and ports.host.systems().profile == confirmed:
        await make_confirmed_default(ports, confirmed, before=toplevel)


async def _close(
    run: Run, step: CloseRollBack | CloseConfirmed | CloseStaged | CloseFailed
) -> bool:
    """Close a row; False if the history could not be written."""
    match step:
        case CloseRollBack(failed, target):
            return await _close_roll_back(run, failed, target)
        case CloseConfirmed(row, change, is_tested):
            system = ConfirmedSystem(change.toplevel, change.previous, is_tested=is_tested)
            return await settle_confirmed(run.of(row), system, is_again=True)
        case CloseStaged(row, change):
            await run.ports.systemd.disarm()
            return _end(run, replace(row, state=states.Staged(change)))
        case CloseFailed(row):
            await run.ports.systemd.disarm()
            return _end_as_failed(run, row)
        case _:
            assert_never(step)


async def resume_roll_back(run: Run, failed: StorePath) -> None:
    """Roll back from an upgrade that was cut short, or finish a roll-back that was.

    It does not return while the host goes down for it.

    Raises:
        HostError: as `roll_back`; REBOOT_FAILED: the host has not gone down.
    """
    row = _earlier_row(run, failed)
    cause, reasons = _why(row)
    result = await roll_back(
        run.of(row), failed, action_back(run.ports, row, failed), cause, reasons
    )
    if result is not None and result.outcome is Outcome.REBOOTING:
        await _end_with_the_host(run)


async def _end_with_the_host(run: Run) -> NoReturn:
    """Begin nothing more: the reboot that was asked for ends this process, too."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError  # it has come already, and was taken for the reboot
    await run.ports.clock.sleep(_LONGEST_SHUTDOWN)
    raise HostError(
        Kind.REBOOT_FAILED,
        f"a reboot was asked for, and {_LONGEST_SHUTDOWN:g} s later the host has not gone down",
        hint="`systemctl list-jobs` shows what it waits for",
    )


async def _close_roll_back(run: Run, failed: StorePath, target: StorePath | None) -> bool:
    row = _earlier_row(run, failed)
    if not isinstance(row.state, RolledBack | RollingBack):
        # Not even its beginning could be written down.
        cause, reasons = _why(row)
        change = change_of(row.state) or Change(failed)
        state = RollingBack(change, target, held_as(run, failed, cause))
        row = replace(row, state=state, reasons=reasons)
    system = FailedSystem(failed, target)
    return await settle_rolled_back(run.of(row), system, is_again=True)


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
    if isinstance(row.state, RollingBack):
        reasons = row.reasons or reasons
        cause = Fault.BROKEN if row.state.fault is Fault.BROKEN else cause
    return cause, reasons


def _close_forgotten(run: Run, toplevel: StorePath, row: RunRecord | None) -> bool:
    """Close the row with the mark: left open, it would mean that the mark was lost."""
    if row is None or row.toplevel != toplevel:
        return True
    return _end_as_failed(run, row)


def _mark_again(run: Run, step: Remark) -> None:
    marks = run.ports.marks
    if marks.read().confirmed is None:
        marks.set(Mark.CONFIRMED, step.previous)
    marks.set(step.mark, step.toplevel)


def _end_as_failed(run: Run, row: RunRecord) -> bool:
    ended = replace(
        row,
        state=states.failed(row.state),
        error_kind=row.error_kind or Kind.CUT_SHORT,
        error_message=row.error_message or f"the run was cut short when it was {row.outcome}",
    )
    return _end(run, ended)


def _end(run: Run, row: RunRecord) -> bool:
    """Close a row; False if the history cannot be written, and the run goes on."""
    try:
        run.ports.journal.record(replace(row, finished_at=run.ports.clock.now()))
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return False
    return True


def _log(ports: HostPorts, step: Taken, memory: RecoveryState) -> None:
    if isinstance(step, Adopt):
        ports.sink.emit(events.SYSTEM_ADOPTED, toplevel=step.toplevel)
        return
    marks, row = memory.marks, memory.row
    about = marks.pending or marks.left or marks.rolled_back or marks.staged
    ports.sink.emit(
        events.RECOVERY_STEP,
        step=step.name,
        phase=row.outcome if row else None,
        toplevel=about or (row.toplevel if row else None),
    )
