"""Lets the new system's agent confirm its own system, and ends what that agent cannot."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.recover import record_of, resume_roll_back
from agent.application.confirm.confirm import (
    action_back,
    confirm_pending,
    report_decision,
    why_held,
)
from agent.application.confirm.roll_back import roll_back
from agent.application.facts.own_settings import with_own_confirm_settings
from agent.application.ports import WaitReason
from agent.application.report import Result, error_fields, reason_fields
from agent.domain.errors import AgentError, ExitCode, HostError, Kind, LockedError
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.unit_names import CONFIRM_UNIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.application.ports import ConfirmPorts, UnitStatus
    from agent.application.run import Run
    from agent.domain.store_path import StorePath

_POLL = 0.5
_SLACK = 30.0
"""Seconds that a confirmation may take beyond its own limits, before it counts as hung."""
_ASKED = 10
"""How often systemd is asked to start the unit, while it gives no answer."""
_SILENT = f"systemd does not say what became of {CONFIRM_UNIT}"


async def await_decision(
    run: Run[ConfirmPorts], toplevel: StorePath, *, starts: int, waits: bool = True
) -> Result:
    """See the pending `toplevel` confirmed, rolled back from, or found inconclusive.

    The running system's confirm unit is started up to `starts` times; where that system has none,
    this process judges it itself. The lock must be free. With `waits` false a lock that someone
    holds does not keep the roll-back from an agent that cannot confirm.

    It is judged by its own settings, as far as this process has a say.

    Raises:
        AgentError: a roll-back did not succeed, or the lock is held.
    """
    with with_own_confirm_settings(run, toplevel):
        return await _see_through(run, toplevel, starts=starts, waits=waits)


async def _see_through(
    run: Run[ConfirmPorts], toplevel: StorePath, *, starts: int, waits: bool
) -> Result:
    ports = run.ports
    running = ports.host.systems().running
    if running is None or not ports.host.has_unit(running, CONFIRM_UNIT):
        with lock_if_free(run, waits=waits):
            run.record = record_of(run, toplevel)
            return await confirm_pending(run, toplevel)
    run.summary.add(is_recorded_elsewhere=True)
    trouble = ""
    for _ in range(starts):
        ports.sink.emit(events.CONFIRMATION_HANDED_OVER, unit=CONFIRM_UNIT, toplevel=toplevel)
        try:
            is_started = await _start(ports)
        except HostError as error:
            trouble = error.message
            continue
        with run.step("confirm"):
            status = await _ended(run, toplevel) if is_started else _SILENT
        if _is_decided(run, toplevel):
            return report_decision(run, toplevel)
        if status is None:
            return _still_pending(run, toplevel)
        if isinstance(status, str):
            return await _judge_in_its_place(run, toplevel, status, waits=waits)
        if status.exit_status == ExitCode.HELD:
            return _still_pending(run, toplevel)
        trouble = f"{CONFIRM_UNIT} ended with {status.exit_status} ({status.result})"
        ports.sink.emit(
            events.CONFIRM_UNIT_ENDED,
            unit=CONFIRM_UNIT,
            result=status.result,
            exit_status=status.exit_status,
        )
    with lock_if_free(run, waits=waits):
        return await _roll_back_unconfirmed(run, toplevel, trouble)


async def _start(ports: ConfirmPorts) -> bool:
    """Start the unit, or let one look now that would look later; False if systemd is silent."""
    is_later = ports.lock.is_waiting(WaitReason.LATER) is True
    for _ in range(_ASKED):
        if await ports.systemd.start(CONFIRM_UNIT, afresh=is_later):
            return True
        await ports.clock.sleep(_POLL)
    return False


async def _ended(run: Run[ConfirmPorts], toplevel: StorePath) -> UnitStatus | str | None:
    """Wait until the unit has decided or ended, or will look again later: None.

    A hung one is given up. Only an unbroken watch proves that it hangs; its time begins when it has
    its turn, and one that never has it does not hang. Return a sentence where nobody knows what
    becomes of it.
    """
    ports, wanted = run.ports, run.policy.confirm
    limit = (wanted.settle + wanted.deadline + run.policy.activate_deadline).total_seconds()
    last_turn = end = ports.clock.elapsed() + limit + _SLACK
    is_unbroken = True
    while True:
        status = await ports.systemd.status(CONFIRM_UNIT)
        if status is None or status.load_state == "not-found":  # which cannot be: it was started
            status, is_unbroken = None, False
        if _is_decided(run, toplevel) or not (status is None or status.is_running):
            return status or _SILENT
        if ports.lock.is_waiting(WaitReason.LATER) is True:
            return None
        now, is_waiting = ports.clock.elapsed(), ports.lock.is_waiting(WaitReason.TURN) is not False
        if is_waiting:
            end = now + limit + _SLACK
        if is_waiting and now >= last_turn:
            return f"{CONFIRM_UNIT} waits for another agent, or for an activation, to end"
        if now >= end:
            return status if status is not None and is_unbroken else _SILENT
        await ports.clock.sleep(_POLL)


async def _judge_in_its_place(
    run: Run[ConfirmPorts], toplevel: StorePath, doubt: str, *, waits: bool
) -> Result:
    """Judge in the place of an agent whose fate is unknown.

    It may be running, so that nothing is confirmed past it. A system that proves broken all the
    same is rolled back from.
    """
    with lock_if_free(run, waits=waits):
        if _is_decided(run, toplevel):
            return report_decision(run, toplevel)
        if run.ports.marks.read().rolling_back == toplevel:
            await resume_roll_back(run, toplevel)
            return report_decision(run, toplevel)
        # From here on the row is this run's own.
        run.summary.add(is_recorded_elsewhere=False)
        run.record = record_of(run, toplevel)
        return await confirm_pending(run, toplevel, (Kind.SYSTEMD_SILENT, doubt))


def _is_decided(run: Run[ConfirmPorts], toplevel: StorePath) -> bool:
    marks = run.ports.marks.read()
    return toplevel not in (marks.pending, marks.rolling_back)


def _still_pending(run: Run[ConfirmPorts], toplevel: StorePath) -> Result:
    """Return why the new system's agent leaves it pending."""
    reasons = record_of(run, toplevel).reasons or (
        ("inconclusive", "the new system's agent could not judge it yet"),
    )
    return Result(Outcome.PENDING, reasons, is_recorded_elsewhere=True)


