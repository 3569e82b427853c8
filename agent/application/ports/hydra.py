"""The ports to Hydra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.domain.build import Build
    from agent.domain.errors import AgentError
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.job import Job, Select


@dataclass(frozen=True, slots=True)
class Outlook:
    """What Hydra says about builds to come; None where it does not say."""

    newer_build_failed: bool | None = None
    gone_since_eval: int | None = None
    """The newest finished eval, when it has no such job any more."""
    is_jobset_disabled: bool | None = None
    is_project_disabled: bool | None = None
    """Asked only where the jobset has not been checked for much longer than it should."""
    evaluation_error: str | None = None
    """What keeps the job from being evaluated; empty where nothing does.

    It is the job's own error or one of the whole evaluation, not one of another job.
    """
    fault: AgentError | None = None
    """Why not everything could be asked."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What is newer than the build that Hydra offers; None where it does not say, or nothing is."""

    newest: Build | None = None
    """The job's build in the newest eval, finished or not."""
    waiting: int | None = None
    """The newest good build, when only the rest of its eval keeps it from being offered."""
    is_project_disabled: bool | None = None
    """Whether nothing in the project is evaluated, although its jobsets are enabled."""
    fault: AgentError | None = None
    """Why not everything could be asked."""


class Hydra(Protocol):
    """A Hydra instance. Everything raises HydraError."""

    def back_off(self, wait: float | None) -> None:
        """Ask for as little as possible from now on, and nothing twice: Hydra was too busy.

        `wait`: the seconds that it asks to be left alone, where it was asked a moment ago; None
        where that is longer ago.
        """

    async def newest_good_build(self, job: Job, select: Select) -> int:
        """Return the id of the job's newest good build.

        Where there is none, the error's kind says why as far as Hydra does: JOBSET_MISSING,
        JOBSET_RENAMED, JOBSET_DISABLED, JOBSET_NEVER_EVALUATED, JOB_MISSING, JOB_NOT_EVALUATED,
        JOB_NEVER_GOOD, JOB_NOT_BUILT_YET, BUILD_UNFINISHED.
        """

    async def build(self, build_id: int) -> Build:
        """Return a build as Hydra describes it."""

    async def locked_flake(self, build: Build) -> tuple[int, LockedFlakeReference]:
        """Return the newest existing eval of a build, and the flake it evaluated."""

    async def outlook(self, job: Job, build: Build | None) -> Outlook:
        """Return what Hydra says about builds to come, nothing while it is backed off from."""

    async def pending(self, job: Job, build: Build, select: Select) -> Pending:
        """Return what is newer than a build that was offered; never raises.

        It takes more requests than `outlook`, and is for a person who wants to know.
        """
