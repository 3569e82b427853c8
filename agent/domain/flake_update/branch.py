"""Which branch an update goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from agent.domain.flake_update.lock_file import LockFile

DATE: Final = "{date}"
"""The placeholder for the day in a branch name."""
TRAILER: Final = "Updated-by: nixos-hydra-agent"
"""This line of its message marks a commit as the agent's own."""


@dataclass(frozen=True, slots=True)
class BranchTemplate:
    """The name of the branches for updates, which may contain `{date}`."""

    text: str = f"flake-update-{DATE}"

    @property
    def prefix(self) -> str:
        """The common prefix of their names; the whole name if that is fixed."""
        return self.text.partition(DATE)[0]

    def on(self, day: date) -> str:
        """Return the name of a day's branch."""
        return self.text.replace(DATE, f"{day:%Y%m%d}")

    def covers(self, name: str) -> bool:
        """Whether a branch is one of these."""
        first, dated, last = self.text.partition(DATE)
        between = name.removeprefix(first).removesuffix(last)
        is_day = between.isdecimal() if dated else not between
        return name == f"{first}{between}{last}" and is_day


@dataclass(frozen=True, slots=True)
class UpdateBranch:
    """A branch of an earlier update on the remote."""

    name: str
    revision: str
    lock: LockFile | None
    """None if it cannot be read."""
    is_current: bool
    """Whether it is based on the tip of the base branch."""
    is_own: bool
    """Whether all commits that it adds to the base are the agent's, and change the lock alone."""
    is_proposed: bool
    is_as_proposed: bool = False
    """Whether its lock is the one that the agent has described in its proposal."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """The update is on this branch and has been proposed: nothing is left to do."""

    branch: UpdateBranch


@dataclass(frozen=True, slots=True)
class Target:
    """The branch to push the update to; `replaces` is its present revision, None if it is new."""

    name: str
    replaces: str | None


@dataclass(frozen=True, slots=True)
class Diverged:
    """The branch has commits by others, which must not be lost."""

    branch: UpdateBranch


def choose_branch(
    branches: Sequence[UpdateBranch], wanted: str, lock: LockFile, *, refreshes: bool = False
) -> Proposed | Target | Diverged:
    """Return where the update that locks `lock` belongs; `wanted` is the name of a new branch.

    A branch of the same update is used again. With `refreshes` the newest one that is proposed, and
    has the agent's work alone, is used for another update as well: one proposal stays fresh.
    """
    same = [one for one in branches if one.lock is not None and one.lock.content == lock.content]
    for one in same:
        if one.is_proposed and (one.is_current or not one.is_own):
            return Proposed(one)
    # A proposal comes first: there must never be a second one.
    ranked = sorted(same, key=lambda one: (one.is_proposed, one.name == wanted), reverse=True)
    proposed = [one for one in ranked if one.is_proposed]
    today = [one for one in branches if one.name == wanted]
    stale = [one for one in branches if one.is_proposed and one.is_as_proposed and one.is_own]
    stale = stale if refreshes else []
    stale.sort(key=lambda one: one.name, reverse=True)
    target = next(iter((*proposed, *stale, *ranked, *today)), None)
    if target is None:
        return Target(wanted, None)
    if not target.is_own:
        return Diverged(target)
    return Target(target.name, target.revision)
