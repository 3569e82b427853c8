"""The ports of the update side: what its use cases need of the world.

As in `agent.application.ports`: every port that can fail raises the `AgentError` its docstring
names, and nothing else. Notifications are sent by `agent.application.notification.Notifier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from agent.application.notification import Notifier
    from agent.application.ports import Clock, EventSink
    from agent.domain.flake_update.comparison import Broken, System
    from agent.domain.flake_update.hydra_proof import HostJob
    from agent.domain.flake_update.package_change import PackageChange
    from agent.domain.store_path import StorePath


class MergeMethod(StrEnum):
    """How a proposal becomes part of the base branch."""

    MERGE = "merge"
    SQUASH = "squash"
    REBASE = "rebase"


@dataclass(frozen=True, slots=True)
class Proposal:
    """An open pull request of the repository, from one of its own branches."""

    number: int
    url: str
    """For people."""
    head: str
    """Name of the branch that is proposed."""
    head_revision: str
    """The commit at its tip, as the forge knows it."""
    base: str
    """Name of the branch that it is to become part of."""
    title: str
    body: str


class Forge(Protocol):
    """One repository on a forge. Everything raises ForgeError.

    Kinds that any request may end with: FORGE_UNREACHABLE, FORGE_TLS, FORGE_TIMEOUT,
    FORGE_RATE_LIMITED, FORGE_SERVER_ERROR, FORGE_UNAUTHORISED, FORGE_FORBIDDEN, FORGE_NOT_FOUND,
    FORGE_CONFLICT, FORGE_UNPROCESSABLE, FORGE_STATUS, FORGE_REDIRECT, FORGE_NONSENSE. What can
    pass has been tried again already.
    """

    async def open_proposals(self, base: str, head_prefix: str) -> tuple[Proposal, ...]:
        """Return the open proposals into `base` whose head begins so, the newest first.

        Those from other repositories (forks) are left out. It is also the first thing to ask:
        a wrong token or repository shows before anything is built.
        """

    async def require_proposing(self, base: str) -> None:
        """Make sure that this token may propose; nothing is made. FORGE_FORBIDDEN.

        Only an attempt shows whether a token that may read may write, too.
        """

    async def declined_proposals(self, base: str) -> tuple[Proposal, ...]:
        """Return those of the last proposals that were closed and not merged, the newest first.

        Of what branches they were is not always known: those may be gone.
        """

    async def open(self, head: str, base: str, title: str, body: str) -> Proposal:
        """Propose the branch `head`, which has been pushed; FORGE_CONFLICT if it is already.

        `body` is Markdown; what is too long for the forge is cut, and says so.
        """

    async def refresh(self, proposal: Proposal, title: str, body: str) -> Proposal:
        """Replace title and body of a proposal."""

    async def add_labels(self, proposal: Proposal, labels: tuple[str, ...]) -> None:
        """Add labels, by name; those it has stay, those the repository lacks are made."""

    async def assign(self, proposal: Proposal, people: tuple[str, ...]) -> None:
        """Add assignees, by login; FORGE_UNPROCESSABLE names those who cannot be assigned."""

    async def enable_auto_merge(self, proposal: Proposal, method: MergeMethod) -> None:
        """Let the forge merge as soon as its required checks are green; asked twice is asked once.

        Also AUTO_MERGE_REFUSED: the repository does not allow it, or requires no check.
        """

    async def comment(self, proposal: Proposal, text: str) -> None:
        """Add a comment, in Markdown."""


class FlakeBuilds(Protocol):
    """nix, for whole flakes in a directory. Everything raises NixError.

    Kinds of all: NIX_MISSING, NIX_TIMEOUT, NIX_KILLED, STORE_FULL.
    """

    async def host_names(self, flake: Path) -> tuple[str, ...]:
        """Return the names of `nixosConfigurations`; none where there is no such thing.

        EVALUATION_FAILED, FLAKE_UNREACHABLE, NIX_NONSENSE.
        """

    async def evaluate(
        self, flake: Path, hosts: Sequence[str], *, locks_new: bool = False
    ) -> Mapping[str, System | Broken]:
        """Return each host's toplevel, built or not, with the lock file as it is.

        With `locks_new` an input that the lock file lacks is locked, for this evaluation alone.
        FLAKE_UNREACHABLE, which says nothing of a host, NIX_NONSENSE.
        """

    async def update(self, flake: Path, inputs: Sequence[str]) -> None:
        """Update these inputs in the lock file, all where none is named.

        INPUT_UNAVAILABLE, FLAKE_UNREACHABLE, EVALUATION_FAILED.
        """

    async def realise(self, systems: Sequence[System]) -> Mapping[StorePath, Broken]:
        """Build or substitute the toplevels, each derivation once, whatever fails beside it.

        Return those that failed, by derivation. The others are kept from the garbage collector as
        long as this is in use.
        """

    async def closure_diff(
        self, before: StorePath, after: StorePath
    ) -> tuple[PackageChange, ...] | None:
        """Return what changes between two closures in the store; None where nix can't tell."""


