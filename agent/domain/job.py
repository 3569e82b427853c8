"""The Hydra job that a host follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override


class Select(StrEnum):
    """Which good build to ask Hydra for (the two redirects of a job)."""

    LATEST = "latest"
    """The newest good build."""
    LATEST_FINISHED = "latest-finished"
    """The newest good build of an eval in which nothing is left to build."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of one jobset on one Hydra instance; `instance` is its URL without a final slash."""

    instance: str
    project: str
    jobset: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.project}:{self.jobset}:{self.name}"

    @property
    def key(self) -> str:
        """The job's name, unique across instances; build ids are ordered within it."""
        return f"{self.instance}/job/{self.project}/{self.jobset}/{self.name}"


def default_job_name(host: str) -> str:
    """Return the job of `host`: Hydra stores attribute names with dots in quotes (recorded)."""
    return f'"{host}"' if "." in host else host
