"""Runs a coroutine, and ends it cleanly on SIGINT and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, TypeVar

from agent.adapters import net
from agent.domain.errors import AgentError, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")
_KINDS = {signal.SIGINT: Kind.INTERRUPTED, signal.SIGTERM: Kind.TERMINATED}


class Stopped:
    """Knows the signal that ended the run, if one did."""

    kind: Kind = Kind.TERMINATED
    is_asked: bool = False


def run_async(main: Callable[[Stopped], Coroutine[None, None, _T]]) -> _T:
    """Run `main` and return its result.

    Raises:
        AgentError: INTERRUPTED or TERMINATED, after the coroutine has been cancelled.
    """
    stopped = Stopped()

    async def supervised() -> _T:
        loop = asyncio.get_running_loop()
        net.install(loop)
        task = asyncio.ensure_future(main(stopped))

        def stop(number: signal.Signals) -> None:
            if stopped.is_asked:
                return  # a second signal would interrupt the cleanup, and leave programs behind
            stopped.is_asked = True
            stopped.kind = _KINDS[number]
            task.cancel()

        for number in _KINDS:
            loop.add_signal_handler(number, stop, number)
        return await task

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError as error:
        raise AgentError(stopped.kind, "the command was interrupted") from error
