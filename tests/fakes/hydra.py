"""A Hydra in memory: builds, evals and jobsets, answering by Hydra's own rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Hydra, Outlook, Pending
from agent.domain.build import BUILD_STATUS
from agent.domain.errors import HydraError, Kind
from agent.domain.evaluation import parse_evaluation_errors
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.job import Select

if TYPE_CHECKING:
    from agent.domain.build import Build
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.job import Job


@dataclass
class FakeJobset:
    """A jobset; `evals` maps each eval that still exists to its flake."""

    evals: dict[int, str | None] = field(default_factory=dict)
    is_enabled: bool = True
    is_overdue: bool = False
    """Whether its next check should have been long ago."""
    error: str = ""
    renamed_to: str | None = None


class FakeHydra(Hydra):
    """Holds `builds` by id and `jobsets` by (project, jobset).

    Which build is in which eval is what the builds themselves say. While `fault` is set, every
    question ends in it. `asked` names the questions, in order.
    """

    def __init__(self) -> None:
        self.builds: dict[int, Build] = {}
        self.jobsets: dict[tuple[str, str], FakeJobset] = {}
        self.disabled_projects: set[str] = set()
        self.fault: HydraError | None = None
        self.asked: list[str] = []
        self.spared: list[float | None] = []

    def add(self, *builds: Build) -> None:
        """Add builds, or replace those with the same ids."""
        self.builds |= {build.id: build for build in builds}

    @override
    def back_off(self, wait: float | None) -> None:
        self.spared.append(wait)

    @override
    async def newest_good_build(self, job: Job, select: Select) -> int:
        self._hear("newest_good_build")
        good = [build.id for build in self._builds_of(job) if build.is_good]
        if select is Select.LATEST_FINISHED:
            good = [id_ for id_ in good if any(map(self._is_whole, self.builds[id_].evals))]
        if (job.project, job.jobset) not in self.jobsets or self._jobset(job).renamed_to:
            raise self._no_jobset(job)
        if good:
            return max(good)
        raise self._absence(job, select)

    @override
    async def build(self, build_id: int) -> Build:
        self._hear("build")
        if build_id not in self.builds:
            raise HydraError(Kind.BUILD_MISSING, f"build {build_id} does not exist")
        return self.builds[build_id]

    @override
    async def locked_flake(self, build: Build) -> tuple[int, LockedFlakeReference]:
        self._hear("locked_flake")
        if not build.evals:
            raise HydraError(Kind.BUILD_WITHOUT_EVAL, f"build {build.id} belongs to no eval")
        flakes = {
            id_: text for jobset in self.jobsets.values() for id_, text in jobset.evals.items()
        }
        for eval_id in build.evals_newest_first:
            if eval_id in flakes:
                return eval_id, parse_locked_flake_reference(flakes[eval_id])
        raise HydraError(Kind.EVAL_MISSING, f"no eval of build {build.id} exists")

    @override
    async def outlook(self, job: Job, build: Build | None) -> Outlook:
        if self.spared:
            return Outlook()
        self.asked.append("outlook")
        if self.fault is not None:
            return Outlook(fault=self.fault)
        if (job.project, job.jobset) not in self.jobsets:
            return Outlook(fault=self._no_jobset(job))
        jobset = self._jobset(job)
        errors = parse_evaluation_errors(jobset.error)
        finished = [known for known in self._builds_of(job) if known.is_finished]
        newest = max(finished, key=lambda known: known.id, default=None)
        whole = max(filter(self._is_whole, jobset.evals), default=0)
        is_gone = (
            build is not None
            and whole > max(build.evals, default=whole)
            and not any(whole in known.evals for known in self._builds_of(job))
            and not errors.of_job(job.name)
        )
        return Outlook(
            newer_build_failed=None if newest is None else newest.status not in (0, 4),
            gone_since_eval=whole if is_gone else None,
            is_jobset_disabled=not jobset.is_enabled,
            is_project_disabled=(
                job.project in self.disabled_projects if jobset.is_overdue else None
            ),
            evaluation_error=errors.concerning(job.name),
        )

    @override
    async def pending(self, job: Job, build: Build, select: Select) -> Pending:
        self.asked.append("pending")
        if self.fault is not None:
            return Pending(fault=self.fault)
        if (job.project, job.jobset) not in self.jobsets:
            return Pending(fault=self._no_jobset(job))
        newest_eval = max(self._jobset(job).evals, default=None)
        known = self._builds_of(job)
        newest = next((one for one in known if newest_eval in one.evals), None)
        good = max((one.id for one in known if one.is_good), default=0)
        is_held_back = select is Select.LATEST_FINISHED and good > build.id
        return Pending(
            newest=newest if newest is not None and newest.id > build.id else None,
            waiting=good if is_held_back else None,
            is_project_disabled=job.project in self.disabled_projects,
        )

    def _hear(self, question: str) -> None:
        self.asked.append(question)
        if self.fault is not None:
            raise self.fault

    def _jobset(self, job: Job) -> FakeJobset:
        return self.jobsets[job.project, job.jobset]

    def _builds_of(self, job: Job) -> list[Build]:
        wanted = (job.project, job.jobset, job.name)
        return [
            build
            for build in self.builds.values()
            if (build.project, build.jobset, build.job) == wanted
        ]

    def _is_whole(self, eval_id: int) -> bool:
        """Whether nothing of the eval is left to build, however it ended."""
        return all(build.is_finished for build in self.builds.values() if eval_id in build.evals)

    def _no_jobset(self, job: Job) -> HydraError:
        known = self.jobsets.get((job.project, job.jobset))
        if known is not None:
            return HydraError(Kind.JOBSET_RENAMED, f"the jobset is called {known.renamed_to!r} now")
        return HydraError(Kind.JOBSET_MISSING, f"no jobset of {job}")

    def _absence(self, job: Job, select: Select) -> HydraError:  # noqa: PLR0911 - one per reason
        jobset, builds = self._jobset(job), self._builds_of(job)
        errors = parse_evaluation_errors(jobset.error)
        if select is Select.LATEST_FINISHED and any(build.is_good for build in builds):
            return HydraError(Kind.JOB_NOT_BUILT_YET, f"{job} is good in no finished eval")
        for build in sorted(builds, key=lambda build: build.status != 0):
            if not build.is_finished and build.status == 0:
                return HydraError(Kind.BUILD_UNFINISHED, f"{job} is being built again")
            if not build.is_finished:
                return HydraError(Kind.JOB_NOT_BUILT_YET, f"{job} waits for its first good build")
        if not jobset.is_enabled or job.project in self.disabled_projects:
            return HydraError(Kind.JOBSET_DISABLED, f"the jobset of {job} is disabled")
        newest_eval = max(jobset.evals, default=None)
        if newest_eval is None:
            return HydraError(Kind.JOBSET_NEVER_EVALUATED, f"{job}: {errors.first}")
        for build in builds:
            if newest_eval in build.evals:
                how = BUILD_STATUS.get(-1 if build.status is None else build.status, "failed")
                return HydraError(Kind.JOB_NEVER_GOOD, f"build {build.id} of {job} {how}")
        if own := errors.of_job(job.name):
            return HydraError(Kind.JOB_NOT_EVALUATED, f"{job}: {own}")
        return HydraError(Kind.JOB_MISSING, f"no job {job} in eval {newest_eval}")
