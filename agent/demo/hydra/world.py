"""Owns what the embedded Hydra knows: jobsets, evals and builds, and how Hydra chooses among them.

What is chosen how: Hydra's ListBuilds.pm (latest, latest-finished), CatalystUtils.pm (the latest
finished eval) and API.pm (the lists), of August 2026.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_NIX_ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"
_HASH_LENGTH: Final = 32


@dataclass(slots=True)
class Jobset:
    """A jobset; `errormsg` is the text of its last failed evaluation. Times are Unix seconds."""

    project: str
    name: str
    flake: str = ""
    enabled: int = 1
    errormsg: str = ""
    fetcherrormsg: str = ""
    lastcheckedtime: int | None = None
    errortime: int | None = None
    type: int = 1
    """1 for a flake, 0 for a legacy expression."""
    nixexprinput: str = ""
    nixexprpath: str = ""
    checkinterval: int = 0
    """Seconds between two checks; 0: it is checked when something triggers it."""
    triggertime: int | None = None
    starttime: int | None = None
    """When the evaluation that is under way began."""


@dataclass(slots=True)
class Eval:
    """An evaluation; one that brought nothing new (`hasnewbuilds` 0) has no builds."""

    id: int
    jobset: Jobset
    flake: str | None
    timestamp: int
    builds: list[int] = field(default_factory=list)
    hasnewbuilds: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Build:
    """A build as Hydra's table has it: `buildstatus` is None until it has finished once."""

    id: int
    jobset: Jobset
    job: str
    nixname: str
    system: str
    drvpath: str
    outputs: dict[str, str]
    timestamp: int
    finished: int = 0
    buildstatus: int | None = None
    starttime: int | None = None
    stoptime: int | None = None
    priority: int = 100
    releasename: str | None = None
    products: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether Hydra would redirect to it."""
        return self.finished == 1 and self.buildstatus == 0


class World:
    """Everything one Hydra knows. Every method may be called from any thread.

    `lock` may be held to change several things at once; answers are made under it. `now` gives
    Unix seconds. With `is_private` only users are answered; with `is_database_down` nobody is.
    """

    def __init__(
        self, *, store_dir: str = "/nix/store", now: Callable[[], float] = time.time
    ) -> None:
        self.lock = threading.RLock()
        self.store_dir = store_dir
        self.now = now
        self.is_private = False
        self.is_database_down = False
        self.breaks_off = 0
        """How many of the next JSON answers lose the database while they are written."""
        self.projects: set[str] = set()
        self.disabled_projects: set[str] = set()
        self.declarative_projects: set[str] = set()
        """Those whose jobsets are declared by a file in a repository."""
        self.jobsets: dict[tuple[str, str], Jobset] = {}
        self.renames: dict[tuple[str, str], str] = {}
        self.evals: dict[int, Eval] = {}
        self.builds: dict[int, Build] = {}
        self.narinfos: dict[str, str] = {}
        """By the hash part of the store path; used unless a directory is served as the cache."""

    # Changing it

    def add_jobset(self, project: str, name: str, *, flake: str = "") -> Jobset:
        """Add a jobset, and its project where that is new."""
        return self.put_jobset(Jobset(project, name, flake))

    def put_jobset(self, jobset: Jobset) -> Jobset:
        """Add or replace a jobset as it stands."""
        with self.lock:
            self.projects.add(jobset.project)
            self.jobsets[jobset.project, jobset.name] = jobset
            return jobset

    def add_eval(
        self,
        project: str,
        jobset: str,
        *,
        flake: str | None = None,
        builds: Iterable[int] = (),
        is_cached: bool = False,
    ) -> int:
        """Evaluate a jobset and return the eval's id; `builds` are older builds still current.

        `flake` is the locked reference, None for a legacy jobset. A cached eval changed nothing:
        it has no builds, and no list of evals shows it.
        """
        with self.lock:
            here = self.jobsets[project, jobset]
            here.lastcheckedtime = here.errortime = self._seconds()
            here.errormsg = ""
            new = Eval(
                id=max(self.evals, default=0) + 1,
                jobset=here,
                flake=flake,
                timestamp=self._seconds(),
                builds=[] if is_cached else list(builds),
                hasnewbuilds=0 if is_cached else 1,
            )
            self.evals[new.id] = new
            return new.id

    def add_build(
        self,
        job: str,
        out_path: str,
        *,
        eval_id: int,
        status: int | None = 0,
        finished: bool | None = None,
        system: str = "x86_64-linux",
        outputs: Mapping[str, str] | None = None,
    ) -> int:
        """Add a build to an eval and return its id.

        `status` None is queued; otherwise it has finished, unless `finished` says it is being
        built again. `job` stands as Hydra stores it: a dotted name in double quotes. `outputs`
        are further ones, by name.
        """
        with self.lock:
            build_id = max(self.builds, default=0) + 1
            is_finished = status is not None if finished is None else finished
            now = self._seconds()
            nixname = out_path.rpartition("/")[2][_HASH_LENGTH + 1 :]
            self.put_build(
                Build(
                    id=build_id,
                    jobset=self.evals[eval_id].jobset,
                    job=job,
                    nixname=nixname,
                    system=system,
                    drvpath=self._derivation(nixname, f"{build_id} {out_path}"),
                    outputs={"out": out_path, **(outputs or {})},
                    timestamp=now,
                    finished=int(is_finished),
                    buildstatus=status,
                    starttime=None if status is None else now,
                    stoptime=None if status is None else now,
                )
            )
            self.evals[eval_id].builds.append(build_id)
            return build_id

    def put_build(self, build: Build) -> None:
        """Add or replace a build as it stands; it is in the evals that list it."""
        with self.lock:
            self.builds[build.id] = build

    def finish(self, build_id: int, status: int = 0) -> None:
        """End a queued or restarted build now."""
        with self.lock:
            now = self._seconds()
            self._update(build_id, finished=1, buildstatus=status, starttime=now, stoptime=now)

    # Asking it

    def jobset(self, project: str, name: str) -> Jobset | None:
        """Return a jobset by its present name."""
        return self.jobsets.get((project, name))

    def evals_of(self, build_id: int) -> list[int]:
        """Return a build's evals as Hydra does: in an order that promises nothing.

        The newest comes second where there are two or more, as recorded ([17, 18, 15, 14, 11]).
        """
        ids = [e.id for e in self._evals_newest_first() if build_id in e.builds]
        return [*ids[1::-1], *ids[2:]]

    def evals_with_news(self, jobset: Jobset) -> list[Eval]:
        """Return a jobset's evals that brought new builds, newest first."""
        return [e for e in self._evals_newest_first() if e.jobset is jobset and e.hasnewbuilds]

    def latest_finished_eval(self, jobset: Jobset) -> Eval | None:
        """Return the newest eval with news and no unfinished build."""
        finished = (e for e in self.evals_with_news(jobset) if not self._is_unfinished(e))
        return next(finished, None)

    def builds_of(self, jobset: Jobset, job: str) -> list[Build]:
        """Return a job's builds, newest first."""
        return [b for b in self.builds_newest_first() if b.jobset is jobset and b.job == job]

    def latest(self, jobset: Jobset, job: str) -> Build | None:
        """Return the good build of the highest id."""
        return next((build for build in self.builds_of(jobset, job) if build.is_good), None)

    def latest_finished(self, jobset: Jobset, job: str) -> Build | None:
        """Return the newest good build that is in an eval without unfinished builds, or in none."""
        for build in self.builds_of(jobset, job):
            evals = [e for e in self.evals.values() if build.id in e.builds]
            if build.is_good and (not evals or not all(map(self._is_unfinished, evals))):
                return build
        return None

    def last_finished(self, jobset: Jobset, job: str) -> Build | None:
        """Return the newest finished build, good or not."""
        return next((b for b in self.builds_of(jobset, job) if b.finished), None)

    def queue(self) -> list[Build]:
        """Return the unfinished builds in Hydra's order."""
        waiting = (b for b in self.builds.values() if not b.finished)
        return sorted(waiting, key=lambda build: (-build.priority, build.id))

    def builds_newest_first(self) -> list[Build]:
        """Return all builds."""
        return [self.builds[build_id] for build_id in sorted(self.builds, reverse=True)]

    def _evals_newest_first(self) -> list[Eval]:
        return [self.evals[eval_id] for eval_id in sorted(self.evals, reverse=True)]

    def _is_unfinished(self, one: Eval) -> bool:
        return any(not self.builds[b].finished for b in one.builds if b in self.builds)

    def _update(self, build_id: int, **changes: Any) -> None:
        self.builds[build_id] = replace(self.builds[build_id], **changes)

    def _seconds(self) -> int:
        return int(self.now())

    def _derivation(self, nixname: str, seed: str) -> str:
        digest = hashlib.sha256(seed.encode()).digest()
        text = "".join(_NIX_ALPHABET[byte % len(_NIX_ALPHABET)] for byte in digest)
        return f"{self.store_dir}/{text[:_HASH_LENGTH]}-{nixname}.drv"
