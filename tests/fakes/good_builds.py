"""Good builds in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import GoodBuilds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.domain.candidate import Candidate
    from agent.domain.job import Job


class FakeGoodBuilds(GoodBuilds):
    """Keeps the builds of one job; while `is_unreadable` there seem to be none, nor are any kept."""

    def __init__(self) -> None:
        self.builds: tuple[Candidate, ...] = ()
        self.is_unreadable = False

    @override
    def read(self, job: Job) -> tuple[Candidate, ...]:
        if self.is_unreadable:
            return ()
        return tuple(build for build in self.builds if build.job == job)

    @override
    def keep(self, job: Job, builds: Sequence[Candidate]) -> None:
        del job
        if not self.is_unreadable:
            self.builds = tuple(builds)
