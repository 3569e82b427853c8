"""A real repository with a flake's files, a bare remote beside it, and git that knows neither this
machine's configuration nor its user."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from agent.adapters.git.repository import GitRepository, Identity
from agent.adapters.process import Runner
from fakes.events import RememberedEvents, SteppedClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_DATE": "2026-12-19T02:00:00Z",
    "GIT_COMMITTER_DATE": "2026-12-19T02:00:00Z",
}
PERSON = ("-c", "user.name=person", "-c", "user.email=person@localhost")


class Checkout:
    """`directory/checkout` on branch main, pushed to `directory/remote.git` as origin."""

    def __init__(self, directory: Path, files: Mapping[str, str]) -> None:
        self.directory = directory
        self.path = directory / "checkout"
        self.remote = directory / "remote.git"
        self.scratch = directory / "nixos-hydra-agent-update-x"
        self.scratch.mkdir(parents=True)
        self.path.mkdir()
        self.home = directory / "home"
        self.home.mkdir()
        self.environment = {**ENVIRONMENT, "HOME": str(self.home)}
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.remote))
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", str(self.remote))
        self.commit(files, "Begin")
        self.git("push", "--quiet", "origin", "main")

    def git(self, *arguments: str, at: Path | None = None) -> str:
        """Run git as a person would."""
        done = subprocess.run(
            ("git", *PERSON, "-C", str(at or self.path), *arguments),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str], message: str) -> str:
        """Commit files in the checkout and return the revision."""
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def tips(self) -> dict[str, str]:
        """Return the tips of the remote's branches."""
        told = self.git("for-each-ref", "--format=%(refname:short) %(objectname)", at=self.remote)
        return dict(line.split() for line in told.splitlines())

    def state(self) -> dict[str, str]:
        """Return all of the checkout that a run must not touch."""
        return {
            "head": (self.path / ".git/HEAD").read_text(),
            "status": self.git("status", "--porcelain=v2", "--branch", "--ignored"),
            "refs": self.git("for-each-ref", "refs/heads", "refs/tags", "refs/stash"),
            "worktrees": self.git("worktree", "list", "--porcelain"),
            "config": (self.path / ".git/config").read_text(),
            "stash": self.git("stash", "list"),
        }

    def hook(self, name: str, script: str, *, of_remote: bool = False) -> None:
        """Install a hook."""
        directory = self.remote / "hooks" if of_remote else self.path / ".git/hooks"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)

    def repository(self, **changes: object) -> GitRepository:
        """Return the adapter, with other settings than the defaults."""
        environment = {**self.environment, **changes.pop("env", {})}  # type: ignore[dict-item]
        settings = {
            "flake": self.path,
            "remote": "origin",
            "scratch": self.scratch,
            "identity": Identity("agent", "agent@localhost"),
            **changes,
        }
        self.sink = RememberedEvents()
        runner = Runner(self.sink, SteppedClock(), environment)
        return GitRepository(runner, settings.pop("flake"), **settings)  # type: ignore[arg-type]
