"""Requests that belong together: retried while that helps, and bounded by one deadline."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from agent.adapters.http.retries import Retries, fault_of
from agent.domain.errors import AgentError, HydraError, Kind

if TYPE_CHECKING:
    import tenacity

    from agent.adapters.http.retries import Repeater
    from agent.adapters.hydra.transport import Answer, Transport


RETRIES: Final = Retries(attempts=2, longest=5.0)
_UNREACHED: Final = frozenset({Kind.HYDRA_REFUSED, Kind.HYDRA_UNRESOLVABLE})
"""No route, no name, nothing that listens: Hydra has not been asked."""
_BUSY: Final = frozenset({Kind.HYDRA_TIMEOUT, Kind.HYDRA_DEADLINE, Kind.HYDRA_RATE_LIMITED})
"""Signs of a Hydra that has too much to do. A 5xx may be of the one page that was asked for."""


class Conversation:
    """All requests of one client; `timeout` and `deadline` are seconds.

    The deadline runs from the first request on, pauses between requests included.

    A Hydra that is not reached has no trouble with being asked again, and is until the deadline: a
    host's network may take its time after a resume. One that is reached and does not answer well
    may be too busy: of all requests one is made again, and has `retries.attempts` in all. With 1
    none is ever made again. Once Hydra has proved too busy for one of them, it is asked no more.
    """

    def __init__(
        self, transport: Transport, repeater: Repeater, *, timeout: float, deadline: float
    ) -> None:
        self._transport = transport
        self._repeater = repeater
        self._clock = repeater.clock
        self._retries = repeater.retries
        self._timeout = timeout
        self._deadline = deadline
        self._began: float | None = None
        self._repeated: str | None = None
        self._is_backing_off = False
        self._pause = 0.0
        self._gave_up: HydraError | None = None

    @property
    def is_backing_off(self) -> bool:
        """Whether only the most necessary requests are made."""
        return self._is_backing_off

    def back_off(self, wait: float | None) -> None:
        """Ask Hydra, which was too busy before, for as little as possible, and nothing twice.

        `wait`: the seconds that it asks to be left alone, if it has been asked a moment ago: then
        the first request waits for a moment at least, which is not the same for each host.
        """
        if self._is_backing_off:
            return
        self._is_backing_off = True
        if wait is not None:
            spread = random.uniform(1, 2)  # noqa: S311 - no cryptography here
            self._pause = max(wait, self._retries.first * spread)

    async def ask(self, path: str) -> Answer:
        """Return the answer to a GET, trying again while the fault is one that can pass.

        Without a request it fails as an earlier one did for which Hydra was too busy.

        Raises:
            HydraError: the last fault, when it cannot pass, the attempts are used up, or the
                deadline would end before the next one.
        """
        await self._wait_out_back_off(path)
        earlier: AgentError | None = None
        heard = 0

        def is_last(state: tenacity.RetryCallState) -> bool:
            nonlocal earlier, heard
            earlier = fault_of(state)
            is_heard = earlier is None or earlier.kind not in _UNREACHED
            heard += is_heard
            is_too_late = state.upcoming_sleep >= self._left()
            if is_too_late or self._retries.attempts == 1 or not is_heard:
                return is_too_late or self._retries.attempts == 1
            if self._is_backing_off:
                return True
            self._repeated = self._repeated or path
            return self._repeated != path or heard >= self._retries.attempts

        try:
            return await self._repeater.repeat(path, lambda: self._ask(path), is_last)
        except HydraError as error:
            self._note(error)
            # Hydra's own message says more than that there was no time to ask again.
            if error.kind is Kind.HYDRA_DEADLINE and earlier is not None:
                raise earlier from error
            raise

    async def ask_once(self, path: str) -> Answer:
        """Return the answer to a GET that is not worth a second attempt; raises as `ask`."""
        await self._wait_out_back_off(path)
        try:
            return await self._ask(path)
        except HydraError as error:
            self._note(error)
            raise

    def _note(self, error: HydraError) -> None:
        if error.kind in _BUSY:
            self._gave_up = error

    async def _wait_out_back_off(self, path: str) -> None:
        """Wait for as long as Hydra has asked for.

        Raises:
            HydraError: it has failed for good, or there is not so much time.
        """
        if self._gave_up is not None:
            raise self._gave_up
        pause, self._pause = self._pause, 0.0
        if pause and pause >= self._left():
            self._gave_up = HydraError(
                Kind.HYDRA_RATE_LIMITED,
                f"{self._transport.instance}{path}: Hydra asks to be left alone for {pause:g} s,"
                " which is longer than all that is asked of it may take",
                hint="a later run asks again",
                retry_after=pause,
            )
            raise self._gave_up
        if pause:
            await self._retries.sleep(pause)

    async def _ask(self, path: str) -> Answer:
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

    def _deadline_passed(self, path: str) -> HydraError:
        return HydraError(
            Kind.HYDRA_DEADLINE,
            f"{self._transport.instance}{path}: the {self._deadline:g} s for all that is asked of"
            " Hydra are over",
            hint="is Hydra overloaded, or hydra.deadline too short?",
        )
