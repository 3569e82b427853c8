"""What Hydra says about builds to come: a failed one, a job that is gone, a disabled jobset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from agent.adapters.hydra import models, paths
from agent.application.ports import Outlook
from agent.domain.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agent.adapters.hydra.conversation import Conversation
    from agent.domain.build import Build
    from agent.domain.job import Job

_T = TypeVar("_T")


async def look(conversation: Conversation, job: Job, build: Build | None, *, now: float) -> Outlook:
    """Ask each question one time; what fails becomes the outlook's fault. `now`: Unix seconds.

    One after the other: a Hydra that is too busy for one is not asked the next.
    """
    newer_failed = await _attempt(_newest_failed(conversation, job))
    gone_since = await _attempt(_gone_since(conversation, job, build))
    jobset = await _attempt(_jobset(conversation, job))
    known = jobset if isinstance(jobset, models.JobsetAnswer) else None
    is_off = None
    if known is not None and known.is_overdue(now):
        is_off = await _attempt(is_project_disabled(conversation, job))
    answers = (newer_failed, gone_since, jobset, is_off)
    errors = None if known is None else known.errors
    # A job that does not evaluate is in no new eval either, and comes again when it is corrected.
    may_be_gone = errors is not None and not errors.of_job(job.name)
    return Outlook(
        newer_build_failed=None if isinstance(newer_failed, AgentError) else newer_failed,
        gone_since_eval=(
            gone_since if may_be_gone and not isinstance(gone_since, AgentError) else None
        ),
        is_jobset_disabled=None if known is None else known.is_disabled,
        is_project_disabled=None if isinstance(is_off, AgentError) else is_off,
        evaluation_error=None if errors is None else errors.concerning(job.name),
        fault=next((answer for answer in answers if isinstance(answer, AgentError)), None),
    )


async def _attempt(question: Coroutine[object, object, _T]) -> _T | AgentError:
    try:
        return await question
    except AgentError as error:
        return error


async def _newest_failed(conversation: Conversation, job: Job) -> bool | None:
    """Whether the newest finished build failed; None where the job's badge does not say.

    The badge is the only cheap answer: `/api/latestbuilds` costs Hydra a scan. The job's metrics
    say the same, but count a build that was cancelled as one that failed (Job.pm).
    """
    answer = await conversation.ask_once(paths.job_path(job, "shield"))
    if answer.is_missing:
        return None
    return _FAILED.get(models.parse(models.ShieldAnswer, answer).message)


_FAILED: Final = {"passing": False, "cancelled": False, "failing": True}


async def _gone_since(conversation: Conversation, job: Job, build: Build | None) -> int | None:
    """Return the newest finished eval if it is newer than the build and has no such job."""
    if build is None or not build.evals:
        return None
    answer = await conversation.ask_once(paths.jobset_path(job, "latest-eval"))
    if answer.is_missing:
        return None
    newest = paths.eval_id_of(answer)
    if newest <= max(build.evals):
        return None
    answer = await conversation.ask_once(paths.eval_job_path(newest, job))
    return newest if answer.is_missing else None


async def is_project_disabled(conversation: Conversation, job: Job) -> bool:
    """A disabled project leaves its jobsets enabled, so that only its own page says so."""
    answer = await conversation.ask_once(paths.project_path(job))
    return models.parse(models.ProjectAnswer, answer).is_disabled


async def _jobset(conversation: Conversation, job: Job) -> models.JobsetAnswer:
    answer = await conversation.ask_once(paths.jobset_path(job, "errors"))
    return models.parse(models.JobsetAnswer, answer)
