"""The `Hydra` port over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from typing_extensions import override

from agent.adapters.http.retries import Repeater
from agent.adapters.hydra import models, no_good_build, paths, pending, upcoming_builds
from agent.adapters.hydra.conversation import RETRIES, Conversation
from agent.adapters.hydra.transport import Transport
from agent.application import events
from agent.application.ports import Hydra, Outlook
from agent.domain.errors import HydraError, Kind
from agent.domain.flake_reference import parse_locked_flake_reference

if TYPE_CHECKING:
    import httpx

    from agent.adapters.http.retries import Retries
    from agent.adapters.hydra.transport import Answer
    from agent.application.ports import Clock, EventSink, Pending
    from agent.domain.build import Build
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.job import Job, Select
    from agent.lean.hydra_session import Session

_MAX_EVALS: Final = 5
"""How many of a build's evals are tried; Hydra deletes the oldest, so the first is there."""


class HydraClient(Hydra):
    """One conversation with one Hydra instance.

    `instance` is its URL, perhaps with a path; `timeout` and `deadline` are the seconds that one
    request and the whole conversation may take, the latter from the first request on. `transport`
    replaces the network; `session` is the one that earlier runs had. Every method raises
    `HydraError`.
    """

    def __init__(
        self,
        instance: str,
        *,
        timeout: float,
        deadline: float,
        sink: EventSink,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
        retries: Retries | None = None,
        session: Session | None = None,
    ) -> None:
        self._clock = clock
        self._transport = Transport(instance, clock, transport=transport, session=session)
        repeater = Repeater(events.REQUEST_RETRIED, sink, clock, retries or RETRIES)
        self._conversation = Conversation(
            self._transport, repeater, timeout=timeout, deadline=deadline
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    @override
    def back_off(self, wait: float | None) -> None:
        self._conversation.back_off(wait)

    @override
    async def newest_good_build(self, job: Job, select: Select) -> int:
        answer = await self._conversation.ask(paths.job_path(job, select))
        if answer.is_redirect:
            return paths.build_id_of(answer)
        if answer.is_missing:
            raise await no_good_build.explain(self._conversation, job, select, answer)
        models.refuse_bodies_without_json(answer)
        raise HydraError(
            Kind.HYDRA_WRONG_SHAPE,
            f"{answer.url}: an answer of its own (status 200) where a redirect to a build belongs",
            hint="is hydra.instance the URL of a Hydra?",
        )

    @override
    async def build(self, build_id: int) -> Build:
        answer = await self._conversation.ask(f"/build/{build_id}")
        if answer.is_missing:
            # HYDRA_HTML and the like when it is not Hydra that says so.
            models.parse(models.ErrorAnswer, answer)
            raise HydraError(
                Kind.BUILD_MISSING,
                f"{answer.url}: build {build_id} does not exist (any more)",
                hint="the next run looks again",
            )
        found = models.parse(models.BuildAnswer, paths.direct(answer)).to_build()
        self._refuse_other_id(answer, found.id, build_id)
        return found

    @override
    async def locked_flake(self, build: Build) -> tuple[int, LockedFlakeReference]:
        if not build.evals:
            raise HydraError(
                Kind.BUILD_WITHOUT_EVAL,
                f"build {build.id} belongs to no eval, so nothing says which flake it is of",
                hint="Hydra may have deleted the eval; strategy = 'store-path' needs none",
            )
        tried = build.evals_newest_first[:_MAX_EVALS]
        for eval_id in tried:
            answer = await self._conversation.ask(f"/eval/{eval_id}")
            if answer.is_missing:
                models.parse(models.ErrorAnswer, answer)
                continue
            found = models.parse(models.EvalAnswer, paths.direct(answer))
            self._refuse_other_id(answer, found.id, eval_id)
            return eval_id, parse_locked_flake_reference(found.flake)
        raise HydraError(
            Kind.EVAL_MISSING,
            f"of build {build.id}, Hydra has deleted the eval(s) {', '.join(map(str, tried))}",
            hint="the next run looks again; strategy = 'store-path' needs no eval",
        )

    @override
    async def outlook(self, job: Job, build: Build | None) -> Outlook:
        if self._conversation.is_backing_off:
            return Outlook()
        now = self._clock.now().timestamp()
        return await upcoming_builds.look(self._conversation, job, build, now=now)

    @override
    async def pending(self, job: Job, build: Build, select: Select) -> Pending:
        return await pending.look(self._conversation, job, build, select)

    @staticmethod
    def _refuse_other_id(answer: Answer, found: int, asked: int) -> None:
        if found != asked:
            raise HydraError(
                Kind.HYDRA_WRONG_SHAPE,
                f"{answer.url}: the answer is about id {found}",
                hint="is there a broken cache before Hydra?",
            )
