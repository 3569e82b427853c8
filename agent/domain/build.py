"""Hydra's builds, and which of them may become this host's system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.domain.errors import HydraError, Kind
from agent.domain.store_path import StorePath, parse_store_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent.domain.job import Job

# Hydra: src/lib/Hydra/Helper/BuildDiff.pm and the templates name these; anything else is a failure.
BUILD_STATUS: Final[dict[int, str]] = {
    0: "succeeded",
    1: "failed",
    2: "failed because a dependency failed",
    3: "was aborted",
    4: "was cancelled",
    6: "failed with output",
    7: "timed out",
    8: "failed before and was not tried again",
    9: "is for a system that no builder supports",
    10: "wrote too much log",
    11: "has too large an output",
    12: "is not deterministic",
}


@dataclass(frozen=True, slots=True)
class Build:
    """A build as Hydra describes it; nothing in it has been compared with the request yet."""

    id: int
    project: str
    jobset: str
    job: str
    system: str
    is_finished: bool
    status: int | None
    outputs: Mapping[str, str | None]
    evals: tuple[int, ...]
    finished_at: datetime | None

    @property
    def is_good(self) -> bool:
        """Whether it has succeeded; a restarted build has status 0 while it is unfinished."""
        return self.is_finished and self.status == 0

    @property
    def state(self) -> str:
        """Its status, human-readable."""
        if self.is_finished:
            return BUILD_STATUS.get(-1 if self.status is None else self.status, "failed")
        return "is being built again" if self.status == 0 else "is queued or being built"

    @property
    def evals_newest_first(self) -> tuple[int, ...]:
        """Its evals; Hydra does not sort them (recorded [17, 18, 15, 14, 11])."""
        return tuple(sorted(set(self.evals), reverse=True))


def admit(build: Build, asked: Job, *, store_dir: str, system: str | None) -> StorePath:
    """Return the toplevel of a good build of the requested job.

    `system` is this host's platform (such as `x86_64-linux`), None if unknown.

    Raises:
        HydraError: the build cannot be this host's; the kind says why.
    """
    found = (build.project, build.jobset, build.job)
    if found != (asked.project, asked.jobset, asked.name):
        raise HydraError(
            Kind.BUILD_OTHER_JOB,
            f"Hydra was asked for {asked} and named build {build.id} of {':'.join(found)}",
        )
    if not build.is_finished:
        raise HydraError(
            Kind.BUILD_UNFINISHED,
            f"build {build.id} of {asked} is being built again",
            hint="the next run looks again",
        )
    if not build.is_good:
        raise HydraError(Kind.BUILD_FAILED, f"build {build.id} of {asked} {build.state}")
    if system is not None and build.system != system:
        raise HydraError(
            Kind.BUILD_OTHER_SYSTEM,
            f"build {build.id} of {asked} is for {build.system}, this host is {system}",
            hint="check hydra.job",
        )
    return toplevel_of(build, store_dir)


def toplevel_of(build: Build, store_dir: str) -> StorePath:
    """Return the output `out` of a build, good or not.

    Raises:
        HydraError: BUILD_WITHOUT_OUTPUT, BUILD_OUTPUT_INVALID.
    """
    text = build.outputs.get("out")
    if text is None:
        raise HydraError(
            Kind.BUILD_WITHOUT_OUTPUT,
            f"build {build.id} has no output 'out'",
            hint="is the job a NixOS toplevel?",
        )
    toplevel = parse_store_path(text, store_dir)
    if toplevel is None:
        raise HydraError(
            Kind.BUILD_OUTPUT_INVALID,
            f"the output of build {build.id} is not a path in {store_dir}: {text[:200]!r}",
        )
    return toplevel
