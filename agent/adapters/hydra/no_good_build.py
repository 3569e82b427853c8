"""Finds out why a job has no good build: Hydra's own 404 says the same for every reason."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from agent.adapters.hydra import models, paths
from agent.domain.build import BUILD_STATUS
from agent.domain.errors import HydraError, Kind
from agent.domain.evaluation import EvaluationErrors
from agent.domain.job import Select

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agent.adapters.hydra.conversation import Conversation
    from agent.adapters.hydra.transport import Answer
    from agent.domain.job import Job

_T = TypeVar("_T")
_QUEUED: Final = 200
"""How many builds of the queue are looked through; one that is built again has a low id."""
_LOOKS_AGAIN: Final = "the next run looks again"


async def explain(
    conversation: Conversation, job: Job, select: Select, answer: Answer
) -> HydraError:
    """Return the error for a 404 where the job's newest good build belongs.

    A question that fails in turn is passed over. When none is left the fault is that of a question
    which may be answered later; where there is none, its kind is JOB_WITHOUT_GOOD_BUILD, or
    HYDRA_STATUS when the 404 is none of Hydra's.
    """
    error = _hydras_message(answer)
    if error is None:
        return HydraError(
            Kind.HYDRA_STATUS,
            f"{answer.url}: status 404, and not from Hydra",
            hint="is the path of hydra.instance right? It is all that stands before /job",
        )
    # Of a missing project it says the same (recorded `job-latest-nosuch-project.json`).
    if "doesn't exist" in error:
        return HydraError(
            Kind.JOBSET_MISSING,
            f"Hydra at {answer.instance} has no jobset {job.jobset!r} in a project {job.project!r}",
            hint="check hydra.project and hydra.jobset; Hydra's page of the project lists its"
            " jobsets",
        )
    return await _Diagnosis(conversation, job, select, answer.instance).why()


def _hydras_message(answer: Answer) -> str | None:
    with suppress(HydraError):
        return models.parse(models.ErrorAnswer, answer).error
    return None


class _Diagnosis:
    """The further questions, the cheap ones first; each is asked at most once.

    What passes by itself goes first, such as a build in progress; then what has to be fixed.
    """

    def __init__(self, conversation: Conversation, job: Job, select: Select, instance: str) -> None:
        self._conversation = conversation
        self._job = job
        self._select = select
        self._instance = instance
        self._of = f"{job} at {instance}"
        self._unanswered: HydraError | None = None

    async def why(self) -> HydraError:
        jobset = await self._try(self._jobset())
        errors_unknown, self._unanswered = self._unanswered, None
        # What is not known now is at the next run, and nobody has to look at it.
        verdict = await self._by_builds(jobset) or self._unanswered
        if verdict is None:
            verdict = await self._by_disabled(jobset) or self._bad or errors_unknown
        if verdict is None:
            verdict = self._by_evaluation(jobset)
        return verdict or HydraError(
            Kind.JOB_WITHOUT_GOOD_BUILD,
            f"{self._of} has no good build, and Hydra did not say why",
            hint="look at the job's page in Hydra",
        )

    _newest: int | None = None
    """The newest eval, when its list could be read and is not empty."""
    _is_listed = False
    """Whether the list of evals could be read."""
    _is_missing = False
    """Whether the newest eval has no such job."""
    _bad: HydraError | None = None
    """What became of the newest build, when it was nothing good."""

    async def _try(self, question: Awaitable[_T]) -> _T | None:
        """Return an answer, None without one; a fault that passes is remembered."""
        try:
            return await question
        except HydraError as error:
            if error.passes:
                self._unanswered = self._unanswered or error
            return None

    async def _jobset(self) -> models.JobsetAnswer:
        answer = await self._conversation.ask(paths.jobset_path(self._job, "errors"))
        return models.parse(models.JobsetAnswer, answer)

    async def _by_builds(self, jobset: models.JobsetAnswer | None) -> HydraError | None:
        """Return the fault of a job that is being built, or good where it cannot be taken yet."""
        if self._select is Select.LATEST_FINISHED and await self._try(self._has_good_build()):
            return self._in_unfinished_eval()
        verdict = await self._try(self._by_newest_eval())
        if verdict is None and (self._is_missing or self._bad is not None or not self._is_listed):
            verdict = await self._try(self._by_queue())
        if verdict is None and not self._is_listed:
            await self._try(self._by_newest_build())
        if verdict is None and self._is_listed and self._newest is None:
            verdict = self._first_evaluation(jobset)
        return verdict

    async def _has_good_build(self) -> bool:
        answer = await self._conversation.ask(paths.job_path(self._job, Select.LATEST))
        return answer.is_redirect

    async def _by_newest_eval(self) -> HydraError | None:
        """Look at the job's build in the newest eval.

        `/jobset/P/J/latest-eval` is no help: it names the newest *finished* eval, which never has
        a job that still waits for its first build.
        """
        answer = await self._conversation.ask(paths.jobset_path(self._job, "evals"))
        evals = models.parse(models.EvalsAnswer, answer).evals
        self._is_listed = True
        if not evals:
            return None
        self._newest = max(entry.id for entry in evals)
        answer = await self._conversation.ask(paths.eval_job_path(self._newest, self._job))
        if not answer.is_redirect:
            self._is_missing = answer.is_missing and _hydras_message(answer) is not None
            return None
        return await self._by_build(paths.build_id_of(answer), f"in eval {self._newest}")

    async def _by_queue(self) -> HydraError | None:
        """Look for a build that is older and built again, which goes first in the queue."""
        answer = await self._conversation.ask(paths.queue_path(_QUEUED))
        queue = models.parse(models.QueueAnswer, answer).root
        wanted = (self._job.project, self._job.jobset, self._job.name)
        ours = [one.id for one in queue if (one.project, one.jobset, one.job) == wanted]
        bad, found = self._bad, [await self._by_build(one, "in the queue") for one in ours[:3]]
        self._bad = bad
        found.sort(key=lambda one: one is None or one.kind is not Kind.BUILD_UNFINISHED)
        return next(iter(found), None)

    async def _by_build(self, build_id: int, where: str) -> HydraError | None:
        answer = await self._conversation.ask(f"/build/{build_id}")
        build = models.parse(models.BuildAnswer, answer).to_build()
        if build.is_finished and not build.is_good:
            self._bad = self._never_good(build_id, build.status)
            return None
        if build.status == 0:
            what = "has just become good" if build.is_finished else "is being built again"
            return HydraError(
                Kind.BUILD_UNFINISHED,
                f"build {build_id} of {self._of}, {where}, {what}, and there is no other good one",
                hint=_LOOKS_AGAIN,
            )
        return HydraError(
            Kind.JOB_NOT_BUILT_YET,
            f"{self._of} waits for its first good build, {build_id} {where}",
            hint=f"{_LOOKS_AGAIN}; if the build never starts, does a builder support"
            f" {build.system}?",
        )

    async def _by_newest_build(self) -> None:
        """Look at the newest finished build; for where the evals are too many to be listed."""
        answer = await self._conversation.ask(paths.latest_build_path(self._job))
        builds = models.parse(models.LatestBuildsAnswer, answer).root
        if builds and builds[0].buildstatus != 0:
            self._bad = self._never_good(builds[0].id, builds[0].buildstatus)

    def _in_unfinished_eval(self) -> HydraError:
        return HydraError(
            Kind.JOB_NOT_BUILT_YET,
            f"{self._of} has good builds, but none in an eval that is finished",
            hint="the next run looks again; an eval with a build that can never start, such as one"
            " for a platform without a builder, is never finished: remove that job, or set"
            " hydra.select to 'latest'",
        )

    def _never_good(self, build_id: int, status: int | None) -> HydraError:
        how = BUILD_STATUS.get(-1 if status is None else status, "failed")
        return HydraError(
            Kind.JOB_NEVER_GOOD,
            f"{self._of} has no good build: its newest, {build_id}, {how}",
            hint=f"see {self._instance}/build/{build_id}",
        )

    def _first_evaluation(self, jobset: models.JobsetAnswer | None) -> HydraError | None:
        if jobset is None or not jobset.is_under_way:
            return None
        return HydraError(
            Kind.JOB_NOT_BUILT_YET,
            f"the jobset of {self._of} is being evaluated for the first time",
            hint=_LOOKS_AGAIN,
        )

    async def _by_disabled(self, jobset: models.JobsetAnswer | None) -> HydraError | None:
        if jobset is not None and jobset.is_disabled:
            what, do = "jobset", "enable the jobset in Hydra, or check hydra.jobset"
        elif await self._try(self._is_project_disabled()):
            what, do = "project", "enable the project in Hydra, or check hydra.project"
        else:
            return None
        return HydraError(
            Kind.JOBSET_DISABLED,
            f"the {what} of {self._of} is disabled and has no good build of the job",
            hint=do,
        )

    async def _is_project_disabled(self) -> bool:
        answer = await self._conversation.ask(paths.project_path(self._job))
        return models.parse(models.ProjectAnswer, answer).is_disabled

    def _by_evaluation(self, jobset: models.JobsetAnswer | None) -> HydraError | None:
        """Return the fault of a job without any build; None where Hydra does not say."""
        errors = EvaluationErrors() if jobset is None else jobset.errors
        if self._is_listed and self._newest is None:
            return self._never_evaluated(errors.concerning(self._job.name) or errors.first)
        if self._is_missing and (own := errors.of_job(self._job.name)):
            return HydraError(
                Kind.JOB_NOT_EVALUATED,
                f"{self._of} has no good build, and Hydra cannot evaluate it: {own}",
                hint="correct the host's configuration; the jobset's page in Hydra shows all of it",
            )
        return self._missing(errors.general) if self._is_missing else None

    def _never_evaluated(self, error: str) -> HydraError:
        if error:
            message = f"the jobset of {self._of} has never been evaluated successfully: {error}"
            return HydraError(
                Kind.JOBSET_NEVER_EVALUATED, message, hint="correct what Hydra cannot evaluate"
            )
        return HydraError(
            Kind.JOBSET_NEVER_EVALUATED,
            f"the jobset of {self._of} has not been evaluated yet",
            hint="wait, or look whether its check interval is 0 and nothing triggers it",
        )

    def _missing(self, error: str) -> HydraError:
        message = f"; the evaluation of the whole jobset fails at present: {error}" if error else ""
        return HydraError(
            Kind.JOB_MISSING,
            f"there is no job {self._job.name!r} in eval {self._newest}, the newest of {self._of}"
            f"{message}",
            hint="check hydra.job (a name with dots stands in double quotes) and the flake's"
            " hydraJobs",
        )
