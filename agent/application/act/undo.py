"""Brings the host back to where it was before an activation that failed, as far as it has moved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.answers import Activated, Failed
from agent.application.act.recover import forget
from agent.application.act.rival_activation import await_rival, give_profile_back
from agent.application.confirm.confirm import report_decision
from agent.application.confirm.roll_back import roll_back
from agent.application.report import reason_fields
from agent.application.row import try_commit
from agent.domain import states
from agent.domain.activation import fault_of_activation, fault_of_refusal
from agent.domain.errors import Kind
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action, OnFailure

if TYPE_CHECKING:
    from agent.application.ports import RunRecord
    from agent.application.run import Run
    from agent.domain.activation import ActivationResult
    from agent.domain.confirmation import Reason
    from agent.domain.errors import ActivationError
    from agent.domain.store_path import StorePath

_UNBEGUN = (1, 100)
"""Exit codes with which switch-to-configuration ends before it touches the services."""


async def undo(run: Run, row: RunRecord, ended: ActivationResult, error: ActivationError) -> Failed:
    """Undo what an activation has changed, as far as it is ours to undo, and say what came of it.

    Raises:
        AgentError: the host could not be brought back.
    """
    ports, toplevel = run.ports, ended.toplevel
    cause, reasons = fault_of_activation(error.kind, ended), ((error.kind, error.message),)
    left: states.State | None = None
    if ended.action is Action.DRY_ACTIVATE:
        if error.kind is Kind.SWITCH_INHIBITED:
            left = states.Failed(toplevel)
    elif error.kind is Kind.ACTIVATION_BUSY or ended.is_overtaken:
        left = await _leave_to_rival(run, row, ended)
    elif ended.refusal is not None and ports.loader.default() != toplevel:
        left = await _take_back(run, row, ended, error)
    elif _is_untouched(ended):
        await forget(ports)
        left = states.Failed(states.change_of(row.state), Fault.SUSPECT)
    elif run.policy.confirm.on_failure is OnFailure.HOLD and ended.is_running:
        # Its services may have begun to migrate their data.
        _log_kept(run, toplevel, reasons)
        left = replace(states.still_pending(row.state, toplevel), fault=cause)
        row = replace(row, reasons=reasons)
    else:
        action = _action_back(ended)
        failed = await _roll_back(run, row, toplevel, action, error, cause=cause, reasons=reasons)
        return replace(failed, action=ended.action)
    if left is not None:
        try_commit(ports.journal, ports.sink, replace(row, state=left, asked=row.action))
    return Failed(error, left=left, action=ended.action)


async def roll_back_staged(
    run: Run, row: RunRecord, toplevel: StorePath, reason: Reason, error: ActivationError
) -> Failed:
    """Undo a system that only waits for its boot, and would not be booted.

    Raises:
        AgentError: the host could not be brought back.
    """
    failed = await _roll_back(
        run, row, toplevel, Action.BOOT, error, cause=Fault.SUSPECT, reasons=(reason,)
    )
    return replace(failed, action=Action.BOOT)


def decided_elsewhere(run: Run, row: RunRecord, toplevel: StorePath, action: Action) -> Activated:
    """Return what someone else has decided about the system that was just activated."""
    report = report_decision(replace(run, record=row), toplevel)
    return Activated(
        toplevel,
        report.outcome,
        action,
        reasons=report.reasons,
        error=report.error,
        is_recorded_elsewhere=True,
    )


async def _roll_back(
    run: Run,
    row: RunRecord,
    toplevel: StorePath,
    action: Action,
    error: ActivationError,
    *,
    cause: Fault,
    reasons: tuple[Reason, ...],
) -> Failed:
    aside = replace(run, record=row)
    report = await roll_back(aside, toplevel, action, cause, reasons)
    if report is None:
        report = report_decision(aside, toplevel)
    is_back = report.outcome is Outcome.ROLLED_BACK
    return Failed(
        error,
        outcome=Outcome.ROLLED_BACK if is_back else Outcome.FAILED,
        reasons=report.reasons,
        is_recorded_elsewhere=report.is_recorded_elsewhere,
    )


def _is_untouched(ended: ActivationResult) -> bool:
    """Whether the links are where they were, and the activation has not come to the services."""
    is_unmoved = (ended.after.running, ended.after.profile) == (
        ended.before.running,
        ended.before.profile,
    )
    is_unbegun = ended.code in _UNBEGUN and not ended.has_begun
    return is_unmoved and (bool(ended.refused) or is_unbegun)


async def _leave_to_rival(
    run: Run, row: RunRecord, ended: ActivationResult
) -> states.Failed | None:
    """Keep what another activation has brought, and take back what ours has moved before it.

    While the other goes on, nobody knows what it brings: the row stays as it is, and the next run
    sees what has come of it.
    """
    if await await_rival(run, ended) and await give_profile_back(run, ended):
        await forget(run.ports)
        return states.Failed(states.change_of(row.state))
    return None


async def _take_back(
    run: Run, row: RunRecord, ended: ActivationResult, error: ActivationError
) -> states.Failed | None:
    """Undo an activation that was refused before it began: nothing but the profile has moved.

    Return None where the profile cannot be changed, which the next run tries again.
    """
    if not await give_profile_back(run, ended):
        return None
    await forget(run.ports)
    fault = fault_of_refusal(error.kind)
    return states.Failed(states.change_of(row.state) if fault else ended.toplevel, fault)


def _log_kept(run: Run, toplevel: StorePath, reasons: tuple[Reason, ...]) -> None:
    """Log that a system whose activation failed is left to an administrator."""
    run.ports.sink.emit(
        events.CONFIRMATION_BROKEN,
        toplevel=toplevel,
        reasons=reason_fields(reasons),
        rolls_back=False,
    )


def _action_back(ended: ActivationResult) -> Action:
    """Return how to undo: the services are left alone where the activation has not begun."""
    is_unbegun = not (ended.has_begun or ended.is_running)
    if ended.action is Action.SWITCH and ended.code == 1 and is_unbegun:
        return Action.BOOT
    return ended.action
