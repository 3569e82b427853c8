"""Requests that belong together: tried again while that helps, and over by one deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import tenacity

from agent.adapters.retries import Retries, Wait, can_pass, fault_of
from agent.application import events
from agent.domain.errors import AgentError, HydraError, Kind

if TYPE_CHECKING:
    from agent.adapters.hydra.transport import Answer, Transport
    from agent.application.ports import Clock, EventSink


RETRIES: Final = Retries(attempts=2, longest=5.0)
_UNREACHED: Final = frozenset({Kind.HYDRA_REFUSED, Kind.HYDRA_UNRESOLVABLE})
"""No route, no name, nothing that listens: Hydra has not been asked."""


class Conversation:
    """All requests of one client; `timeout` and `deadline` are seconds.

    The deadline runs from the first request on, pauses between requests included.

    A Hydra that is not reached has no trouble with being asked again, and is until the deadline: a
    host's network may take its time after a resume. One that is reached and does not answer well
    may be too busy: of all requests one is made again, and has `retries.attempts` in all. With 1
    none is ever made again.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float,
        deadline: float,
        sink: EventSink,
        clock: Clock,
        retries: Retries,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._deadline = deadline
        self._sink = sink
        self._clock = clock
        self._retries = retries
        self._began: float | None = None
        self._repeated: str | None = None

    async def ask(self, path: str) -> Answer:
        """Return the answer to a GET, trying again while the fault is one that can pass.

        Raises:
            HydraError: the last fault, when it cannot pass, the attempts are used up, or the
                deadline would end before the next one.
        """
        earlier: AgentError | None = None
        heard = 0

        def is_last(state: tenacity.RetryCallState) -> bool:
            nonlocal heard
            error = fault_of(state)
            is_heard = error is None or error.kind not in _UNREACHED
            heard += is_heard
            is_too_late = state.upcoming_sleep >= self._left()
            if is_too_late or self._retries.attempts == 1 or not is_heard:
                return is_too_late or self._retries.attempts == 1
            self._repeated = self._repeated or path
            return self._repeated != path or heard >= self._retries.attempts

        def note(state: tenacity.RetryCallState) -> None:
            nonlocal earlier
            earlier = fault_of(state)
            self._tell(path, earlier, state)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(can_pass),
            wait=Wait(self._retries),
            stop=is_last,
            before_sleep=note,
            sleep=self._retries.sleep,
            reraise=True,
        )
        try:
            return await retrying(self.ask_once, path)
        except HydraError as error:
            # What Hydra said says more than that there was no time to ask again.
            if error.kind is Kind.HYDRA_DEADLINE and earlier is not None:
                raise earlier from error
            raise

    async def ask_once(self, path: str) -> Answer:
        """Return the answer to a GET that is not worth a second attempt; raises as `ask`."""
        if self._began is None:
            self._began = self._clock.elapsed()
        left = self._left()
        if left <= 0:
            raise self._deadline_passed(path)
        try:
            return await self._transport.get(path, timeout=min(self._timeout, left))
        except HydraError as error:
            if error.kind is Kind.HYDRA_TIMEOUT and left <= self._timeout:
                raise self._deadline_passed(path) from error
            raise

    def _left(self) -> float:
        began = self._clock.elapsed() if self._began is None else self._began
        return self._deadline - (self._clock.elapsed() - began)

    def _tell(self, path: str, error: AgentError | None, state: tenacity.RetryCallState) -> None:
        if error is not None:
            self._sink.emit(
                events.REQUEST_RETRIED,
                path=path,
                attempt=state.attempt_number,
                wait=round(state.upcoming_sleep, 3),
                error_kind=error.kind,
                error_message=error.message,
                error_hint=error.hint,
            )

    def _deadline_passed(self, path: str) -> HydraError:
        return HydraError(
            Kind.HYDRA_DEADLINE,
            f"{self._transport.instance}{path}: the {self._deadline:g} s for all that is asked of"
            " Hydra are over",
            hint="is Hydra overloaded, or hydra.deadline too short?",
        )
