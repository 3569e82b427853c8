"""The system that Hydra offers this host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.job import Job
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class Candidate:
    """A good build of this host's job, identified by its output path and ordered by its build id.

    `eval_id` and `flake` are None if nothing is evaluated (`strategy = "store-path"`).
    """

    job: Job
    build_id: int
    toplevel: StorePath
    system: str
    finished_at: datetime | None
    eval_id: int | None = None
    flake: LockedFlakeReference | None = None
