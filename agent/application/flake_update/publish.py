"""Brings an update to the remote and proposes it, or takes it back whole."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.application.flake_update import events, messages
from agent.application.flake_update.compare import step
from agent.application.flake_update.policy import Verify
from agent.application.flake_update.propose import Proposer
from agent.application.report import error_fields
from agent.application.shielded import shield
from agent.domain.errors import AgentError, Kind
from agent.domain.flake_update.branch import Target
from agent.domain.flake_update.report import mark_of, proposal_body, title_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date

    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import Proposal, UpdatePorts
    from agent.domain.flake_update.comparison import Comparison
    from agent.domain.flake_update.lock_file import LockFile

_NEVER_PUSHED: Final = frozenset(
    {
        *(Kind.PUSH_REFUSED, Kind.HOOK_REFUSED, Kind.BRANCH_DIVERGED, Kind.REMOTE_UNAUTHORISED),
        *(Kind.GIT_MISSING, Kind.NO_SPACE, Kind.REMOTE_MISSING),
    }
)
"""Faults of a push after which the remote is as it was."""


@dataclass(frozen=True, slots=True)
class Update:
    """A proven update: where it is to go, when it was made, what is proposed there already.

    `look_at` is where there is more to read when it fails.
    """

    revision: str
    lock: LockFile
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

    async def publish(self, comparison: Comparison) -> Proposal | None:
        """Push, and propose with the report. GitError, ForgeError."""
        update = self._update
        self._is_left = True
        try:
            try:
                await _push(self._ports, update.revision, update.target)
            except AgentError as error:
                self._is_left = error.kind not in _NEVER_PUSHED
                raise
            return await self._propose(comparison)
        except BaseException:
            if self._is_left:
                await shield(self._withdraw())
            raise

    async def _propose(self, comparison: Comparison) -> Proposal | None:
        update, proposer = self._update, self._proposer
        if proposer is None:
            return None
        body = proposal_body(comparison, self._proof(comparison), update.lock)
        with step(self._ports.sink, "Proposing the update"):
            # To prove it may have taken hours, in which someone has closed or opened one.
            known = await proposer.find(update.target.name)
            found = await proposer.propose(update.target.name, known, title_of(update.day), body)
            self._is_left = False
            await proposer.finish(found, is_new=known is None, older=update.older)
        return found

    def _proof(self, comparison: Comparison) -> str:
        by_hydra = self._policy.verify is Verify.HYDRA
        hosts = "every other host" if comparison.broken else "every host"
        how = f"Hydra has built {hosts}" if by_hydra else f"{hosts.capitalize()} was built"
        return f"*{how} with these inputs before this was proposed by nixos-hydra-agent.*"

    async def _withdraw(self) -> None:
        """Leave no branch without a proposal, or report that one may be left."""
        update = self._update
        try:
            if await self._is_proposed_after_all():
                return
        except AgentError as error:
            await _report_left(self._ports, update.target, update.look_at, error)
        else:
            await _take_back(self._ports, update.revision, update.target, update.look_at)

    async def _is_proposed_after_all(self) -> bool:
        """Whether a request that was cut off, or failed, has had its effect nevertheless."""
        update = self._update
        found = None if self._proposer is None else await self._proposer.find(update.target.name)
        if found is None:
            return False
        is_new = update.proposal is None and found.head_revision == update.revision
        return is_new or mark_of(update.lock) in found.body


@asynccontextmanager
async def on_branch(
    ports: UpdatePorts, revision: str, target: Target, look_at: str
) -> AsyncIterator[None]:
    """Have a revision on a branch meanwhile; whatever ends it, the branch is removed. GitError."""
    is_left = True
    try:
        try:
            await _push(ports, revision, target)
        except AgentError as error:
            is_left = error.kind not in _NEVER_PUSHED
            raise
        yield
    finally:
        if is_left:
            await shield(_take_back(ports, revision, Target(target.name, None), look_at))


async def _push(ports: UpdatePorts, revision: str, target: Target) -> None:
    with step(ports.sink, f"Pushing {target.name}"):
        await ports.repository.push(revision, target.name, target.replaces)
        ports.sink.emit(events.BRANCH_PUSHED, branch=target.name, revision=revision)


async def _take_back(ports: UpdatePorts, revision: str, target: Target, look_at: str) -> None:
    try:
        await ports.repository.revert_branch(revision, target.name, target.replaces)
    except AgentError as error:
        await _report_left(ports, target, look_at, error)
    else:
        ports.sink.emit(events.BRANCH_TAKEN_BACK, branch=target.name, former=target.replaces)


async def _report_left(ports: UpdatePorts, target: Target, look_at: str, error: AgentError) -> None:
    ports.sink.emit(events.BRANCH_LEFT, branch=target.name, **error_fields(error))
    if ports.notifier is not None:
        await ports.notifier.notify(messages.branch_left(target.name, look_at))