class Repository(Protocol):
    """The repository of the flake. Its checkout, branches and index are never touched.

    Everything raises GitError; kinds of all: GIT_MISSING, GIT_FAILED, GIT_TIMEOUT, NO_SPACE. Paths
    are relative to the flake's directory.
    """

    flake: Path
    """The flake's directory in the user's checkout."""

    def hold(self) -> AbstractContextManager[None]:
        """Be the only one at work on this repository. REPOSITORY_BUSY."""

    async def prepare(self) -> None:
        """Make sure that it is one, and remove what a killed run has left.

        REPOSITORY_MISSING, REPOSITORY_SHALLOW.
        """

    async def head(self) -> str:
        """Return the revision that is checked out."""

    async def file_at(self, revision: str, name: str) -> str | None:
        """Return the text of a file in a revision, None where there is none.

        Of what is larger than any lock file that is read, the beginning.
        """

    def text_in(self, flake: Path, name: str) -> str | None:
        """Return the text of a file in a directory, None where there is none."""

    def put(self, flake: Path, name: str, text: str) -> None:
        """Write a file in a worktree."""

    def worktree(self, revision: str) -> AbstractAsyncContextManager[Path]:
        """Check a revision out in a temporary worktree; yield the flake's directory in it."""

    async def copy_changes(self, flake: Path) -> None:
        """Make the same uncommitted changes in a worktree as are in the user's checkout."""

    async def remote_branches(self, base: str, prefixes: Sequence[str]) -> Mapping[str, str]:
        """Return the tips of the base branch, and of those whose names begin with any of these.

        They have been fetched, and no branch of the repository was moved. REMOTE_MISSING,
        REMOTE_UNREACHABLE, REMOTE_UNAUTHORISED, BASE_MISSING.
        """

    async def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether `newer` is, or goes back to, `older`."""

    async def messages(self, base: str, tip: str) -> tuple[str, ...]:
        """Return the messages, also empty, of the commits that `tip` has and `base` has not."""

    async def adds_only_lock(self, base: str, tip: str) -> bool:
        """Return whether `tip` changes no file but the lock file since it left `base`."""

    async def commit(self, flake: Path, message: str) -> str:
        """Commit the lock file in a worktree, and return the new revision.

        HOOK_REFUSED, SIGNING_FAILED, IDENTITY_MISSING.
        """

    async def push(self, revision: str, branch: str, replaces: str | None) -> None:
        """Let a branch of the remote be `revision`, if it is `replaces` now; None: if it is not.

        REMOTE_UNREACHABLE, REMOTE_UNAUTHORISED, PUSH_REFUSED, HOOK_REFUSED, BRANCH_DIVERGED.
        """

    async def revert_branch(self, revision: str, branch: str, former: str | None) -> None:
        """Let a branch be `former` again, or remove it, if it is `revision` now. As `push`."""


@dataclass(frozen=True, slots=True)
class JobsetState:
    """What a jobset's last evaluation has come to, and when the next one is."""

    error: str
    """The innermost error of it that is of all jobs, or of a host's; empty where it had none."""
    error_time: int | None
    checked_at: int | None = None
    """When Hydra has last looked for something new, in seconds since 1970."""
    check_interval: int | None = None
    """The seconds until Hydra looks again, 0 if only a trigger makes it; None: unknown."""
    is_under_way: bool = False
    """Whether an evaluation has begun, or has been triggered."""
    is_enabled: bool = True

    def is_checked_before(self, instant: float) -> bool:
        """Whether Hydra looks again before an instant, in seconds since 1970, as far as it says."""
        if self.is_under_way or self.check_interval is None:
            return True
        if self.check_interval == 0:
            return False
        return (self.checked_at or 0) + self.check_interval < instant


class UpdateJobset(Protocol):
    """The jobset in Hydra that proves updates. Everything raises HydraError."""

    async def require(self) -> None:
        """Refuse a jobset that will evaluate nothing: JOBSET_MISSING, JOBSET_DISABLED.

        One that is missing is no fault where the project's jobsets are declared by a repository:
        it may come with the update's branch.
        """

    async def state(self, hosts: Collection[str]) -> JobsetState | None:
        """Return what its last evaluation has come to; None where there is no such jobset yet."""

    async def find_eval(self, revision: str) -> int | None:
        """Return the newest eval of a revision of the flake, None while there is none.

        Of what changes no derivation Hydra lists none.
        """

    async def newest_eval(self) -> int | None:
        """Return the newest eval that is listed, of whatever revision."""

    async def job_of(self, eval_id: int, host: str) -> HostJob:
        """Return how the job of a host stands in an eval."""


@dataclass(frozen=True, slots=True)
class UpdatePorts:
    """All that the update side may need of the world; without a forge nothing is proposed."""

    clock: Clock
    sink: EventSink
    builds: FlakeBuilds
    repository: Repository
    forge: Forge | None = None
    jobset: UpdateJobset | None = None
    """Where Hydra is to prove an update."""
    notifier: Notifier | None = None
