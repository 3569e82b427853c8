"""Decides how a run or a boot goes on from where an earlier run was cut short.

The marks say what was under way, the history in which phase, the host how far it got. One step is
taken at a time, and the next is decided from what is found then, until `NOTHING` is left to do.
`docs/design/recovery.md` has the table; a test holds it against this code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.domain.outcome import HARMLESS, Outcome

if TYPE_CHECKING:
    from agent.domain.marks import Marks
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


class Step(StrEnum):
    """What recovery does next."""

    NOTHING = "nothing"
    """Nothing is under way."""
    ADOPT = "adopt"
    """Take the running system as confirmed: the agent has never acted on this host."""
    WAIT = "wait"
    """Leave it to the activation that still runs, or may run, and hold."""
    CONFIRM = "confirm"
    """The new system runs: confirm it, or roll back."""
    PROMOTE = "promote"
    """The staged system has been booted: it is pending now."""
    RESTORE = "restore"
    """The activation did not end: activate the confirmed system again, and suspect the new one."""
    ROLL_BACK = "roll-back"
    """A roll-back was begun: do it again, from its beginning."""
    CLOSE_ROLL_BACK = "close-roll-back"
    """The roll-back is done: write it into the history, then remove its mark."""
    REPAIR = "repair"
    """Another system runs, which is not ours: give the profile back, then as FORGET."""
    FORGET = "forget"
    """Nothing to undo: remove the mark `pending`, disarm, close the row as failed."""
    UNSTAGE = "unstage"
    """The profile holds another system by now: remove the mark `staged`."""
    REMARK = "remark"
    """The marks are lost, the history is not: set `confirmed` and `pending` again."""
    CLOSE_STAGED = "close-staged"
    """Staged, but the history does not say so yet: close the row."""
    CLOSE_CONFIRMED = "close-confirmed"
    """Confirmed, but the history does not say so yet: close the row."""
    CLOSE_FAILED = "close-failed"
    """Cut short before the host was touched: close the row as failed."""


@dataclass(frozen=True, slots=True)
class OpenRow:
    """The newest row of the history that has not ended."""

    phase: Outcome
    toplevel: StorePath
    previous: StorePath | None
    """What ran before, once the host was about to be touched."""


@dataclass(frozen=True, slots=True)
class RecoveryState:
    """All that recovery decides on."""

    marks: Marks
    systems: Systems
    row: OpenRow | None
    is_pending_running: bool = False
    """The running system is the pending one, or a specialisation of it."""
    is_running_known: bool = True
    """The running system is one that the agent has marked, or found before it began."""
    is_staged_booted: bool = False
    """The booted and running system is the staged one, or a specialisation of it."""
    is_half_done: bool = False
    """A switch was stopped before it had come to all units."""
    is_activating: bool | None = False
    """switch-to-configuration is at work; None where nobody knows."""


def recover(memory: RecoveryState) -> Step:
    """Return the next step."""
    marks = memory.marks
    if memory.is_activating and (marks.pending or marks.left):
        step = Step.WAIT
    elif marks.left:
        step = Step.ROLL_BACK
    elif marks.rolled_back:
        step = Step.CLOSE_ROLL_BACK
    elif marks.pending:
        step = _if_known(_pending(memory), memory)
    elif memory.row is not None:
        step = _row_alone(memory.row, memory)
    elif marks.confirmed is None and memory.systems.running:
        step = Step.ADOPT
    elif marks.staged is not None:
        step = _staged(memory)
    else:
        step = Step.NOTHING
    return step


def _pending(memory: RecoveryState) -> Step:
    marks, row = memory.marks, memory.row
    is_in_profile = memory.systems.profile == marks.pending
    if marks.confirmed is None and row is not None and row.previous:
        return Step.REMARK
    if memory.is_pending_running:
        return Step.RESTORE if _is_cut_short(memory) else Step.CONFIRM
    if row is not None and row.phase is Outcome.ARMED:
        return Step.FORGET
    if marks.confirmed == marks.pending:
        return Step.FORGET  # there is nothing else to go back to, and it is a good profile
    if marks.confirmed is None or not memory.is_running_known:
        return Step.REPAIR if is_in_profile else Step.FORGET
    return Step.RESTORE if is_in_profile or row is not None else Step.FORGET


def _is_cut_short(memory: RecoveryState) -> bool:
    """Whether the pending system runs, and its services are partly those of the one before."""
    marks, row = memory.marks, memory.row
    is_activated = row is None or row.phase is not Outcome.ACTIVATING
    has_other = marks.confirmed not in (None, marks.pending)
    return memory.is_half_done and has_other and not is_activated


def _if_known(step: Step, memory: RecoveryState) -> Step:
    """Return the step; WAIT if it could meet an activation that nobody knows of."""
    is_harmless = step in (Step.CONFIRM, Step.REMARK)
    return step if is_harmless or memory.is_activating is not None else Step.WAIT


def _row_alone(row: OpenRow, memory: RecoveryState) -> Step:
    """Return the step where the history names what no mark does."""
    marks, systems = memory.marks, memory.systems
    is_here = row.toplevel in (systems.running, systems.profile)
    has_begun = row.phase not in HARMLESS | {Outcome.ARMED}
    if not has_begun or row.previous is None or not is_here:
        return Step.CLOSE_FAILED
    if row.toplevel in (marks.confirmed, marks.tested):
        is_unmoved = systems.running == row.previous != row.toplevel
        was_activated = row.phase is Outcome.PENDING
        return Step.CLOSE_FAILED if is_unmoved and not was_activated else Step.CLOSE_CONFIRMED
    if row.phase is Outcome.ACTIVATING and marks.staged == row.toplevel == systems.profile:
        return Step.CLOSE_STAGED
    return Step.REMARK


def _staged(memory: RecoveryState) -> Step:
    marks, systems = memory.marks, memory.systems
    if marks.staged is None or systems.profile != marks.staged:
        return Step.UNSTAGE
    if marks.staged == marks.confirmed:
        is_there = memory.is_staged_booted or systems.running == marks.staged
        return Step.UNSTAGE if is_there else Step.NOTHING
    return Step.PROMOTE if memory.is_staged_booted else Step.NOTHING
