"""Brings a verified update to the remote and proposes it, or takes it back whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.application.flake_update import events, notices
from agent.application.flake_update.compare import step
from agent.application.flake_update.policy import Verify
from agent.application.report import error_fields
from agent.domain.errors import AgentError, Kind
from agent.domain.flake_update.report import proposal_body, title_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import date

    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import Forge, Proposal, UpdatePorts
    from agent.domain.flake_update.branch import Target
    from agent.domain.flake_update.comparison import Comparison

    Prove = Callable[[], Awaitable[Comparison]]
    """Returns the report when the pushed revision is proven, and raises where it is not."""

_NEVER_PUSHED: Final = frozenset(
    {
        *(Kind.PUSH_REFUSED, Kind.HOOK_REFUSED, Kind.BRANCH_DIVERGED, Kind.REMOTE_UNAUTHORISED),
        *(Kind.GIT_MISSING, Kind.NO_SPACE, Kind.REMOTE_MISSING),
    }
)
"""Faults of a push after which the remote is as it was."""


@dataclass(frozen=True, slots=True)
class Update:
    """A committed update: where it is to go, when it was made, what is proposed there already."""

    revision: str
    target: Target
    day: date
    proposal: Proposal | None
    look_at: str


class Publication:
    """One update on its way; whatever ends it early, the remote is as before, or people know."""

    def __init__(self, ports: UpdatePorts, policy: UpdatePolicy, update: Update) -> None:
        self._ports = ports
        self._policy = policy
        self._update = update

    async def publish(self, prove: Prove) -> tuple[Comparison, Proposal | None]:
        """Push, prove, and propose what the proof has given.

        Raises:
            AgentError: GitError, ForgeError, and whatever `prove` raises.
        """
        is_pushed = True
        try:
            with step(self._ports.sink, f"Pushing {self._update.target.name}"):
                try:
                    await self._push()
                except AgentError as error:
                    is_pushed = error.kind not in _NEVER_PUSHED
                    raise
            comparison = await prove()
            return comparison, await self._propose(comparison)
        except BaseException:
            # An interruption, too: it arrives here, and what follows is not interrupted again.
            if is_pushed:
                await self._withdraw()
            raise

    async def _push(self) -> None:
        update = self._update
        await self._ports.repository.push(
            update.revision, update.target.name, update.target.replaces
        )
        self._ports.sink.emit(
            events.BRANCH_PUSHED, branch=update.target.name, revision=update.revision
        )

    async def _propose(self, comparison: Comparison) -> Proposal | None:
        forge, update = self._ports.forge, self._update
        if forge is None:
            return None
        title = title_of(update.day)
        body = proposal_body(comparison, self._proof())
        with step(self._ports.sink, "Proposing the update"):
            if update.proposal is not None:
                found = await forge.refresh(update.proposal, title, body)
                event = events.PROPOSAL_REFRESHED
            else:
                found = await forge.open(update.target.name, self._policy.base, title, body)
                event = events.PROPOSAL_OPENED
            self._ports.sink.emit(event, branch=found.head, number=found.number, url=found.url)
            await self._finish(forge, found)
        return found

    def _proof(self) -> str:
        by_hydra = self._policy.verify is Verify.HYDRA
        how = "Hydra has built every host" if by_hydra else "Every host was built"
        return f"*{how} with these inputs before this was proposed by nixos-hydra-agent.*"

    async def _finish(self, forge: Forge, found: Proposal) -> None:
        """Do what was wished for besides; a proposal without it is a proposal all the same."""
        wishes: list[tuple[str, Coroutine[object, object, None]]] = []
        policy = self._policy
        if policy.labels:
            wishes.append(("labels", forge.add_labels(found, policy.labels)))
        if policy.assignees and self._update.proposal is None:
            wishes.append(("assignees", forge.assign(found, policy.assignees)))
        if policy.auto_merge is not None:
            wishes.append(("auto-merge", forge.enable_auto_merge(found, policy.auto_merge)))
        for name, wish in wishes:
            try:
                await wish
            except AgentError as error:
                self._ports.sink.emit(
                    events.PROPOSAL_UNFINISHED, step=name, url=found.url, **error_fields(error)
                )

    async def _withdraw(self) -> None:
        """Leave no branch without a proposal, or tell that one may be left."""
        update = self._update
        try:
            if await self._is_proposed_after_all():
                return
            await self._ports.repository.take_back(
                update.revision, update.target.name, update.target.replaces
            )
            self._ports.sink.emit(
                events.BRANCH_TAKEN_BACK,
                branch=update.target.name,
                former=update.target.replaces,
            )
        except AgentError as error:
            self._ports.sink.emit(
                events.BRANCH_LEFT, branch=update.target.name, **error_fields(error)
            )
            if self._ports.notifier is not None:
                message = notices.branch_left(update.target.name, update.look_at)
                await self._ports.notifier.notify(message)

    async def _is_proposed_after_all(self) -> bool:
        """Whether a request that was cut off, or failed, has opened the proposal nevertheless."""
        forge, update = self._ports.forge, self._update
        if forge is None or update.proposal is not None:
            return False
        found = await forge.open_proposals(self._policy.base, update.target.name)
        return any(
            one.head == update.target.name and one.head_revision == update.revision for one in found
        )
