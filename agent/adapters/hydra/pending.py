"""What Hydra has that is newer than what it offers: queued, failed, or waiting for its eval."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent.adapters.hydra import models, paths
from agent.adapters.hydra.upcoming_builds import is_project_disabled
from agent.application.ports import Pending
from agent.domain.errors import HydraError
from agent.domain.job import Select

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agent.adapters.hydra.conversation import Conversation
    from agent.domain.build import Build
    from agent.domain.job import Job

_T = TypeVar("_T")


async def look(conversation: Conversation, job: Job, build: Build, select: Select) -> Pending:
    """Ask each question one time; what fails becomes the fault."""
    faults: list[HydraError] = []

    async def attempt(question: Awaitable[_T]) -> _T | None:
        try:
            return await question
        except HydraError as error:
            faults.append(error)
            return None

    newest = await attempt(_newest(conversation, job))
    good = None
    if select is Select.LATEST_FINISHED:
        good = await attempt(_newest_good(conversation, job))
    is_disabled = await attempt(is_project_disabled(conversation, job))
    return Pending(
        newest=newest if newest is not None and newest.id > build.id else None,
        waiting=good if good is not None and good > build.id else None,
        is_project_disabled=is_disabled,
        fault=next(iter(faults), None),
    )


async def _newest(conversation: Conversation, job: Job) -> Build | None:
    """Return the job's build in the newest eval, finished or not."""
    answer = await conversation.ask_once(paths.jobset_path(job, "evals"))
    evals = models.parse(models.EvalsAnswer, answer).evals
    if not evals:
        return None
    newest = max(entry.id for entry in evals)
    answer = await conversation.ask_once(paths.eval_job_path(newest, job))
    if not answer.is_redirect:
        return None
    answer = await conversation.ask_once(f"/build/{paths.build_id_of(answer)}")
    return models.parse(models.BuildAnswer, answer).to_build()


async def _newest_good(conversation: Conversation, job: Job) -> int | None:
    """Return the newest good build, whatever its eval still has to build."""
    answer = await conversation.ask_once(paths.job_path(job, Select.LATEST))
    return paths.build_id_of(answer) if answer.is_redirect else None
