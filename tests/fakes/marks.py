"""Marks in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import MarkStore
from agent.domain.marks import Mark, Marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.application.ports import Clock
    from agent.domain.errors import HostError
    from agent.domain.store_path import StorePath


class FakeMarks(MarkStore):
    """Keeps where each mark points in `links`, and in `times` since when, by the clock that never
    jumps.

    While `fault` is set, every call ends in it; with `write_fault`, every change. `before_move` is
    called once, when a mark is about to be moved: a rival may be quicker there. `on_look` is called
    whenever the time that a mark was pending is asked for. In the place of `unreadable` ones stands
    what is no mark.
    """

    def __init__(self, clock: Clock) -> None:
        self.links: dict[Mark, StorePath] = {}
        self.times: dict[Mark, float] = {}
        self.unreadable: set[Mark] = set()
        self.special: str | None = None
        self.fault: HostError | None = None
        self.write_fault: HostError | None = None
        self.before_move: Callable[[], None] | None = None
        self.on_look: Callable[[], None] = lambda: None
        self._clock = clock

    @override
    def read(self) -> Marks:
        self._refuse(self.fault)
        links = {
            mark.replace("-", "_"): path
            for mark, path in self.links.items()
            if mark not in self.unreadable
        }
        told = tuple((mark, f"the mark {mark} is no link") for mark in sorted(self.unreadable))
        return Marks(**links, unreadable=told)

    @override
    def pending_for(self) -> timedelta | None:
        self._refuse(self.fault)
        self.on_look()
        since = self.times.get(Mark.PENDING, self.times.get(Mark.ROLLING_BACK))
        return None if since is None else timedelta(seconds=self._clock.elapsed() - since)

    @override
    def specialisation(self) -> str | None:
        return self.special

    @override
    def note_specialisation(self, name: str | None) -> None:
        self._refuse(self.fault)
        if name != self.special:
            self._refuse(self.write_fault)
            self.special = name

    @override
    def set(self, mark: Mark, toplevel: StorePath) -> None:
        self._refuse(self.fault, self.write_fault)
        self.unreadable.discard(mark)
        self.links[mark] = toplevel
        self.times[mark] = self._clock.elapsed()

    @override
    def remove(self, mark: Mark) -> None:
        self._refuse(self.fault)
        if mark in self.links:
            self._refuse(self.write_fault)
            del self.links[mark], self.times[mark]

    @override
    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        self._refuse(self.fault)
        rival, self.before_move = self.before_move, None
        if rival is not None:
            rival()
        if self.links.get(mark) != toplevel:
            return False
        self._refuse(self.write_fault)
        self.unreadable.discard(to)
        self.links[to] = self.links.pop(mark)
        self.times[to] = self.times.pop(mark)
        return True

    @staticmethod
    def _refuse(*faults: HostError | None) -> None:
        for fault in faults:
            if fault is not None:
                raise fault
