"""A lock that another agent may hold."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Lock, WaitReason
from agent.domain.errors import Kind, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.domain.errors import AgentError


class FakeLock(Lock):
    """Remembers in `is_held` whether it is held; `fault`, while set, keeps it from being taken.

    With `is_silent` nobody can say who waits.
    """

    def __init__(self) -> None:
        self.is_held = False
        self.times = 0
        self.fault: AgentError | None = None
        self.waits: list[WaitReason] = []
        self.is_silent = False

    @override
    @contextmanager
    def hold(self) -> Iterator[None]:
        if self.fault is not None:
            raise self.fault
        if self.is_held:
            raise LockedError(Kind.LOCKED, "another agent is running: process 1")
        self.is_held = True
        self.times += 1
        try:
            yield
        finally:
            self.is_held = False

    @override
    @contextmanager
    def waiting(self, wait: WaitReason) -> Iterator[None]:
        self.waits.append(wait)
        try:
            yield
        finally:
            self.waits.remove(wait)

    @override
    def is_waiting(self, wait: WaitReason) -> bool | None:
        return None if self.is_silent else wait in self.waits
