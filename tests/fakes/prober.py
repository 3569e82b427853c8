"""Probers that a test owns: one that keeps the port's promises, and one that breaks them all."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from agent.domain.check import Check

_AT_ONCE = timedelta(milliseconds=1)


class FakeProber:
    """Finds every target well but those that `reasons` gives a reason for; remembers questions.

    Change `reasons` between runs to let a service fail or recover; what is in `unproven` cannot be
    asked then. Both name targets.
    """

    def __init__(self, reasons: Mapping[str, str] | None = None) -> None:
        self.reasons = dict(reasons or {})
        self.unproven: set[str] = set()
        self.asked: list[Check] = []

    @asynccontextmanager
    async def room_for(self, check: Check) -> AsyncIterator[None]:  # noqa: ARG002 - room for all
        yield

    async def probe(self, check: Check) -> CheckResult:
        self.asked.append(check)
        reason = self.reasons.get(check.target, "")
        return CheckResult(
            check,
            is_well=not reason,
            reason=reason,
            latency=None if reason else _AT_ONCE,
            is_conclusive=not reason or check.target not in self.unproven,
        )


class RogueProber:
    """Does to each check what the test says by its name, however wrong; others are well.

    `room` is how many may be inside at once.
    """

    def __init__(
        self,
        acts: Mapping[str, Callable[[], Coroutine[None, None, CheckResult]]],
        room: int = 1000,
    ) -> None:
        self._acts = acts
        self._room = asyncio.Semaphore(room)

    def room_for(self, check: Check) -> asyncio.Semaphore:  # noqa: ARG002 - one room for all
        return self._room

    async def probe(self, check: Check) -> CheckResult:
        if act := self._acts.get(check.name):
            return await act()
        return CheckResult(check, is_well=True, latency=_AT_ONCE)


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a test can put forward."""

    skipped = 0.0

    @override
    def time(self) -> float:
        return super().time() + self.skipped
