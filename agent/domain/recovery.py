"""Decides how a run or a boot goes on from where an earlier run was cut short.

The marks say what was under way, the history in which phase, the host how far it got. One step is
taken at a time, and the next is decided from what is found then, until one is left that recovery
does not take. `docs/design/recovery.md` has the table; a test holds it against this code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from agent.domain.marks import Mark
from agent.domain.states import (
    Activating,
    Armed,
    Change,
    Pending,
    RollingBack,
    State,
    change_of,
)

if TYPE_CHECKING:
    from agent.domain.marks import Marks
    from agent.domain.run_record import RunRecord
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


class Step(StrEnum):
    """The names of what recovery does next."""

    NOTHING = "nothing"
    ADOPT = "adopt"
    WAIT = "wait"
    CONFIRM = "confirm"
    PROMOTE = "promote"
    RESTORE = "restore"
    ROLL_BACK = "roll-back"
    CLOSE_ROLL_BACK = "close-roll-back"
    REPAIR = "repair"
    FORGET = "forget"
    UNSTAGE = "unstage"
    REMARK = "remark"
    CLOSE_STAGED = "close-staged"
    CLOSE_CONFIRMED = "close-confirmed"
    CLOSE_FAILED = "close-failed"


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Nothing is under way."""

    name: ClassVar = Step.NOTHING


@dataclass(frozen=True, slots=True)
class Wait:
    """An activation runs, or may run, or nobody knows which system does: hold."""

    name: ClassVar = Step.WAIT


@dataclass(frozen=True, slots=True)
class Confirm:
    """The new system runs: confirm it, or roll back."""

    name: ClassVar = Step.CONFIRM


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take `toplevel` as confirmed: it runs, and the agent has never acted on this host."""

    name: ClassVar = Step.ADOPT
    toplevel: StorePath


@dataclass(frozen=True, slots=True)
class Promote:
    """The staged system has been booted: it is pending now."""

    name: ClassVar = Step.PROMOTE
    toplevel: StorePath


@dataclass(frozen=True, slots=True)
class Restore:
    """The activation did not end: activate the confirmed system again, and suspect `failed`."""

    name: ClassVar = Step.RESTORE
    failed: StorePath


@dataclass(frozen=True, slots=True)
class RollBack:
    """A roll-back was begun: do it again, from its beginning."""

    name: ClassVar = Step.ROLL_BACK
    failed: StorePath


@dataclass(frozen=True, slots=True)
class CloseRollBack:
    """The roll-back is done: do what follows it, which ends with its row and its mark."""

    name: ClassVar = Step.CLOSE_ROLL_BACK
    failed: StorePath
    target: StorePath | None


@dataclass(frozen=True, slots=True)
class Repair:
    """Another system runs, which is not ours: give the profile back, then as `Forget`."""

    name: ClassVar = Step.REPAIR
    toplevel: StorePath
    row: RunRecord | None


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing to undo: remove the mark `pending`, disarm, close the row as failed."""

    name: ClassVar = Step.FORGET
    toplevel: StorePath
    row: RunRecord | None


@dataclass(frozen=True, slots=True)
class Unstage:
    """The profile holds another system by now: remove the mark `staged`."""

    name: ClassVar = Step.UNSTAGE


@dataclass(frozen=True, slots=True)
class Remark:
    """The marks are lost, the history is not: set `confirmed` and `mark` again."""

    name: ClassVar = Step.REMARK
    mark: Mark
    toplevel: StorePath
    previous: StorePath


@dataclass(frozen=True, slots=True)
class CloseStaged:
    """Staged, but the history does not say so yet: close the row."""

    name: ClassVar = Step.CLOSE_STAGED
    row: RunRecord
    change: Change


@dataclass(frozen=True, slots=True)
class CloseConfirmed:
    """Confirmed, but not all that follows is done: do it, which ends with the row."""

    name: ClassVar = Step.CLOSE_CONFIRMED
    row: RunRecord
    change: Change
    is_tested: bool


@dataclass(frozen=True, slots=True)
class CloseFailed:
    """Cut short before the host was touched: close the row as failed."""

    name: ClassVar = Step.CLOSE_FAILED
    row: RunRecord


Left: TypeAlias = NothingToDo | Wait | Confirm
"""What recovery itself does not take, but leaves to the caller."""
Taken: TypeAlias = (
    Adopt
    | Promote
    | Restore
    | RollBack
    | CloseRollBack
    | Repair
    | Forget
    | Unstage
    | Remark
    | CloseStaged
    | CloseConfirmed
    | CloseFailed
)
STEPS: Final = {
    step.name: step
    for step in (
        *(NothingToDo, Wait, Confirm, Adopt, Promote, Restore, RollBack, CloseRollBack, Repair),
        *(Forget, Unstage, Remark, CloseStaged, CloseConfirmed, CloseFailed),
    )
}


