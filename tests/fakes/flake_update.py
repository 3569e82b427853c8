"""The update side's world without git, nix and Hydra: directories, commits and a remote in memory."""

from __future__ import annotations

import hashlib
import json
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from agent.application.flake_update.ports import (
    FlakeBuilds,
    JobsetState,
    Repository,
    UpdateJobset,
)
from agent.application.notification import Message, Notifier
from agent.domain.errors import AgentError, GitError, Kind, NixError
from agent.domain.flake_update.comparison import Broken, Stage, System
from agent.domain.flake_update.hydra_proof import HostJob, JobState
from agent.domain.flake_update.lock_file import LOCK_FILE
from agent.domain.flake_update.package_change import PackageChange
from agent.domain.store_path import StorePath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

_T = TypeVar("_T")
CHECKOUT = Path("/checkout")


def lock_text(revision: str, *, name: str = "base") -> str:
    """Return a lock file with one input."""
    locked = {"type": "git", "url": "file:///base", "rev": revision}
    nodes = {"root": {"inputs": {name: name}}, name: {"locked": locked}}
    return json.dumps({"nodes": nodes, "root": "root", "version": 7})


def system(name: str) -> System:
    """Return a system of that name."""
    return System(StorePath(f"/nix/store/{name}.drv"), StorePath(f"/nix/store/{name}"))


@dataclass(frozen=True)
class Commit:
    """Files by name, the commit before, the message."""

    files: Mapping[str, str]
    parent: str | None
    message: str


@dataclass
class Ground:
    """What repository and builds have in common: what lies in which directory."""

    directories: dict[Path, dict[str, str]] = field(default_factory=lambda: {CHECKOUT: {}})


class FakeRepository(Repository):
    """A repository; `remote` has the tips of the remote's branches, `faults` what a method raises.

    `on_push` is called when a push is about to arrive.
    """

    def __init__(self, ground: Ground, files: Mapping[str, str]) -> None:
        self.flake = CHECKOUT
        self.ground = ground
        self.commits: dict[str, Commit] = {}
        self.tip = self.add(files, None, "Begin")
        self.remote: dict[str, str] = {"main": self.tip}
        self.has_remote = True
        self.faults: dict[str, AgentError] = {}
        self.on_push: Callable[[], None] = lambda: None
        self.is_held = False
        self.worktrees = 0
        self._begun_at: dict[Path, str] = {}
        ground.directories[CHECKOUT] = dict(files)

    def add(self, files: Mapping[str, str], parent: str | None, message: str) -> str:
        """Add a commit and return its revision."""
        revision = hashlib.sha1(  # noqa: S324 - git's own
            f"{sorted(files.items())} {parent} {message}".encode()
        ).hexdigest()
        self.commits[revision] = Commit(dict(files), parent, message)
        return revision

    @override
    @contextmanager
    def hold(self) -> Iterator[None]:
        if self.is_held:
            raise GitError(Kind.REPOSITORY_BUSY, "another update is running")
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False

    @override
    async def prepare(self) -> None:
        self._fail("prepare")

    @override
    async def head(self) -> str:
        return self.tip

    @override
    async def file_at(self, revision: str, name: str) -> str | None:
        return self.commits[revision].files.get(name)

    @override
    def text_in(self, flake: Path, name: str) -> str | None:
        return self.ground.directories[flake].get(name)

    @override
    def put(self, flake: Path, name: str, text: str) -> None:
        self.ground.directories[flake][name] = text

    @override
    @asynccontextmanager
    async def worktree(self, revision: str) -> AsyncIterator[Path]:
        self._fail("worktree")
        self.worktrees += 1
        place = Path(f"/worktree-{self.worktrees}")
        self.ground.directories[place] = dict(self.commits[revision].files)
        self._begun_at[place] = revision
        try:
            yield place
        finally:
            del self.ground.directories[place]

    @override
    async def copy_changes(self, flake: Path) -> None:
        here = self.ground.directories[CHECKOUT]
        known = self.commits[self.tip].files
        changed = {name: text for name, text in here.items() if name in known}
        self.ground.directories[flake].update(changed)

    @override
    async def remote_branches(self, base: str, prefixes: Sequence[str]) -> Mapping[str, str]:
        self._fail("remote_branches")
        if not self.has_remote:
            raise GitError(Kind.REMOTE_MISSING, "no remote 'origin'")
        if base not in self.remote:
            raise GitError(Kind.BASE_MISSING, f"no branch {base}")
        return {
            name: tip
            for name, tip in self.remote.items()
            if name == base or name.startswith(tuple(prefixes))
        }

    @override
    async def is_ancestor(self, older: str, newer: str) -> bool:
        return older in self._line(newer)

    @override
    async def messages(self, base: str, tip: str) -> tuple[str, ...]:
        known = set(self._line(base))
        return tuple(self.commits[one].message for one in self._line(tip) if one not in known)

    @override
    async def adds_only_lock(self, base: str, tip: str) -> bool:
        known = self._line(base)
        left = next(one for one in self._line(tip) if one in known)
        then, now = self.commits[left].files, self.commits[tip].files
        return all(then.get(name) == now.get(name) for name in {*then, *now} - {LOCK_FILE})

    @override
    async def commit(self, flake: Path, message: str) -> str:
        self._fail("commit")
        files = self.ground.directories[flake]
        return self.add(files, self._begun_at[flake], message.strip())

    @override
    async def push(self, revision: str, branch: str, replaces: str | None) -> None:
        self._fail("push")
        if self.remote.get(branch) != replaces:
            raise GitError(Kind.BRANCH_DIVERGED, f"{branch} was pushed by someone else")
        self.on_push()
        self.remote[branch] = revision

    @override
    async def revert_branch(self, revision: str, branch: str, former: str | None) -> None:
        self._fail("take_back")
        if self.remote.get(branch) != revision:
            return
        if former is None:
            del self.remote[branch]
        else:
            self.remote[branch] = former

    def _line(self, revision: str) -> list[str]:
        line: list[str] = []
        at: str | None = revision
        while at is not None:
            line.append(at)
            at = self.commits[at].parent
        return line

    def _fail(self, name: str) -> None:
        if name in self.faults:
            raise self.faults[name]


