"""Which branch an update goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from agent.domain.flake_update.lock_file import LockFile

DATE: Final = "{date}"
"""What a template of a branch's name has in place of the day."""
TRAILER: Final = "Updated-by: nixos-hydra-agent"
"""By this line of its message a commit is known as the agent's own."""


@dataclass(frozen=True, slots=True)
class BranchTemplate:
    """The name of the branches of updates, perhaps with `{date}`."""

    text: str = f"flake-update-{DATE}"

    @property
    def prefix(self) -> str:
        """What the names of all of them begin with; the whole name, where that is fixed."""
        return self.text.partition(DATE)[0]

    def on(self, day: date) -> str:
        """Return the name of the branch of a day."""
        return self.text.replace(DATE, f"{day:%Y%m%d}")

    def covers(self, name: str) -> bool:
        """Whether a branch is one of these."""
        first, dated, last = self.text.partition(DATE)
        between = name.removeprefix(first).removesuffix(last)
        is_day = between.isdecimal() if dated else not between
        return name == f"{first}{between}{last}" and is_day


@dataclass(frozen=True, slots=True)
class UpdateBranch:
    """A branch of an earlier update, as the remote has it."""

    name: str
    revision: str
    lock: LockFile | None
    """None where it cannot be read."""
    is_current: bool
    """Whether it begins at the tip of the base branch."""
    is_own: bool
    """Whether all that it adds to the base branch are commits of the agent."""
    is_proposed: bool


@dataclass(frozen=True, slots=True)
class Proposed:
    """The update stands on this branch, and is proposed: nothing is left to do."""

    branch: UpdateBranch


@dataclass(frozen=True, slots=True)
class Target:
    """The branch to push the update to, in place of the revision `replaces`, None if it is new."""

    name: str
    replaces: str | None


@dataclass(frozen=True, slots=True)
class Diverged:
    """The branch has commits of someone else, which must not be lost."""

    branch: UpdateBranch


def choose_branch(
    branches: Sequence[UpdateBranch], wanted: str, lock: LockFile
) -> Proposed | Target | Diverged:
    """Return where the update that locks `lock` belongs; `wanted` is the name of a new branch.

    A branch of the same update is used again, and of another day's update none is touched.
    """
    same = [one for one in branches if one.lock is not None and one.lock.content == lock.content]
    for one in same:
        if one.is_proposed and (one.is_current or not one.is_own):
            return Proposed(one)
    # A proposal comes first: there must never be a second one for the same update.
    ranked = sorted(same, key=lambda one: (one.is_proposed, one.name == wanted), reverse=True)
    target = next((one for one in (*ranked, *branches) if one in same or one.name == wanted), None)
    if target is None:
        return Target(wanted, None)
    if not target.is_own:
        return Diverged(target)
    return Target(target.name, target.revision)
