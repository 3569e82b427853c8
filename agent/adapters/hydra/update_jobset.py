"""The `UpdateJobset` port over HTTP: how far Hydra has come with the branch of an update.

What is asked is little, since it is asked again and again for hours: the jobset's own page, one
page of its evals, and each unfinished build. Sources: field by field the recorded answers
`jobset-main-evals`, `jobset-broken-errors`, `eval-18-job-alpha` and `build-*`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from agent.adapters.hydra import models, paths
from agent.adapters.hydra.conversation import RETRIES, Conversation
from agent.adapters.hydra.transport import Transport
from agent.application.flake_update.ports import JobsetState, UpdateJobset
from agent.domain.errors import HydraError, Kind
from agent.domain.flake_update.hydra_proof import HostJob, JobState, job_of_build
from agent.domain.job import Job, default_job_name

if TYPE_CHECKING:
    from agent.adapters.hydra.transport import Answer
    from agent.adapters.retries import Retries
    from agent.application.ports import Clock, EventSink

_NOT_FOUND: Final = 404
HOST: Final = "{host}"
"""What the template of a job's name has in place of the host."""


class HydraUpdateJobset(UpdateJobset):
    """One jobset of one Hydra.

    `job` is the template of the hosts' jobs, such as `nixos.{host}`. `timeout` and `deadline` are
    the seconds that one request, and each question with its retries, may take.
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
        self._timeout = timeout
        self._deadline = deadline
        self._sink = sink
        self._clock = clock
        self._retries = retries or RETRIES

    @override
    async def state(self) -> JobsetState | None:
        answer = await self._ask(paths.jobset_path(self._jobset, "errors"))
        if answer.status == _NOT_FOUND:
            models.parse(models.ErrorAnswer, answer)
            return None
        found = models.parse(models.JobsetAnswer, _direct(answer))
        return JobsetState(found.errors.first, found.errortime, found.lastcheckedtime)

    @override
    async def find_eval(self, revision: str) -> int | None:
        evals = await self._evals()
        return max((one.id for one in evals if _is_of(one.flake, revision)), default=None)

    @override
    async def newest_eval(self) -> int | None:
        return max((one.id for one in await self._evals()), default=None)

    async def _evals(self) -> list[models.FlakeEvalAnswer]:
        answer = await self._ask(paths.jobset_path(self._jobset, "evals"))
        if answer.status == _NOT_FOUND:
            raise HydraError(
                Kind.JOBSET_MISSING,
                f"{answer.url}: there is no such jobset",
                hint="see flake_update.hydra.project and flake_update.hydra.jobset",
            )
        return models.parse(models.FlakeEvalsAnswer, _direct(answer)).evals

    @override
    async def job_of(self, eval_id: int, host: str) -> HostJob:
        name = self._jobset.name.replace(HOST, default_job_name(host))
        job = Job(self._jobset.instance, self._jobset.project, self._jobset.jobset, name)
        answer = await self._ask(paths.eval_job_path(eval_id, job))
        if answer.status == _NOT_FOUND:
            models.parse(models.ErrorAnswer, answer)
            link = f"{self._jobset.instance}/eval/{eval_id}"
            return HostJob(host, JobState.RED, link, f"has no job {name}")
        build_id = paths.build_id_of(answer)
        build = models.parse(models.BuildAnswer, _direct(await self._ask(f"/build/{build_id}")))
        return job_of_build(host, build.to_build(), f"{self._jobset.instance}/build/{build_id}")

    async def _ask(self, path: str) -> Answer:
        """Return one answer; each question has a conversation, and so a deadline, of its own."""
        transport = Transport(self._jobset.instance, self._clock)
        conversation = Conversation(
            transport,
            timeout=self._timeout,
            deadline=self._deadline,
            sink=self._sink,
            clock=self._clock,
            retries=self._retries,
        )
        try:
            return await conversation.ask(path)
        finally:
            await transport.aclose()


def _direct(answer: Answer) -> Answer:
    if answer.is_redirect:
        raise paths.unwanted_redirect(answer)
    return answer


def _is_of(flake: str | None, revision: str) -> bool:
    """Whether a locked flake reference is of a git revision, in its query or in its path."""
    try:
        url = urlsplit(flake or "")
    except ValueError:
        return False
    return revision in parse_qs(url.query).get("rev", []) or revision in url.path.split("/")
