"""Everything that a use case of the update side sees, in memory."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.application.flake_update.diff import diff
from agent.application.flake_update.policy import UpdatePolicy
from agent.application.flake_update.ports import UpdatePorts
from agent.application.flake_update.run import Recipients, run
from agent.domain.flake_update.lock_file import LOCK_FILE, parse_lock_file
from agent.domain.flake_update.report import mark_of
from fake_forges.world import World
from fakes.events import RememberedEvents, SteppedClock
from fakes.flake_update import (
    FakeBuilds,
    FakeJobset,
    FakeNotifier,
    FakeRepository,
    Ground,
    lock_text,
    system,
)
from fakes.forge import FakeForge

if TYPE_CHECKING:
    from agent.application.flake_update.result import RunResult
    from agent.domain.flake_update.comparison import Comparison

OLD, NEW, NEWER = "a" * 40, "b" * 40, "c" * 40
TODAY = "flake-update-20261219"
YESTERDAY = "flake-update-20261218"
FLEETS = {
    NEW: {"db": system("db-1"), "iso-minimal": system("iso-2"), "web": system("web-2")},
    OLD: {"db": system("db-1"), "iso-minimal": system("iso-1"), "web": system("web-1")},
    NEWER: {"db": system("db-2"), "iso-minimal": system("iso-2"), "web": system("web-2")},
}


class UpdateWorld:
    """A checkout at OLD, an upstream at NEW: the host `web` changes, `db` does not."""

    def __init__(self) -> None:
        self.ground = Ground()
        files = {"flake.nix": "{}", LOCK_FILE: lock_text(OLD)}
        self.repository = FakeRepository(self.ground, files)
        self.builds = FakeBuilds(self.ground, FLEETS)
        self.pulls = World(branches=lambda: self.repository.remote)
        self.forge = FakeForge(self.pulls)
        self.jobset = FakeJobset()
        self.notifier = FakeNotifier()
        self.sink = RememberedEvents()
        self.clock = SteppedClock(datetime(2026, 12, 19, 2, 0, tzinfo=UTC))
        self.policy = UpdatePolicy()
        self.ports = UpdatePorts(
            clock=self.clock,
            sink=self.sink,
            builds=self.builds,
            repository=self.repository,
            forge=self.forge,
            notifier=self.notifier,
        )

    def change(self, **changes: object) -> None:
        """Change what the administrator wants."""
        self.policy = replace(self.policy, **changes)  # type: ignore[arg-type]

    def without(self, *names: str) -> None:
        """Take ports away."""
        for name in names:
            self.ports = replace(self.ports, **{name: None})  # type: ignore[arg-type]

    def asks_hydra(self) -> None:
        """Let Hydra prove updates."""
        from agent.application.flake_update.policy import Verify

        self.change(verify=Verify.HYDRA)
        self.ports = replace(self.ports, jobset=self.jobset)

    def diff(self, *, skips_update: bool = False) -> Comparison | None:
        return asyncio.run(diff(self.ports, self.policy, skips_update=skips_update))

    def run(self, *, dry_run: bool = False) -> RunResult:
        return asyncio.run(self.running(dry_run=dry_run))

    async def running(self, *, dry_run: bool = False) -> RunResult:
        recipients = Recipients(self.sink, self.ports.notifier, "the log")
        return await run(nullcontext(self.ports), self.policy, recipients, dry_run=dry_run)

    def propose(self, branch: str, revision: str, *, lock: str, base: str | None = None) -> None:
        """Leave an earlier update on a branch of the remote, and propose it."""
        self.leave(branch, lock=lock, base=base)
        mark = mark_of(parse_lock_file(lock_text(lock)))
        tip = revision or self.repository.remote[branch]
        self.pulls.add(branch, revision=tip, body=f"An update.\n\n{mark}")

    def leave(
        self,
        branch: str,
        *,
        lock: str,
        base: str | None = None,
        message: str = "Update\n\nUpdated-by: nixos-hydra-agent",
    ) -> str:
        """Leave an earlier update on a branch of the remote; return its revision."""
        files = {"flake.nix": "{}", LOCK_FILE: lock_text(lock)}
        revision = self.repository.add(files, base or self.repository.tip, message)
        self.repository.remote[branch] = revision
        return revision

    def advance_base(self) -> str:
        """Let someone commit to the base branch."""
        files = self.repository.commits[self.repository.remote["main"]].files
        revision = self.repository.add(
            {**files, "readme": "x"}, self.repository.remote["main"], "Change"
        )
        self.repository.remote["main"] = revision
        return revision