@dataclass(frozen=True, slots=True)
class RecoveryState:
    """All that recovery decides on."""

    marks: Marks
    systems: Systems
    row: RunRecord | None
    """The newest row of the history that has not ended."""
    is_pending_running: bool = False
    """The running system is the pending one, or a specialisation of it."""
    is_profile_running: bool = False
    """The running system is the profile's, or a specialisation of it."""
    is_running_known: bool = True
    """The running system is one that the agent has marked, or found before it began."""
    is_staged_booted: bool = False
    """The booted and running system is the staged one, or a specialisation of it."""
    is_half_done: bool = False
    """A switch was stopped before it had come to all units."""
    is_activating: bool | None = False
    """switch-to-configuration is running; None if unknown."""

    @property
    def state(self) -> State | None:
        """The state that the row holds."""
        return None if self.row is None else self.row.state

    @property
    def change(self) -> Change | None:
        """What the row says was to be changed for good."""
        change = None if self.row is None else change_of(self.row.state)
        return change if change is not None and change.is_lasting else None


def recover(memory: RecoveryState) -> Left | Taken:
    """Return the next step."""
    marks = memory.marks
    step: Left | Taken
    if memory.is_activating and (marks.pending or marks.left):
        step = Wait()
    elif marks.left:
        step = RollBack(marks.left)
    elif marks.rolled_back:
        step = CloseRollBack(marks.rolled_back, marks.confirmed)
    elif marks.pending:
        step = _if_known(_pending(marks.pending, memory), memory)
    elif memory.row is not None:
        step = _row_alone(memory.row, memory)
    elif marks.confirmed is None and memory.systems.running:
        step = Adopt(_to_adopt(memory.systems.running, memory))
    elif marks.staged is not None:
        step = _staged(marks.staged, memory)
    else:
        step = NothingToDo()
    return step


def _to_adopt(running: StorePath, memory: RecoveryState) -> StorePath:
    """Return the running system, or the profile's if that is a specialisation of it."""
    profile = memory.systems.profile
    return profile if profile is not None and memory.is_profile_running else running


def _pending(pending: StorePath, memory: RecoveryState) -> Left | Taken:
    marks, row, change = memory.marks, memory.row, memory.change
    is_in_profile = memory.systems.profile == pending
    if marks.confirmed is None and change is not None and change.previous is not None:
        return _remark(change, change.previous, memory)
    if memory.is_pending_running:
        return Restore(pending) if _is_cut_short(memory) else Confirm()
    if isinstance(memory.state, Armed) or marks.confirmed == pending:
        # Nothing was begun; or there is nothing else to go back to, and it is a good profile.
        return Forget(pending, row)
    if memory.systems.running is None and memory.systems.booted != pending:
        return Wait()  # it may be the pending one, in order; a boot leaves the link in any case
    if marks.confirmed is None or not memory.is_running_known:
        return Repair(pending, row) if is_in_profile else Forget(pending, row)
    return Restore(pending) if is_in_profile or row is not None else Forget(pending, row)


def _is_cut_short(memory: RecoveryState) -> bool:
    """Whether the pending system runs, and its services are partly those of the one before."""
    marks = memory.marks
    has_other = marks.confirmed not in (None, marks.pending)
    return memory.is_half_done and has_other and isinstance(memory.state, Activating)


def _if_known(step: Left | Taken, memory: RecoveryState) -> Left | Taken:
    """Return the step; `Wait` if it could meet an activation that nobody knows of."""
    is_harmless = isinstance(step, Confirm | Remark)
    return step if is_harmless or memory.is_activating is not None else Wait()


def _remark(change: Change, previous: StorePath, memory: RecoveryState) -> Remark:
    is_going_back = isinstance(memory.state, RollingBack)
    mark = Mark.ROLLING_BACK if is_going_back else Mark.PENDING
    return Remark(mark, change.toplevel, previous)


def _row_alone(row: RunRecord, memory: RecoveryState) -> Taken:
    """Return the step where the history names what no mark does."""
    marks, systems, change = memory.marks, memory.systems, memory.change
    has_begun = isinstance(row.state, Activating | Pending | RollingBack)
    if not has_begun or change is None or change.previous is None:
        return CloseFailed(row)
    toplevel, previous = change.toplevel, change.previous
    if toplevel not in (systems.running, systems.profile):
        return CloseFailed(row)
    if toplevel in (marks.confirmed, marks.tested):
        is_unmoved = systems.running == previous != toplevel
        if is_unmoved and not isinstance(row.state, Pending):
            return CloseFailed(row)
        return CloseConfirmed(row, change, is_tested=toplevel != marks.confirmed)
    if isinstance(row.state, Activating) and marks.staged == toplevel == systems.profile:
        return CloseStaged(row, change)
    return _remark(change, previous, memory)


def _staged(staged: StorePath, memory: RecoveryState) -> Left | Taken:
    marks, systems = memory.marks, memory.systems
    if systems.profile != staged:
        return Unstage()
    if staged == marks.confirmed:
        is_there = memory.is_staged_booted or systems.running == staged
        return Unstage() if is_there else NothingToDo()
    return Promote(staged) if memory.is_staged_booted else NothingToDo()
