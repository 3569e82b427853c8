"""What every adapter needs of the network: lookups that delay nothing, and the system's trust."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from typing_extensions import override

from agent.lean.trust_store import system_trust

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["DaemonThreads", "install", "system_trust"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MAX_THREADS: Final = 128


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Make `loop` do name lookups, and all else of its default executor, in daemon threads.

    asyncio resolves names in a thread, which nothing can interrupt. Its own executor is waited for
    when the process ends: one silent name server would hold a finished run for half a minute.
    """
    loop.set_default_executor(DaemonThreads())


class DaemonThreads(ThreadPoolExecutor):
    """An executor that nobody waits for, neither at its shutdown nor at the end of the process.

    It is a `ThreadPoolExecutor` because asyncio takes no other, and uses nothing of it. Work that
    is under way when the process ends is cut off: hand it nothing that must be finished.
    """

    def __init__(self, max_threads: int = _MAX_THREADS) -> None:
        super().__init__(max_workers=1)
        self._limit = max_threads
        self._running = 0
        self._waiting: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._guard = threading.Lock()
        self._is_shut = False

    @override
    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future: Future[_T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks the future
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._guard:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append((future, work))
            is_thread_wanted = self._running < self._limit
            self._running += is_thread_wanted
        if is_thread_wanted:
            threading.Thread(target=self._serve, name="agent-lookup", daemon=True).start()
        return future

    def _serve(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    self._running -= 1
                    return
                _, work = self._waiting.popleft()
            work()

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; what runs is left alone, whatever `wait` says."""
        with self._guard:
            self._is_shut = True
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
