"""Keeps a repository for one at a time, by a lock on a directory that is there anyway."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.domain.errors import GitError, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the repository that a directory is in, with all its worktrees.

    Raises:
        GitError: REPOSITORY_MISSING, REPOSITORY_BUSY.
    """
    found = _repository_above(directory)
    if found is None:
        raise GitError(
            Kind.REPOSITORY_MISSING,
            f"{directory} is in no git repository",
            hint="call it in a checkout, or set flake_update.repository",
        )
    number = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GitError(
                Kind.REPOSITORY_BUSY, f"another update of {directory} is running"
            ) from error
        yield
    finally:
        os.close(number)


def _repository_above(directory: Path) -> Path | None:
    """Return the directory that all worktrees of a repository share, as git itself finds it.

    The forms of `.git` and `commondir` are gitrepository-layout(5)'s.
    """
    for place in (directory, *directory.parents):
        found = place / ".git"
        try:
            if found.is_file():  # of a worktree, or a submodule
                found = place / found.read_text().removeprefix("gitdir: ").strip()
            if (common := found / "commondir").is_file():
                return found / common.read_text().strip()
        except (OSError, ValueError):
            return None
        if found.is_dir():
            return found
    return None
