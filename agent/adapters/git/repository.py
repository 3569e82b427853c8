"""Runs git: a repository whose checkout, index and branches stay as they are.

What is done is done in temporary worktrees on detached heads, and pushed as commits, not branches.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.git.faults import fault_of, fault_of_commit, fault_of_push
from agent.adapters.git.lock import held
from agent.adapters.nix.program import IN_ENGLISH
from agent.adapters.process import ProgramMissingError
from agent.application.flake_update.ports import Repository
from agent.application.shielded import shield
from agent.domain.errors import GitError, Kind
from agent.domain.flake_update.lock_file import LOCK_FILE, MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agent.adapters.process import Completed, Runner

WORKTREES: Final = "nixos-hydra-agent-update-"
"""What the names of directories of worktrees begin with, wherever temporary files are."""
_REVISION: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HEADS: Final = "refs/heads/"
_TIMEOUT: Final = 600.0
_WITHOUT_HOOKS: Final = ("-c", "core.hooksPath=/dev/null")
"""Those of a checkout are for people who work in it."""
_COMMENT: Final = re.compile(r"#[^\n]*|/\*.*?\*/", re.DOTALL)
_OF_SELF: Final = r"\bself\s*(?:\.\s*|=\s*\{[^}]*?\b)"
_HAS_SUBMODULES: Final = re.compile(rf"{_OF_SELF}submodules\s*=\s*true\b")
_HAS_LFS: Final = re.compile(rf"{_OF_SELF}lfs\s*=\s*true\b")
"""What nix 2.27 and newer fetch with the flake itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """In whose name commits are made and signed; None is what git itself is configured for.

    `signing_format` is git's `gpg.format`: `openpgp` or `ssh`; `signing_key` is a key's id or, for
    ssh, the file of a private key. Without a committer, that is the author.
    """

    name: str | None = None
    mail: str | None = None
    signing_format: str | None = None
    signing_key: str | None = None
    committer_name: str | None = None
    committer_mail: str | None = None


