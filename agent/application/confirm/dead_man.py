"""The old system's last word on an upgrade that nobody has confirmed: `agent dead-man`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.own_activation import stop_own
from agent.application.act.recover import record_of, recover_all, require_readable
from agent.application.confirm.await_confirmation import await_decision, lock_if_free
from agent.application.confirm.confirm import is_overdue, report_decision
from agent.application.facts.own_settings import with_own_confirm_settings
from agent.application.report import Result
from agent.application.run import begin, carry_out
from agent.domain.errors import ActivationError, HostError, Kind, LockedError
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.recovery import Step

if TYPE_CHECKING:
    from agent.application.ports import ConfirmPorts
    from agent.application.report import Report
    from agent.application.run import Run, RunSettings
    from agent.domain.confirmation import Reason
    from agent.domain.marks import Marks
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath

_POLL = 1.0
_UNDECIDED = (Mark.PENDING, Mark.ROLLING_BACK, Mark.STAGED)


async def dead_man(
    ports: ConfirmPorts, policy: Policy, settings: RunSettings, toplevel: StorePath | None
) -> Report:
    """End the upgrade to `toplevel`, if it is still pending: confirmed, rolled back, or later.

    Without `toplevel`, the upgrade that the host has booted into: for the deadline of a boot. It
    needs neither the history nor the new system's agent. While the system cannot be judged, or the
    roll-back does not succeed, the timer is set again, until `confirm.patience` is over.
    """

    async def body(run: Run[ConfirmPorts]) -> Result:
        marks = await _legible(run)
        path = _booted_into(ports) if toplevel is None else toplevel
        if path is None or (toplevel and toplevel not in (marks.pending, marks.rolling_back)):
            if marks.may_be(*_UNDECIDED):
                require_readable(marks)
            return Result(Outcome.NOTHING_TO_DO)
        ports.sink.emit(events.DEAD_MAN_FIRED, toplevel=path)
        with with_own_confirm_settings(run, path):
            return await _end_or_arm_again(run, path)

    return await carry_out(begin(ports, policy, settings), body)


async def _legible(run: Run[ConfirmPorts]) -> Marks:
    """Return the marks; the history may have what one of them does not say any more."""
    marks = run.ports.marks.read()
    if marks.may_be(*_UNDECIDED) and marks.pending is None and marks.rolling_back is None:
        with lock_if_free(run, waits=False):
            await recover_all(run)
    return run.ports.marks.read()


async def _end_or_arm_again(run: Run[ConfirmPorts], path: StorePath) -> Result:
    try:
        result = await _end(run, path)
    except Exception:  # whatever it is: nobody comes after the dead-man
        await _arm_again(run, path, ())
        raise
    if result.outcome is Outcome.PENDING:
        await _arm_again(run, path, result.reasons)
    return result


def _booted_into(ports: ConfirmPorts) -> StorePath | None:
    """Return the system that the host has booted, if it is still to be confirmed."""
    marks, booted = ports.marks.read(), ports.host.systems().booted
    for mark in (marks.pending, marks.rolling_back, marks.staged):
        if mark is not None and booted in ports.host.equivalents(mark):
            return mark
    return None


async def _end(run: Run[ConfirmPorts], toplevel: StorePath) -> Result:
    ports = run.ports
    await _await_roll_back(run, toplevel)
    marks = ports.marks.read()
    if toplevel not in (marks.pending, marks.rolling_back, _booted_into(ports)):
        return report_decision(run, toplevel)
    await stop_own(run, record_of(run, toplevel), toplevel)
    with lock_if_free(run, waits=False):
        step = await recover_all(run)
    if step is Step.WAIT:
        raise ActivationError(
            Kind.ACTIVATION_BUSY,
            "switch-to-configuration is running, or may be, and could not be stopped or is not"
            " proven to belong to this upgrade; or it is unknown which system runs",
        )
    if step is Step.CONFIRM:
        return await await_decision(run, toplevel, starts=1, waits=False)
    return report_decision(run, toplevel)


async def _await_roll_back(run: Run[ConfirmPorts], toplevel: StorePath) -> None:
    """Leave a roll-back to the agent that is at it, for as long as its activation may take."""
    ports = run.ports
    end = ports.clock.elapsed() + run.policy.activate_deadline.total_seconds()
    while ports.marks.read().rolling_back == toplevel and _is_locked(ports):
        if ports.clock.elapsed() >= end:
            break
        await ports.clock.sleep(_POLL)


def _is_locked(ports: ConfirmPorts) -> bool:
    try:
        with ports.lock.hold():
            return False
    except LockedError:
        return True
    except HostError:
        return False  # there is no room for a lock


async def _arm_again(
    run: Run[ConfirmPorts], toplevel: StorePath, reasons: tuple[Reason, ...]
) -> None:
    """Set the timer again, unless all is decided, or it is a person's turn by now."""
    wanted, marks = run.policy.confirm, run.ports.marks.read()
    if toplevel not in (marks.pending, marks.rolling_back):
        return
    if is_overdue(run):
        run.ports.sink.emit(
            events.CONFIRMATION_OVERDUE,
            toplevel=toplevel,
            reasons=[{"name": name, "reason": sentence} for name, sentence in reasons],
        )
        return
    delay = wanted.settle + wanted.deadline
    await run.ports.systemd.arm(delay, run.settings.run_id, toplevel)
    run.ports.sink.emit(events.DEAD_MAN_ARMED, seconds=delay.total_seconds(), toplevel=toplevel)
