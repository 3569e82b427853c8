"""The system that Hydra offers this host, or why what it offers is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.domain.errors import Kind

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.errors import HydraError
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


@dataclass(frozen=True, slots=True)
class RefusedBuild:
    """A build that Hydra names as its newest good one, and that can be no candidate."""

    job: Job
    build_id: int
    fault: HydraError
    """What is wrong with it: one of `OF_ONE_BUILD`."""
    toplevel: StorePath | None = None


NO_LONGER: Final = frozenset(
    {
        *(Kind.BUILD_MISSING, Kind.BUILD_UNFINISHED, Kind.BUILD_FAILED, Kind.BUILD_OTHER_JOB),
        *(Kind.BUILD_OTHER_SYSTEM, Kind.BUILD_WITHOUT_OUTPUT, Kind.BUILD_OUTPUT_INVALID),
        Kind.PATH_MISMATCH,
    }
)
"""What Hydra can say against a build that was good once; anything else says nothing of it."""
OF_ONE_BUILD: Final = NO_LONGER | {
    *(Kind.BUILD_WITHOUT_EVAL, Kind.EVAL_MISSING, Kind.EVAL_WITHOUT_FLAKE),
    *(Kind.FLAKE_UNLOCKED, Kind.FLAKE_LOOKS_LIKE_OPTION, Kind.FLAKE_UNSAFE_CHARACTERS),
    *(Kind.FLAKE_UNSUPPORTED, Kind.FLAKE_INSECURE, Kind.FLAKE_HAS_LOGIN),
    *(Kind.PATH_NOT_CACHED, Kind.SIGNATURE_UNTRUSTED, Kind.FETCH_FAILED),
}
"""What is said of one build alone: an older one may be taken. Any other fault, such as a Hydra or
a cache that cannot be reached, leaves in doubt what may be."""
