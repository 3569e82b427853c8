"""Time limits that count only while the event loop is running.

A machine that is busy holds the whole process up: an answer has come, and lies unread when the
clock says that time is over. That is no fault of who has answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_STEPS: Final = 16
"""Into how many steps a limit is divided; however long the loop is held up, one step passes."""
_LOOKS: Final = 32
"""How often the loop takes what has arrived before a limit is over: handshakes have many parts."""


class WorkingTime:
    """Like `asyncio.timeout` with the sum of `parts`, in seconds; an async context manager.

    Once time is over, the loop still takes what the system has ready for it. Each part is divided
    on its own: where two limits of one beginning have the first part in common, the shorter one
    ends first, however long the loop was held up.

    Raises:
        TimeoutError: the block had its time, as `asyncio.timeout` has it.
    """

    def __init__(self, *parts: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._steps = [part / _STEPS for part in reversed(parts) if part > 0 for _ in range(_STEPS)]
        self._looks = _LOOKS
        self._passed = 0.0
        self._step = 0.0
        self._step_began = self._loop.time()
        self._timer: asyncio.Handle | None = None

    @property
    def used(self) -> float:
        """Seconds that have been counted so far."""
        return self._passed + min(self._loop.time() - self._step_began, self._step)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._go_on()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _go_on(self) -> None:
        self._passed += self._step
        self._step_began = self._loop.time()
        self._step = self._steps.pop() if self._steps else 0.0
        if self._step:
            self._timer = self._loop.call_later(self._step, self._go_on)
        elif self._looks:
            self._looks -= 1
            self._timer = self._loop.call_soon(self._go_on)
        else:
            self._timer = None
            self._limit.reschedule(self._step_began)
