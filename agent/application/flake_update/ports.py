"""The ports of the update side: what its use cases need of the world.

As in `agent.application.ports`: every port that can fail raises the `AgentError` its docstring
names, and nothing else. Who tells people is `agent.application.notification.Notifier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


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
        ...

    async def open(self, head: str, base: str, title: str, body: str) -> Proposal:
        """Propose the branch `head`, which has been pushed; FORGE_CONFLICT if it is already.

        `body` is Markdown; what is too long for the forge is cut, and says so.
        """
        ...

    async def refresh(self, proposal: Proposal, title: str, body: str) -> Proposal:
        """Replace title and body of a proposal."""
        ...

    async def add_labels(self, proposal: Proposal, labels: tuple[str, ...]) -> None:
        """Add labels, by name; those it has stay, those the repository lacks are made."""
        ...

    async def assign(self, proposal: Proposal, people: tuple[str, ...]) -> None:
        """Add assignees, by login; FORGE_UNPROCESSABLE names those who cannot be assigned."""
        ...

    async def enable_auto_merge(self, proposal: Proposal, method: MergeMethod) -> None:
        """Let the forge merge as soon as its required checks are green; asked twice is asked once.

        Also AUTO_MERGE_REFUSED: the repository does not allow it, or requires no check.
        """
        ...

    async def comment(self, proposal: Proposal, text: str) -> None:
        """Add a comment, in Markdown."""
        ...