async def _roll_back_unconfirmed(
    run: Run[ConfirmPorts], toplevel: StorePath, trouble: str
) -> Result:
    """Roll back from a system whose agent cannot confirm it; finish a roll-back it has begun."""
    ports = run.ports
    if _is_decided(run, toplevel):
        return report_decision(run, toplevel)
    if ports.marks.read().rolling_back == toplevel:
        await resume_roll_back(run, toplevel)
        return report_decision(run, toplevel)
    run.summary.add(is_recorded_elsewhere=False)
    run.record = record_of(run, toplevel)
    reasons = ((Kind.CONFIRM_UNIT_FAILED, trouble),)
    held = why_held(run, toplevel)
    ports.sink.emit(
        events.CONFIRMATION_BROKEN,
        toplevel=toplevel,
        reasons=reason_fields(reasons),
        rolls_back=not held,
    )
    if held:
        return Result(Outcome.PENDING, (("confirmation-failed", held), *reasons))
    action = action_back(ports, run.record, toplevel)
    result = await roll_back(run, toplevel, action, Fault.BROKEN, reasons)
    if result is None:
        return report_decision(run, toplevel)
    error = AgentError(Kind.ROLLED_BACK, f"{toplevel} was rolled back from: {trouble}")
    ports.sink.emit(events.RUN_FAILED, **error_fields(error))
    return replace(result, error=error)


@contextmanager
def lock_if_free(run: Run[ConfirmPorts], *, waits: bool) -> Iterator[None]:
    """Hold the lock; without `waits`, go on where an agent that hangs has it.

    Without a lock, such as on a full disk, the run decides nevertheless: the marks are safe.

    Raises:
        LockedError: someone has it, with `waits`.
    """
    held = run.ports.lock.hold()
    try:
        held.__enter__()
    except (LockedError, HostError) as error:
        if waits and isinstance(error, LockedError):
            raise
        run.ports.sink.emit(events.LOCK_IGNORED, **error_fields(error))
        yield
        return
    try:
        yield
    finally:
        held.__exit__(None, None, None)
