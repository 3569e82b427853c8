"""How often a request is made again, and how long is waited in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tenacity
from tenacity.wait import wait_base
from typing_extensions import override

from agent.domain.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is made, and the seconds between: doubling, with up to `first` on top."""

    attempts: int = 5
    first: float = 0.5
    longest: float = 10.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Wait(wait_base):
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


def can_pass(error: BaseException) -> bool:
    """Return whether the same request may succeed in a moment."""
    return isinstance(error, AgentError) and error.is_retryable


def fault_of(state: tenacity.RetryCallState) -> AgentError | None:
    """Return what the last attempt ended with, None if that was no fault of ours."""
    error = None if state.outcome is None else state.outcome.exception()
    return error if isinstance(error, AgentError) else None