class GitRepository(Repository):
    """git, as the port `Repository` wants it.

    `flake` is the flake's directory, `remote` the remote's name, `scratch` where worktrees go. With
    `ssh_key` that key alone is shown to the remote.
    """

    def __init__(
        self,
        runner: Runner,
        flake: Path,
        *,
        remote: str,
        scratch: Path,
        identity: Identity,
        ssh_key: Path | None = None,
    ) -> None:
        self.flake = flake
        self._runner = runner
        self._remote = remote
        self._scratch = scratch
        self._identity = identity
        self._ssh_key = ssh_key
        self._prefix = ""
        self._made = 0

    @override
    def hold(self) -> AbstractContextManager[None]:
        return held(self.flake)

    @override
    async def prepare(self) -> None:
        asked = ("rev-parse", "--is-shallow-repository", "--show-prefix")
        done = await self._git("find the repository", *asked)
        is_shallow, _, prefix = done.stdout.partition("\n")
        self._prefix = prefix.strip()
        if is_shallow == "true":
            raise GitError(
                Kind.REPOSITORY_SHALLOW,
                f"the repository of {self.flake} is a shallow clone, which nix does not take",
                hint="`git fetch --unshallow`; in a workflow, `fetch-depth: 0` for the checkout",
            )
        listed = await self._git("list worktrees", "worktree", "list", "--porcelain")
        for line in listed.stdout.splitlines():
            place = Path(line.removeprefix("worktree "))
            if line.startswith("worktree ") and place.parent.name.startswith(WORKTREES):
                await self._forget(place)
                shutil.rmtree(place.parent, ignore_errors=True)

    @override
    async def head(self) -> str:
        done = await self._git("find what is checked out", "rev-parse", "--verify", "HEAD^{commit}")
        return _revision(done.stdout)

    @override
    async def file_at(self, revision: str, name: str) -> str | None:
        place = f"{revision}:{self._prefix}{name}"
        kind = await self._try("cat-file", "-t", place)
        if kind.returncode != 0 or kind.stdout.strip() != "blob":
            return None
        done = await self._git(f"read {name}", "cat-file", "blob", place)
        return done.stdout[: MAX_SIZE + 1]

    @override
    def text_in(self, flake: Path, name: str) -> str | None:
        try:
            with (flake / name).open(encoding="utf-8", errors="replace", newline="") as stream:
                return stream.read(MAX_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise GitError(Kind.GIT_FAILED, f"cannot read {flake / name}: {error}") from error

    @override
    def put(self, flake: Path, name: str, text: str) -> None:
        try:
            (flake / name).write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise fault_of(f"write {flake / name}", str(error)) from error

    @override
    @asynccontextmanager
    async def worktree(self, revision: str) -> AsyncIterator[Path]:
        self._made += 1
        place = self._scratch / f"worktree-{self._made}"
        try:
            add = ("worktree", "add", "--detach", "--quiet", str(place), revision)
            await self._git("make a worktree", *_WITHOUT_HOOKS, *add)
            await self._complete(place)
            yield place / self._prefix
        finally:
            await shield(self._forget(place))

    async def _complete(self, place: Path) -> None:
        """Bring what git leaves out of a worktree and the flake says that it is made of.

        nix takes a worktree that has changes as it lies there.
        """
        flake = _COMMENT.sub("", self.text_in(place / self._prefix, "flake.nix") or "")
        if _HAS_SUBMODULES.search(flake):
            # Without `--init`, which would write into the repository's configuration.
            update = ("-c", "submodule.active=.", "submodule", "--quiet", "update", "--recursive")
            await self._git("fetch the submodules", *_WITHOUT_HOOKS, *update, at=place)
        if _HAS_LFS.search(flake):
            if (await self._try("lfs", "version", at=place)).returncode != 0:
                raise GitError(
                    Kind.GIT_FAILED,
                    "flake.nix has `self.lfs = true`, and git cannot fetch files of Git LFS",
                    hint="put git-lfs on PATH, for a unit by systemd.services.NAME.path",
                )
            await self._git("fetch the files of Git LFS", "lfs", "pull", self._remote, at=place)

    async def _forget(self, place: Path) -> None:
        """Remove a worktree, or what there is of it; never raises for what is not there."""
        await self._try("worktree", "remove", "--force", "--force", str(place))
        shutil.rmtree(place, ignore_errors=True)

    @override
    async def copy_changes(self, flake: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            patch = Path(directory) / "changes.patch"
            what = "read the uncommitted changes"
            # Another format may be configured; this is the one that `git apply` reads.
            plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative")
            form = ("--src-prefix=a/", "--dst-prefix=b/", "--full-index", "--binary")
            output = f"--output={patch}"
            await self._git(what, "diff", *plain, *form, output, "HEAD", "--", ":/")
            if patch.exists() and patch.stat().st_size:
                apply = ("apply", "--index", "--whitespace=nowarn", str(patch))
                top = _top(flake, self._prefix)
                await self._git("copy the uncommitted changes", *apply, at=top)

    @override
    async def remote_branches(self, base: str, prefixes: Sequence[str]) -> Mapping[str, str]:
        remotes = await self._git("list remotes", "remote")
        if self._remote not in remotes.stdout.split():
            raise GitError(
                Kind.REMOTE_MISSING,
                f"the repository has no remote {self._remote!r}",
                hint="see `git remote`, and flake_update.remote",
            )
        what = f"ask {self._remote} for its branches"
        patterns = (_HEADS + base, *(f"{_HEADS}{prefix}*" for prefix in prefixes))
        listed = await self._git(what, "ls-remote", "--heads", self._remote, *patterns)
        tips = dict(_tips(listed.stdout))
        if base not in tips:
            raise GitError(
                Kind.BASE_MISSING,
                f"{self._remote} has no branch {base!r}",
                hint="see flake_update.base",
            )
        wanted = (_HEADS + name for name in tips)
        quietly = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--quiet")
        # Without a place of their own the branches move none of the repository's.
        await self._git(f"fetch from {self._remote}", "fetch", *quietly, self._remote, *wanted)
        return tips

    @override
    async def is_ancestor(self, older: str, newer: str) -> bool:
        done = await self._try("merge-base", "--is-ancestor", older, newer)
        return done.returncode == 0

    @override
    async def messages(self, base: str, tip: str) -> tuple[str, ...]:
        listed = ("log", "--format=%B%x00", "--max-count=1000", f"{base}..{tip}")
        done = await self._git("read the branch's commits", *listed)
        return tuple(text.strip() for text in done.stdout.split("\0")[:-1])

    @override
    async def adds_only_lock(self, base: str, tip: str) -> bool:
        changed = ("diff", "--name-only", "--no-renames", "-z", f"{base}...{tip}")
        done = await self._git("read the branch's changes", *changed)
        return set(done.stdout.split("\0")[:-1]) <= {f"{self._prefix}{LOCK_FILE}"}

    @override
    async def commit(self, flake: Path, message: str) -> str:
        await self._git("stage the lock file", "add", "--", LOCK_FILE, at=flake)
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            file = Path(directory) / "message"
            self.put(file.parent, file.name, message)
            options, signing = self._identity_options()
            command = ("commit", "--quiet", "--cleanup=whitespace", f"--file={file}", *signing)
            done = await self._try(*options, *command, at=flake)
        if done.returncode != 0:
            raise fault_of_commit("commit the update", done)
        found = await self._git("find the commit", "rev-parse", "--verify", "HEAD", at=flake)
        return _revision(found.stdout)

    def _identity_options(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        one = self._identity
        settings = {
            "user.name": one.name,
            "user.email": one.mail,
            "committer.name": one.committer_name,
            "committer.email": one.committer_mail,
            "gpg.format": one.signing_format,
            "user.signingkey": one.signing_key,
        }
        pairs = ((("-c", f"{key}={value}")) for key, value in settings.items() if value)
        signing = ("--gpg-sign",) if one.signing_format else ()
        return tuple(word for pair in pairs for word in pair), signing

    @override
    async def push(self, revision: str, branch: str, replaces: str | None) -> None:
        done = await self._push(f"{revision}:{_HEADS}{branch}", branch, replaces)
        if done.returncode != 0:
            raise fault_of_push(f"push {branch}", done)

    @override
    async def revert_branch(self, revision: str, branch: str, former: str | None) -> None:
        done = await self._push(f"{former or ''}:{_HEADS}{branch}", branch, revision)
        if done.returncode != 0:
            fault = fault_of_push(f"take {branch} back", done)
            # It never came to be what is to be taken back, or is someone else's by now.
            if fault.kind is not Kind.BRANCH_DIVERGED:
                raise fault

    async def _push(self, refspec: str, branch: str, expected: str | None) -> Completed:
        lease = f"--force-with-lease={_HEADS}{branch}:{expected or ''}"
        quietly = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no")
        return await self._try("push", *quietly, lease, self._remote, refspec)

    async def _git(self, what: str, *arguments: str, at: Path | None = None) -> Completed:
        done = await self._try(*arguments, at=at)
        if done.returncode != 0:
            raise fault_of(what, done.tail)
        return done

    async def _try(self, *arguments: str, at: Path | None = None) -> Completed:
        argv = ("git", "-C", str(at or self.flake), *arguments)
        try:
            done = await self._runner.run(argv, timeout=_TIMEOUT, env=self._environment())
        except ProgramMissingError as error:
            raise GitError(Kind.GIT_MISSING, str(error), hint="is git on PATH?") from error
        if done.timed_out:
            raise GitError(Kind.GIT_TIMEOUT, f"git {arguments[0]} took longer than {_TIMEOUT:g} s")
        return done

    def _environment(self) -> dict[str, str]:
        if self._ssh_key is None:
            return dict(IN_ENGLISH)
        usual = self._runner.environment["GIT_SSH_COMMAND"]
        quoted = str(self._ssh_key).replace("'", "'\\''")
        ssh = f"{usual} -o IdentitiesOnly=yes -i '{quoted}'"
        return {**IN_ENGLISH, "GIT_SSH_COMMAND": ssh}


def _top(flake: Path, prefix: str) -> Path:
    """Return the top of the worktree that has the flake in `prefix`."""
    return flake.parents[prefix.count("/") - 1] if prefix else flake


def _tips(listed: str) -> Iterator[tuple[str, str]]:
    for line in listed.splitlines():
        revision, _, name = line.partition("\t")
        if _REVISION.fullmatch(revision) and name.startswith(_HEADS):
            yield name.removeprefix(_HEADS), revision


def _revision(text: str) -> str:
    revision = text.strip()
    if not _REVISION.fullmatch(revision):
        raise GitError(Kind.GIT_FAILED, f"git printed {text[:100]!r} where a commit's hash belongs")
    return revision
