"""The `UpdateJobset` port over HTTP: how far Hydra has come with the branch of an update.

What is asked is little, since it is asked again and again for hours: the jobset's own page, one
page of its evals, and each unfinished build. Sources: field by field the recorded answers
`jobset-main-evals`, `jobset-broken-errors`, `eval-18-job-alpha` and `build-*`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from agent.adapters.http.retries import Repeater
from agent.adapters.hydra import models, paths
from agent.adapters.hydra.conversation import RETRIES, Conversation
from agent.adapters.hydra.transport import Transport
from agent.application import events
from agent.application.flake_update.ports import JobsetState, UpdateJobset
from agent.domain.errors import HydraError, Kind
from agent.domain.flake_update.hydra_proof import HostJob, JobState, job_of_build
from agent.domain.job import Job, default_job_name
from agent.lean.hydra_session import Session

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.adapters.http.retries import Retries
    from agent.adapters.hydra.transport import Answer
    from agent.application.ports import Clock, EventSink

_CHECK_NAMES: Final = "check flake_update.hydra.project and flake_update.hydra.jobset"
HOST: Final = "{host}"
"""What the template of a job's name has in place of the host."""


class HydraUpdateJobset(UpdateJobset):
    """One jobset of one Hydra.

    `job` is the template of the hosts' jobs, such as `nixos.{host}`. `timeout` and `deadline` are
    the seconds that one request, and each question with its retries, may take. All questions have
    one session, since Hydra makes a new one for each request that brings none.
    """

    def __init__(
        self,
        jobset: Job,
        *,
        timeout: float,
        deadline: float,
        sink: EventSink,
        clock: Clock,
        retries: Retries | None = None,
    ) -> None:
        self._jobset = jobset
        self._clock = clock
        repeater = Repeater(events.REQUEST_RETRIED, sink, clock, retries or RETRIES)
        self._converse = partial(
            Conversation, repeater=repeater, timeout=timeout, deadline=deadline
        )
        self._session = Session(jobset.instance)

    @override
    async def require(self) -> None:
        found = await self._page()
        project = await self._project()
        where = f"the jobset {self._jobset.jobset!r} of the project {self._jobset.project!r}"
        if found is None and not (project and project.declares_jobsets):
            raise HydraError(
                Kind.JOBSET_MISSING,
                f"Hydra at {self._jobset.instance} does not have {where}",
                hint=_CHECK_NAMES,
            )
        disabled = "jobset" if found and found.is_disabled else "project"
        if (found and found.is_disabled) or (project and project.is_disabled):
            raise HydraError(
                Kind.JOBSET_DISABLED,
                f"of {where}, the {disabled} is disabled: Hydra evaluates nothing of it",
                hint=f"enable the {disabled} in Hydra, or {_CHECK_NAMES}",
            )

    @override
    async def state(self, hosts: Collection[str]) -> JobsetState | None:
        found = await self._page()
        if found is None:
            return None
        own = ((host, found.errors.of_job(self._job_of(host).name)) for host in hosts)
        of_host = next((f"{host} does not evaluate: {error}" for host, error in own if error), "")
        return JobsetState(
            found.errors.general or of_host,
            found.errortime,
            found.lastcheckedtime,
            check_interval=found.checkinterval,
            is_under_way=found.is_under_way,
            is_enabled=not found.is_disabled,
        )

    async def _page(self) -> models.JobsetAnswer | None:
        answer = await self._ask(paths.jobset_path(self._jobset, "errors"))
        if answer.is_missing:
            models.parse(models.ErrorAnswer, answer)
            return None
        return models.parse(models.JobsetAnswer, paths.direct(answer))

    async def _project(self) -> models.ProjectAnswer | None:
        """Return what is known of the project; without it nothing is held against the jobset."""
        answer = await self._ask(paths.project_path(self._jobset))
        with suppress(HydraError):
            return models.parse(models.ProjectAnswer, paths.direct(answer))
        return None

    @override
    async def find_eval(self, revision: str) -> int | None:
        evals = await self._evals()
        return max((one.id for one in evals if _is_of(one.flake, revision)), default=None)

    @override
    async def newest_eval(self) -> int | None:
        return max((one.id for one in await self._evals()), default=None)

    async def _evals(self) -> list[models.ListedEvalAnswer]:
        answer = await self._ask(paths.jobset_path(self._jobset, "evals"))
        if answer.is_missing:
            raise HydraError(
                Kind.JOBSET_MISSING,
                f"{answer.url}: there is no such jobset",
                hint=_CHECK_NAMES,
            )
        return models.parse(models.EvalsAnswer, paths.direct(answer)).evals

    @override
    async def job_of(self, eval_id: int, host: str) -> HostJob:
        job = self._job_of(host)
        answer = await self._ask(paths.eval_job_path(eval_id, job))
        if answer.is_missing:
            models.parse(models.ErrorAnswer, answer)
            link = f"{self._jobset.instance}/eval/{eval_id}"
            page = await self._page()
            error = page.errors.of_job(job.name) if page else ""
            reason = f"does not evaluate: {error}" if error else f"has no job {job.name}"
            return HostJob(host, JobState.RED, link, reason)
        build_id = paths.build_id_of(answer)
        build = models.parse(
            models.BuildAnswer, paths.direct(await self._ask(f"/build/{build_id}"))
        )
        return job_of_build(host, build.to_build(), f"{self._jobset.instance}/build/{build_id}")

    def _job_of(self, host: str) -> Job:
        name = self._jobset.name.replace(HOST, default_job_name(host))
        return replace(self._jobset, name=name)

    async def _ask(self, path: str) -> Answer:
        """Return one answer; each question has a conversation, and so a deadline, of its own."""
        transport = Transport(self._jobset.instance, self._clock, session=self._session)
        try:
            return await self._converse(transport).ask(path)
        finally:
            await transport.aclose()


def _is_of(flake: str | None, revision: str) -> bool:
    """Whether a locked flake reference is of a git revision, in its query or in its path."""
    try:
        url = urlsplit(flake or "")
    except ValueError:
        return False
    return revision in parse_qs(url.query).get("rev", []) or revision in url.path.split("/")
