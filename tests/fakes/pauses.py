"""An agenda in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Agenda
from agent.domain.reboot import RebootPlan

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.errors import JournalError
    from agent.domain.pause import Pause
    from agent.domain.store_path import StorePath


class FakeAgenda(Agenda):
    """Keeps one pause and one plan; with `fault` nothing can be written.

    With `read_fault` nothing can be read, either.
    """

    def __init__(self) -> None:
        self.paused: Pause | None = None
        self.plan: RebootPlan | None = None
        self.cleaned: set[StorePath] = set()
        self.fault: JournalError | None = None
        self.read_fault: JournalError | None = None

    @override
    def pause(self, now: datetime) -> Pause | None:
        self._check_readable()
        pause = self.paused
        is_over = pause is not None and pause.until is not None and pause.until <= now
        return None if is_over else pause

    @override
    def set_pause(self, pause: Pause | None) -> None:
        self._check()
        self.paused = pause

    @override
    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        self._check_readable()
        if self.plan is not None and self.plan.toplevel == toplevel:
            return self.plan
        return RebootPlan(toplevel)

    @override
    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        self._check()
        self.plan = plan

    @override
    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        return toplevel in self.cleaned

    @override
    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        self._check()
        self.cleaned.add(toplevel)

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _check_readable(self) -> None:
        if self.read_fault is not None:
            raise self.read_fault