class FakeBuilds(FlakeBuilds):
    """nix, where what a host is depends on the locked revision of the one input alone.

    `fleets` has the hosts by that revision, `upstream` is the newest, `unbuildable` what fails when
    it is built, by derivation.
    """

    def __init__(self, ground: Ground, fleets: Mapping[str, Mapping[str, System | Broken]]) -> None:
        self.ground = ground
        self.fleets = fleets
        self.upstream = next(iter(fleets))
        self.unbuildable: dict[StorePath, Broken] = {}
        self.realised: list[StorePath] = []
        self.updated: list[tuple[str, ...]] = []
        self.fault: NixError | None = None
        self.lacking: set[str] = set()
        """Revisions whose lock files lack an input of the flake."""
        self.packages: tuple[PackageChange, ...] | None = (PackageChange("linux", ("1",), ("2",)),)

    @override
    async def host_names(self, flake: Path) -> tuple[str, ...]:
        return tuple(self._fleet(flake))

    @override
    async def evaluate(
        self, flake: Path, hosts: Sequence[str], *, locks_new: bool = False
    ) -> Mapping[str, System | Broken]:
        if self._locked(flake) in self.lacking and not locks_new:
            broken = Broken(Stage.EVALUATION, "the flake requires lock file changes")
            return dict.fromkeys(hosts, broken)
        fleet = self._fleet(flake)
        return {host: fleet[host] for host in hosts}

    @override
    async def update(self, flake: Path, inputs: Sequence[str]) -> None:
        if self.fault is not None:
            raise self.fault
        self.updated.append(tuple(inputs))
        if self._locked(flake) != self.upstream:
            self.ground.directories[flake][LOCK_FILE] = lock_text(self.upstream)

    @override
    async def realise(self, systems: Sequence[System]) -> Mapping[StorePath, Broken]:
        self.realised += [one.derivation for one in systems]
        wanted = {one.derivation for one in systems}
        return {one: broken for one, broken in self.unbuildable.items() if one in wanted}

    @override
    async def closure_diff(
        self, before: StorePath, after: StorePath
    ) -> tuple[PackageChange, ...] | None:
        return self.packages

    def _locked(self, flake: Path) -> str:
        nodes = json.loads(self.ground.directories[flake][LOCK_FILE])["nodes"]
        return str(nodes["base"]["locked"]["rev"])

    def _fleet(self, flake: Path) -> Mapping[str, System | Broken]:
        return self.fleets[self._locked(flake)]


class FakeJobset(UpdateJobset):
    """A jobset of which each question is answered by the next of its answers, the last for ever."""

    def __init__(self) -> None:
        self.refusal: AgentError | None = None
        self.states: list[JobsetState | AgentError | None] = [JobsetState("", None)]
        self.evals: list[int | AgentError | None] = [7]
        self.jobs: dict[str, list[JobState | AgentError]] = {}
        self.newest: list[int | AgentError | None] = [None]
        self.outputs: dict[str, str] = {}
        self.asked: list[str] = []

    @override
    async def require(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    @override
    async def state(self, hosts: Collection[str]) -> JobsetState | None:
        return _next(self.states)

    @override
    async def find_eval(self, revision: str) -> int | None:
        self.asked.append(revision)
        return _next(self.evals)

    @override
    async def newest_eval(self) -> int | None:
        return _next(self.newest)

    @override
    async def job_of(self, eval_id: int, host: str) -> HostJob:
        state = _next(self.jobs.setdefault(host, [JobState.GREEN]))
        reason = "failed" if state is JobState.RED else ""
        link = f"https://hydra.test/{host}"
        return HostJob(host, state, link, reason, self.outputs.get(host))


def _next(answers: list[_T | AgentError]) -> _T:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, AgentError):
        raise answer
    return answer


class FakeNotifier(Notifier):
    """Remembers what people were told."""

    def __init__(self) -> None:
        self.told: list[Message] = []

    @override
    async def notify(self, message: Message) -> None:
        self.told.append(message)
