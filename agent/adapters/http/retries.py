"""How often a request is repeated, and how long to wait in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import tenacity
from tenacity.wait import wait_base
from typing_extensions import override

from agent.application.report import error_fields
from agent.domain.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.application.events import Event
    from agent.application.ports import Clock, EventSink

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is made, and the seconds between: doubling, with up to `first` on top."""

    attempts: int = 5
    first: float = 0.5
    longest: float = 10.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Repeater:
    """Makes a request again while that helps, and logs each repetition as `event`."""

    def __init__(self, event: Event, sink: EventSink, clock: Clock, retries: Retries) -> None:
        self._event = event
        self._sink = sink
        self.clock = clock
        self.retries = retries

    async def ask(
        self,
        path: str,
        request: Callable[[float], Awaitable[_T]],
        *,
        timeout: float,
        deadline: float,
    ) -> _T:
        """Return what `request` returns, which takes the seconds that it may last.

        `timeout` bounds one request, and `deadline` all of them, pauses included.

        Raises:
            AgentError: the last fault, when it cannot pass, or attempts or time are used up.
        """
        ends = self.clock.elapsed() + deadline

        def is_last(state: tenacity.RetryCallState) -> bool:
            is_used_up = state.attempt_number >= self.retries.attempts
            return is_used_up or self.clock.elapsed() + state.upcoming_sleep >= ends

        async def attempt() -> _T:
            left = max(ends - self.clock.elapsed(), 0.001)
            return await request(min(timeout, left))

        return await self.repeat(path, attempt, is_last)

    async def repeat(
        self,
        path: str,
        attempt: Callable[[], Awaitable[_T]],
        is_last: Callable[[tenacity.RetryCallState], bool],
    ) -> _T:
        """Make attempts while the fault is one that can pass, and `is_last` does not end it."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_can_pass),
            wait=_Wait(self.retries),
            stop=is_last,
            before_sleep=lambda state: self._log(path, state),
            sleep=self.retries.sleep,
            reraise=True,
        )

        async def awaited() -> _T:  # tenacity awaits coroutine functions alone
            return await attempt()

        return await retrying(awaited)

    def _log(self, path: str, state: tenacity.RetryCallState) -> None:
        error = fault_of(state)
        if error is not None:
            self._sink.emit(
                self._event,
                path=path,
                attempt=state.attempt_number,
                wait=round(state.upcoming_sleep, 3),
                **error_fields(error),
            )


class _Wait(wait_base):
    """The usual wait, or the one that the server asked for where that is longer."""

    def __init__(self, retries: Retries) -> None:
        self._usual = tenacity.wait_exponential(
            multiplier=retries.first, max=retries.longest
        ) + tenacity.wait_random(0, retries.first)

    @override
    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = fault_of(retry_state)
        asked = None if error is None else error.retry_after
        return max(self._usual(retry_state), asked or 0.0)


def _can_pass(error: BaseException) -> bool:
    """Return whether the same request may succeed in a moment."""
    return isinstance(error, AgentError) and error.is_retryable


def fault_of(state: tenacity.RetryCallState) -> AgentError | None:
    """Return the error of the last attempt, None if it is none of the agent's."""
    error = None if state.outcome is None else state.outcome.exception()
    return error if isinstance(error, AgentError) else None
