"""What Hydra's jobs for the hosts of an update prove."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.domain.build import BUILD_STATUS
from agent.domain.flake_update.comparison import Broken, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.domain.build import Build
    from agent.domain.flake_update.comparison import Comparison


class JobState(StrEnum):
    """The status of a job in an eval."""

    WAITING = "waiting"
    GREEN = "green"
    RED = "red"


@dataclass(frozen=True, slots=True)
class HostJob:
    """The job of a host in an eval; `link` is its page in Hydra, `reason` why it failed.

    `output` is its output path according to Hydra.
    """

    host: str
    state: JobState
    link: str
    reason: str = ""
    output: str | None = None


def job_of_build(host: str, build: Build, link: str) -> HostJob:
    """Return the status of a host's job by its build in the eval."""
    output = build.outputs.get("out")
    if not build.is_finished:
        return HostJob(host, JobState.WAITING, link, output=output)
    if build.is_good:
        return HostJob(host, JobState.GREEN, link, output=output)
    how = BUILD_STATUS.get(-1 if build.status is None else build.status, "failed")
    return HostJob(host, JobState.RED, link, how, output)


def mark_red(comparison: Comparison, red: Iterable[HostJob]) -> Comparison:
    """Return the comparison with the hosts that Hydra could not build marked as broken."""
    reasons = {one.host: Broken(Stage.BUILD, f"{one.reason}: {one.link}") for one in red}
    hosts = (replace(one, after=reasons.get(one.host, one.after)) for one in comparison.hosts)
    return replace(comparison, hosts=tuple(hosts))


def format_red_jobs(jobs: Iterable[HostJob]) -> str:
    """Return the failed jobs, human-readable, each with its link; empty if there are none."""
    red = (one for one in jobs if one.state is JobState.RED)
    return "; ".join(f"{one.host} {one.reason}: {one.link}" for one in red)
