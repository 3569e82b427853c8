"""Finds out why a job has no good build: Hydra's own 404 says the same for every reason."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.adapters.hydra import models, paths
from agent.domain.build import BUILD_STATUS
from agent.domain.errors import HydraError, Kind
from agent.domain.job import Select

if TYPE_CHECKING:
    from agent.adapters.hydra.conversation import Conversation
    from agent.adapters.hydra.transport import Answer
    from agent.domain.job import Job

_NOT_FOUND: Final = 404


async def explain(
    conversation: Conversation, job: Job, select: Select, answer: Answer
) -> HydraError:
    """Return the fault that a 404 for the job's newest good build stands for.

    A question that fails in turn is passed over; when none is left the kind is
    JOB_WITHOUT_GOOD_BUILD, or HYDRA_STATUS when the 404 is none of Hydra's.
    """
    said = _hydras_words(answer)
    if said is None:
        return HydraError(
            Kind.HYDRA_STATUS,
            f"{answer.url}: status 404, and not from Hydra",
            hint="is the path of hydra.instance right? It is all that stands before /job",
        )
    # Of a missing project it says the same (recorded `job-latest-nosuch-project.json`).
    if "doesn't exist" in said:
        return HydraError(
            Kind.JOBSET_MISSING,
            f"Hydra at {answer.instance} has no jobset {job.jobset!r} in a project {job.project!r}",
            hint="check hydra.project and hydra.jobset; Hydra's page of the project lists its"
            " jobsets",
        )
    return await _Inquiry(conversation, job, select, answer.instance).why()


def _hydras_words(answer: Answer) -> str | None:
    with suppress(HydraError):
        return models.parse(models.ErrorAnswer, answer).error
    return None


class _Inquiry:
    """The further questions, the cheap ones first; each is asked at most once."""

    def __init__(self, conversation: Conversation, job: Job, select: Select, instance: str) -> None:
        self._conversation = conversation
        self._job = job
        self._select = select
        self._instance = instance
        self._of = f"{job} at {instance}"

    async def why(self) -> HydraError:
        jobset = await self._jobset()
        if jobset is not None and jobset.is_disabled:
            return HydraError(
                Kind.JOBSET_DISABLED,
                f"the jobset of {self._of} is disabled and has no good build of the job",
                hint="enable the jobset in Hydra, or check hydra.jobset",
            )
        error = "" if jobset is None else jobset.first_error_line
        return (
            await self._built_badly()
            or await self._by_newest_eval(error)
            or HydraError(
                Kind.JOB_WITHOUT_GOOD_BUILD,
                f"{self._of} has no good build, and Hydra did not tell why",
                hint="look at the job's page in Hydra",
            )
        )

    async def _jobset(self) -> models.JobsetAnswer | None:
        with suppress(HydraError):
            answer = await self._conversation.ask(paths.jobset_path(self._job, "errors"))
            return models.parse(models.JobsetAnswer, answer)
        return None

    async def _built_badly(self) -> HydraError | None:
        """Return the fault of a job that has been built; None if it has not, or who knows."""
        with suppress(HydraError):
            answer = await self._conversation.ask(paths.latest_build_path(self._job))
            builds = models.parse(models.LatestBuildsAnswer, answer).root
            if self._select is Select.LATEST_FINISHED and await self._has_good_build():
                return HydraError(
                    Kind.JOB_NOT_BUILT_YET,
                    f"{self._of} has good builds, but none in an eval that is finished",
                    hint="wait for the eval's other builds, or set hydra.select to 'latest'",
                )
            newest = builds[0] if builds else None
            # One that is good has finished since, and the next run will be told.
            if newest is not None and newest.buildstatus != 0:
                how = BUILD_STATUS.get(
                    -1 if newest.buildstatus is None else newest.buildstatus, "failed"
                )
                return HydraError(
                    Kind.JOB_NEVER_GOOD,
                    f"{self._of} has no good build: its newest, {newest.id}, {how}",
                    hint=f"see {self._instance}/build/{newest.id}",
                )
        return None

    async def _has_good_build(self) -> bool:
        answer = await self._conversation.ask(paths.job_path(self._job, Select.LATEST))
        return answer.is_redirect

    async def _by_newest_eval(self, error: str) -> HydraError | None:
        """Return the fault of a job without any finished build; None where Hydra won't say.

        `/jobset/P/J/latest-eval` is no help: it names the newest *finished* eval, which never has
        a job that still waits for its first build.
        """
        with suppress(HydraError):
            answer = await self._conversation.ask(paths.jobset_path(self._job, "evals"))
            evals = models.parse(models.EvalsAnswer, answer).evals
            if not evals:
                return self._never_evaluated(error)
            newest = max(entry.id for entry in evals)
            answer = await self._conversation.ask(paths.eval_job_path(newest, self._job))
            if answer.is_redirect:
                return self._waiting(newest, answer)
            if answer.status == _NOT_FOUND and _hydras_words(answer) is not None:
                return self._missing(newest, error)
        return None

    def _never_evaluated(self, error: str) -> HydraError:
        if error:
            told = f"the jobset of {self._of} has never been evaluated successfully: {error}"
            return HydraError(
                Kind.JOBSET_NEVER_EVALUATED, told, hint="mend what Hydra cannot evaluate"
            )
        return HydraError(
            Kind.JOBSET_NEVER_EVALUATED,
            f"the jobset of {self._of} has not been evaluated yet",
            hint="wait, or look whether its check interval is 0 and nothing triggers it",
        )

    def _waiting(self, eval_id: int, answer: Answer) -> HydraError:
        build_id = paths.build_id_of(answer)
        return HydraError(
            Kind.JOB_NOT_BUILT_YET,
            f"{self._of} waits for its first build, {build_id} in eval {eval_id}",
            hint="wait; if it never starts, no builder supports its platform",
        )

    def _missing(self, eval_id: int, error: str) -> HydraError:
        told = f"; the jobset's evaluation reports: {error}" if error else ""
        return HydraError(
            Kind.JOB_MISSING,
            f"there is no job {self._job.name!r} in eval {eval_id}, the newest of {self._of}{told}",
            hint="check hydra.job (a name with dots stands in double quotes) and the flake's"
            " hydraJobs",
        )
