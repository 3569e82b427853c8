"""Opens or refreshes the proposal of an update's branch, and does what else is wished for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application.flake_update import events
from agent.application.report import error_fields
from agent.domain.errors import AgentError, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.application.events import Event
    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import Forge, Proposal
    from agent.application.ports import EventSink


class Proposer:
    """One forge, and what the administrator wants of proposals there."""

    def __init__(self, forge: Forge, policy: UpdatePolicy, sink: EventSink) -> None:
        self._forge = forge
        self._policy = policy
        self._sink = sink

    async def find(self, branch: str) -> Proposal | None:
        """Return the open proposal of a branch. ForgeError."""
        found = await self._forge.open_proposals(self._policy.base, branch)
        return next((one for one in found if one.head == branch), None)

    async def propose(self, branch: str, known: Proposal | None, title: str, body: str) -> Proposal:
        """Return the proposal of a branch, new or updated; there is never a second. ForgeError.

        `known` is the one that it had before.
        """
        if known is None:
            try:
                found = await self._forge.open(branch, self._policy.base, title, body)
            except AgentError as error:
                if error.kind is not Kind.FORGE_CONFLICT:
                    raise
                known = await self.find(branch)
                if known is None:
                    raise
            else:
                self._log(events.PROPOSAL_OPENED, found)
                return found
        found = await self._forge.refresh(known, title, body)
        self._log(events.PROPOSAL_REFRESHED, found)
        return found

    async def finish(self, found: Proposal, *, is_new: bool, older: Proposal | None) -> None:
        """Do what is wished for besides; a proposal without it is a proposal all the same.

        `older` is the proposal of another update that this one takes the place of.
        """
        forge, policy = self._forge, self._policy
        if policy.labels:
            await self._try("labels", found, lambda: forge.add_labels(found, policy.labels))
        if policy.assignees and is_new:
            await self._try("assignees", found, lambda: forge.assign(found, policy.assignees))
        if (method := policy.auto_merge) is not None:
            await self._try("auto-merge", found, lambda: forge.enable_auto_merge(found, method))
        if older is not None and is_new:
            text = f"There is a newer update: {found.url}"
            await self._try("note on the older proposal", found, lambda: forge.comment(older, text))

    async def _try(self, what: str, found: Proposal, wish: Callable[[], Awaitable[None]]) -> None:
        try:
            await wish()
        except AgentError as error:
            self._sink.emit(
                events.PROPOSAL_UNFINISHED, step=what, url=found.url, **error_fields(error)
            )

    def _log(self, event: Event, found: Proposal) -> None:
        self._sink.emit(event, branch=found.head, number=found.number, url=found.url)
