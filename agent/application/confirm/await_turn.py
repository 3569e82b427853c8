"""A confirmation waits for its turn: for the lock, and for the end of an activation."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.recover import recover_all
from agent.application.confirm.await_confirmation import lock_if_free
from agent.application.ports import WaitReason
from agent.application.report import error_fields
from agent.domain.errors import ActivationError, AgentError, ExitCode, Kind, LockedError
from agent.domain.recovery import Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent.application.ports import ConfirmPorts
    from agent.application.report import Report
    from agent.application.run import Run
    from agent.domain.policy import Policy

_POLL = 1.0
_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 900.0


async def repeat_until_decided(
    ports: ConfirmPorts, policy: Policy, look: Callable[[], Awaitable[Report]]
) -> Report:
    """Look until something is decided; in between others can see that it will look again.

    As with `lock_in_turn`: a unit that waits to be restarted would count as failed in every switch.
    """
    pause = min(_FIRST_PAUSE, policy.confirm.deadline.total_seconds())
    while (report := await look()).exit_code is ExitCode.HELD:
        with ports.lock.waiting(WaitReason.LATER):
            await ports.clock.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return report


@asynccontextmanager
async def lock_in_turn(run: Run[ConfirmPorts]) -> AsyncIterator[Step]:
    """Hold the lock once it is free, and give the step that recovery has left.

    A switch starts the confirm unit while the agent that switches holds the lock, and so does a
    person's: a unit that ended then, to be restarted, would count as failed in that very switch. So
    a patient run waits here, where others can see that it does, and its time begins afterwards.

    Raises:
        LockedError: another agent has the lock, and the run is not patient.
    """
    is_logged = False
    while True:
        with ExitStack() as held:
            found = await _take_turn(run, held)
            if isinstance(found, Step):
                yield found
                return
        if not is_logged:
            run.ports.sink.emit(events.CONFIRMATION_WAITS, **error_fields(found))
            is_logged = True
        with run.ports.lock.waiting(WaitReason.TURN):
            await run.ports.clock.sleep(_POLL)


async def _take_turn(run: Run[ConfirmPorts], held: ExitStack) -> Step | AgentError:
    """Take the lock and recover; return why a patient run has to wait."""
    is_patient = run.settings.is_patient
    try:
        held.enter_context(lock_if_free(run, waits=True))
    except LockedError as error:
        if not is_patient:
            raise
        return error
    step = await recover_all(run)
    if step is Step.WAIT and is_patient:
        return ActivationError(
            Kind.ACTIVATION_BUSY,
            "an activation is running, or may be, or it is unknown which system runs",
        )
    return step
