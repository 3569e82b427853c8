"""Brings a verified update to the remote and proposes it, or takes it back whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.application.flake_update import events, notices
from agent.application.flake_update.compare import step
from agent.application.flake_update.policy import Verify
from agent.application.flake_update.propose import Proposer
from agent.application.report import error_fields
from agent.application.uninterrupted import to_its_end
from agent.domain.errors import AgentError, Kind
from agent.domain.flake_update.report import proposal_body, title_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import date

    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import Proposal, UpdatePorts
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
    """A committed update: where it is to go, when it was made, what is proposed there already.

    `look_at` is where there is more to read when it fails.
    """

    revision: str
    target: Target
    day: date
    proposal: Proposal | None
    older: Proposal | None
    """The newest proposal of an earlier update, which stays as it is."""
    look_at: str


class Publication:
    """One update on its way; whatever ends it early, the remote is as before, or people know."""

    def __init__(self, ports: UpdatePorts, policy: UpdatePolicy, update: Update) -> None:
        self._ports = ports
        self._policy = policy
        self._update = update
        forge = ports.forge
        self._proposer = None if forge is None else Proposer(forge, policy, ports.sink)
        self._is_left = False
        """Whether the branch may be on the remote without a proposal."""

    async def publish(self, prove: Prove) -> tuple[Comparison, Proposal | None]:
        """Push, prove, and propose what the proof has given.

        Raises:
            AgentError: GitError, ForgeError, and whatever `prove` raises.
        """
        self._is_left = True
        try:
            with step(self._ports.sink, f"Pushing {self._update.target.name}"):
                try:
                    await self._push()
                except AgentError as error:
                    self._is_left = error.kind not in _NEVER_PUSHED
                    raise
            comparison = await prove()
            return comparison, await self._propose(comparison)
        except BaseException:
            if self._is_left:
                await to_its_end(self._withdraw())
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
        update, proposer = self._update, self._proposer
        if proposer is None:
            return None
        body = proposal_body(comparison, self._proof())
        with step(self._ports.sink, "Proposing the update"):
            found = await proposer.propose(
                update.target.name, update.proposal, title_of(update.day), body
            )
            self._is_left = False
            await proposer.finish(found, is_new=update.proposal is None, older=update.older)
        return found

    def _proof(self) -> str:
        by_hydra = self._policy.verify is Verify.HYDRA
        how = "Hydra has built every host" if by_hydra else "Every host was built"
        return f"*{how} with these inputs before this was proposed by nixos-hydra-agent.*"

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
        update = self._update
        if self._proposer is None or update.proposal is not None:
            return False
        found = await self._proposer.find(update.target.name)
        return found is not None and found.head_revision == update.revision
