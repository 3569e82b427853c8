"""The shapes of Hydra's answers: strict about what is used, indifferent to the rest.

`hydra-api.yaml` calls `finished` and `enabled` booleans; Hydra itself answers 0 and 1 (and 2 or 3
for jobsets that are enabled in a special way). Both are taken.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from agent.domain.build import Build
from agent.domain.errors import HydraError, Kind
from agent.domain.evaluation import EvaluationErrors, parse_evaluation_errors

if TYPE_CHECKING:
    from agent.adapters.hydra.transport import Answer

_HOUR: Final = 3600
_YEAR_9999: Final = 253_402_300_799

_Id = Annotated[int, Field(gt=0, lt=2**63)]
_Instant = Annotated[int, Field(ge=0, le=_YEAR_9999)]
_Flag = bool | Literal[0, 1]


class _Answer(BaseModel):
    # Strict: no text becomes a number, no number a truth value.
    # Validators are built for what is asked: most runs ask for little of it, or for nothing.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)


class ErrorAnswer(_Answer):
    """What Hydra says beside a status of 400 and above."""

    error: str


class OutputAnswer(_Answer):
    """One output of a build; the path is null while a content-addressed output is unknown."""

    path: str | None = None


class BuildAnswer(_Answer):
    """`/build/N`; the status is null before the first finish, and stale while it is built again."""

    id: _Id
    project: str
    jobset: str
    job: str
    system: str
    finished: _Flag
    buildstatus: int | None
    stoptime: _Instant | None = None
    buildoutputs: dict[str, OutputAnswer]
    jobsetevals: list[_Id]

    def to_build(self) -> Build:
        """Return what the answer says, in the domain's words."""
        is_finished = bool(self.finished)
        return Build(
            id=self.id,
            project=self.project,
            jobset=self.jobset,
            job=self.job,
            system=self.system,
            is_finished=is_finished,
            status=self.buildstatus,
            outputs={name: output.path for name, output in self.buildoutputs.items()},
            evals=tuple(self.jobsetevals),
            finished_at=(
                datetime.fromtimestamp(self.stoptime, UTC)
                if is_finished and self.stoptime
                else None
            ),
        )


class EvalAnswer(_Answer):
    """`/eval/N`; a jobset that is no flake has null."""

    id: _Id
    flake: str | None


class ListedEvalAnswer(_Answer):
    """One entry of `/jobset/P/J/evals`."""

    id: _Id
    flake: str | None = None


class EvalsAnswer(_Answer):
    """`/jobset/P/J/evals`, a page of the evals that brought new builds."""

    evals: list[ListedEvalAnswer]


class JobsetAnswer(_Answer):
    """`/jobset/P/J/errors`: the only page that carries the text of an evaluation's error.

    A jobset is checked `checkinterval` seconds after its last check, or never by itself (0). While
    `triggertime` or `starttime` is set, it is about to be evaluated, or is being evaluated.
    """

    enabled: bool | int
    errormsg: str | None = None
    errortime: int | None = None
    lastcheckedtime: int | None = None
    fetcherrormsg: str | None = None
    checkinterval: int | None = None
    triggertime: int | None = None
    starttime: int | None = None

    @property
    def is_disabled(self) -> bool:
        """Whether Hydra no longer evaluates the jobset."""
        return self.enabled == 0

    @property
    def is_under_way(self) -> bool:
        """Whether an evaluation has begun, or has been asked for."""
        return self.starttime is not None or self.triggertime is not None

    def is_overdue(self, now: float) -> bool:
        """Whether it has not been checked for much longer than it should; `now` in Unix seconds."""
        interval, last = self.checkinterval, self.lastcheckedtime
        if self.is_disabled or not interval or last is None:
            return False
        return now > last + 2 * interval + _HOUR

    @property
    def errors(self) -> EvaluationErrors:
        """The errors of its last evaluation."""
        return parse_evaluation_errors(self.errormsg or "", self.fetcherrormsg or "")


class DeclarationAnswer(_Answer):
    """Where the jobsets of a project are declared."""

    file: str | None = None


class ProjectAnswer(_Answer):
    """`/project/P`; a disabled project leaves the jobsets in it enabled."""

    enabled: bool | int
    declarative: DeclarationAnswer | None = None

    @property
    def is_disabled(self) -> bool:
        """Whether Hydra evaluates none of its jobsets any more."""
        return self.enabled == 0

    @property
    def declares_jobsets(self) -> bool:
        """Whether jobsets come and go by a file in a repository."""
        return self.declarative is not None and bool(self.declarative.file)


class ShieldAnswer(_Answer):
    """`/job/P/J/JOB/shield`: passing, failing or cancelled, as the newest finished build ended."""

    message: str


class LatestBuildAnswer(_Answer):
    """One entry of `/api/latestbuilds`: a finished build."""

    id: _Id
    buildstatus: int | None


class QueuedBuildAnswer(_Answer):
    """One entry of `/api/queue`: a build that is not finished."""

    id: _Id
    project: str
    jobset: str
    job: str


class QueueAnswer(RootModel[list[QueuedBuildAnswer]]):
    """`/api/queue`, by priority and then by id."""

    model_config = ConfigDict(strict=True, frozen=True)


class LatestBuildsAnswer(RootModel[list[LatestBuildAnswer]]):
    """`/api/latestbuilds`: finished builds, newest first."""

    model_config = ConfigDict(strict=True, frozen=True)


_Model = TypeVar("_Model", bound=BaseModel)


def parse(model: type[_Model], answer: Answer) -> _Model:
    """Return the body of `answer` as `model`.

    Raises:
        HydraError: HYDRA_EMPTY, HYDRA_HTML, HYDRA_TOO_DEEP, HYDRA_NOT_JSON or HYDRA_WRONG_SHAPE.
    """
    refuse_bodies_without_json(answer)
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise _not_json(answer, str(first["ctx"]["error"])) from error
        where = ".".join(str(part) for part in first["loc"]) or "the whole answer"
        raise HydraError(
            Kind.HYDRA_WRONG_SHAPE,
            f"{answer.url}: the answer is not of Hydra's shape: {where}: {first['msg']}",
            hint=_IS_IT_HYDRA,
        ) from error


def refuse_bodies_without_json(answer: Answer) -> None:
    """Refuse what is obviously not JSON. HYDRA_EMPTY, HYDRA_HTML."""
    text = answer.body.strip()
    if not text:
        raise HydraError(
            Kind.HYDRA_EMPTY,
            f"{answer.url}: the answer is empty where JSON belongs",
            hint="look at the proxy in front of Hydra, and at Hydra's own log",
        )
    if text.startswith(b"<"):
        raise HydraError(
            Kind.HYDRA_HTML,
            f"{answer.url}: the answer is a web page where JSON belongs (status {answer.status})",
            hint="is hydra.instance Hydra's own URL, or does a login page stand before it?",
        )


_IS_IT_HYDRA: Final = "is hydra.instance the URL of a Hydra?"


def _not_json(answer: Answer, reason: str) -> HydraError:
    # pydantic's parser gives up at a depth of 200, long before any stack of this process is full.
    if "recursion limit" in reason:
        return HydraError(
            Kind.HYDRA_TOO_DEEP,
            f"{answer.url}: the answer is nested too deeply to be Hydra's",
            hint=_IS_IT_HYDRA,
        )
    return HydraError(
        Kind.HYDRA_NOT_JSON, f"{answer.url}: the answer is not JSON: {reason}", hint=_IS_IT_HYDRA
    )
