"""The use case `agent flake-update run`: proposes an update that is proven, or says why not.

Everything happens in temporary worktrees, and no branch of the user's repository is touched: the
commit is pushed as it is.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.application.flake_update import events
from agent.application.flake_update.compare import (
    build_hosts,
    committed_lock,
    evaluate_hosts,
    find_hosts,
    step,
)
from agent.application.flake_update.diff import as_dirty, changes_of_lock, require_flake
from agent.application.flake_update.hydra_proof import HydraProof
from agent.application.flake_update.policy import Verify
from agent.application.flake_update.publish import Publication, Update, on_branch
from agent.application.flake_update.result import Outcome, RunResult, message_of
from agent.application.report import error_fields
from agent.application.shielded import shield
from agent.domain.errors import AgentError, FlakeError, GitError, Kind
from agent.domain.flake_update.branch import (
    TRAILER,
    Diverged,
    Proposed,
    Target,
    UpdateBranch,
    choose_branch,
)
from agent.domain.flake_update.comparison import Broken, Comparison, Effect, Stage, System
from agent.domain.flake_update.hydra_proof import mark_red
from agent.domain.flake_update.lock_file import LOCK_FILE, parse_lock_file
from agent.domain.flake_update.report import commit_message, mark_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.application.flake_update.compare import Evaluated
    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import Proposal, UpdateJobset, UpdatePorts
    from agent.application.notification import Notifier
    from agent.application.ports import EventSink
    from agent.domain.flake_update.hosts import HostPatterns
    from agent.domain.flake_update.lock_file import LockFile


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who learns what came of a run; `look_at` is where there is more to read when it fails."""

    sink: EventSink
    notifier: Notifier | None
    look_at: str


async def run(
    opening: AbstractAsyncContextManager[UpdatePorts],
    policy: UpdatePolicy,
    recipients: Recipients,
    *,
    dry_run: bool,
) -> RunResult:
    """Update, verify, commit, push and propose, once; the outcome is sent as a notification.

    What keeps the ports from being opened is a fault of the run as well. With `dry_run` nothing is
    committed, pushed, proposed or sent; a run beside another leaves that to the other. Only an
    interruption is raised once its notification has been sent, too.
    """
    one = None
    try:
        async with opening as ports:
            one = _Run(ports, policy, dry_run=dry_run, look_at=recipients.look_at)
            with ports.repository.hold():
                result = await one.perform()
    except AgentError as error:
        recipients.sink.emit(events.UPDATE_FAILED, **error_fields(error))
        result = RunResult(Outcome.FAILED, error=error)
        if one is not None:
            result = RunResult(Outcome.FAILED, one.comparison, one.branch, error=error)
    except asyncio.CancelledError:
        await shield(_notify(recipients, _ENDED, dry_run=dry_run))
        raise
    await shield(_notify(recipients, result, dry_run=dry_run))
    recipients.sink.emit(events.UPDATE_FINISHED, **result.fields())
    return result


_ENDED: Final = RunResult(
    Outcome.FAILED,
    error=AgentError(Kind.TERMINATED, "the run was asked to end before it was finished"),
)


async def _notify(recipients: Recipients, result: RunResult, *, dry_run: bool) -> None:
    is_busy = result.error is not None and result.error.kind is Kind.REPOSITORY_BUSY
    if recipients.notifier is not None and not dry_run and not is_busy:
        with step(recipients.sink, "Sending notifications"):
            await recipients.notifier.notify(message_of(result, recipients.look_at))


@dataclass(frozen=True, slots=True)
class Worktrees:
    """Two worktrees of the base branch; `before` has its lock file, `committed`, made dirty."""

    before: Path
    after: Path
    committed: str
    updated: LockFile


@dataclass
class _Run:
    """One run, and how far it has come."""

    ports: UpdatePorts
    policy: UpdatePolicy
    dry_run: bool
    look_at: str
    comparison: Comparison | None = None
    branch: str | None = None
    proposals: tuple[Proposal, ...] = ()
    tips: Mapping[str, str] = field(default_factory=dict)

    async def perform(self) -> RunResult:
        repository = self.ports.repository
        await repository.prepare()
        await self._fetch()
        base = self.tips[self.policy.base]
        require_flake(await repository.file_at(base, "flake.nix"))
        text = await repository.file_at(base, LOCK_FILE)
        committed = committed_lock(text)
        committed.require(self.policy.inputs)
        async with AsyncExitStack() as stack:
            after = await stack.enter_async_context(repository.worktree(base))
            with step(self.ports.sink, "Updating flake inputs"):
                await self.ports.builds.update(after, self.policy.inputs)
            inputs = changes_of_lock(self.ports, self.policy, committed, after)
            if inputs is None:
                return RunResult(Outcome.LOCK_UNCHANGED)
            self.comparison = Comparison(inputs)
            lock = parse_lock_file(repository.text_in(after, LOCK_FILE) or "")
            target = await self._target(lock)
            if isinstance(target, RunResult):
                return target
            if self.ports.forge is not None and not self.dry_run:
                await self.ports.forge.require_proposing(self.policy.base)
            before = await stack.enter_async_context(repository.worktree(base))
            repository.put(before, LOCK_FILE, as_dirty(text))
            hosts = await find_hosts(self.ports, after, self.policy.hosts)
            trees = Worktrees(before, after, text or "", lock)
            return await self._verify(
                trees, await evaluate_hosts(self.ports, before, after, hosts), target
            )

    async def _fetch(self) -> None:
        """Ask forge and remote what there is: what they refuse shows before anything is built."""
        base, prefix = self.policy.base, self.policy.branch.prefix
        with step(self.ports.sink, f"Fetching {base}"):
            if self.ports.forge is not None:
                found = await self.ports.forge.open_proposals(base, prefix)
                self.proposals = tuple(one for one in found if self.policy.branch.covers(one.head))
            prefixes = (prefix, self.policy.candidate) if self._jobset else (prefix,)
            self.tips = await self.ports.repository.remote_branches(base, prefixes)

    async def _target(self, lock: LockFile) -> Target | RunResult:
        day = self.ports.clock.now().date()
        branches = [await self._look_at(one) for one in self.tips if self.policy.branch.covers(one)]
        # What is only pushed nobody looks at as one: there each day has a branch of its own.
        refreshes = self.ports.forge is not None
        wanted = self.policy.branch.on(day)
        chosen = choose_branch(branches, wanted, lock, refreshes=refreshes)
        if isinstance(chosen, Proposed):
            return RunResult(
                Outcome.ALREADY_PUSHED if self.ports.forge is None else Outcome.ALREADY_PROPOSED,
                self.comparison,
                chosen.branch.name,
                chosen.branch.revision,
                self._proposal_of(chosen.branch.name),
            )
        declined = await self._declined(lock)
        if declined is not None:
            return RunResult(Outcome.DECLINED, self.comparison, proposal=declined)
        if isinstance(chosen, Diverged):
            raise _diverged(chosen.branch.name)
        return chosen

    async def _declined(self, lock: LockFile) -> Proposal | None:
        """Return the proposal of this very update that someone has closed without merging it."""
        policy, forge = self.policy, self.ports.forge
        if forge is None:
            return None
        closed = await forge.declined_proposals(policy.base)
        return next((one for one in closed if mark_of(lock) in one.body), None)

    async def _look_at(self, name: str) -> UpdateBranch:
        repository, tip, base = self.ports.repository, self.tips[name], self.tips[self.policy.base]
        text = await repository.file_at(tip, LOCK_FILE)
        messages = await repository.messages(base, tip)
        # Whoever amends or squashes the agent's commit keeps its message, and its trailer.
        is_own = all(TRAILER in message for message in messages)
        lock, proposal = _lock_or_none(text), self._proposal_of(name)
        return UpdateBranch(
            name=name,
            revision=tip,
            lock=lock,
            is_current=await repository.is_ancestor(base, tip),
            is_own=is_own and await repository.adds_only_lock(base, tip),
            # Without a forge it has come as far as it can.
            is_proposed=self.ports.forge is None or proposal is not None,
            is_as_proposed=proposal is not None
            and lock is not None
            and mark_of(lock) in proposal.body,
        )

    def _proposal_of(self, name: str) -> Proposal | None:
        return next((one for one in self.proposals if one.head == name), None)

    @property
    def _jobset(self) -> UpdateJobset | None:
        """The jobset that is to prove the update, if that is for Hydra to do."""
        return self.ports.jobset if self.policy.verify is Verify.HYDRA else None

    async def _verify(self, trees: Worktrees, evaluated: Evaluated, target: Target) -> RunResult:
        hosts = evaluated.unbuilt()
        if self._jobset is None:
            hosts = await build_hosts(self.ports, evaluated, is_proof=True)
        inputs = self.comparison.inputs if self.comparison else ()
        self.comparison = comparison = Comparison(inputs, hosts)
        _refuse_broken(comparison, self.policy.hosts)
        if not comparison.changed:
            return RunResult(Outcome.HOSTS_UNCHANGED, comparison)
        if self.dry_run:
            return RunResult(Outcome.DRY_RUN, comparison, target.name)
        # Until Hydra has built it, it is on no branch of this name, unless on one from before.
        self.branch = target.name if target.replaces else None
        day = self.ports.clock.now().date()
        with step(self.ports.sink, "Committing"):
            message = commit_message(comparison, day, (TRAILER,))
            revision = await self.ports.repository.commit(trees.after, message)
        if self._jobset is not None:
            await self._let_hydra_build(self._jobset, revision, evaluated, comparison)
            self.comparison = comparison = await self._compare_as_built(trees, comparison)
        self.branch = target.name
        proposal = self._proposal_of(target.name)
        older = next((one for one in self.proposals if one.head != target.name), None)
        update = Update(revision, trees.updated, target, day, proposal, older, self.look_at)
        found = await Publication(self.ports, self.policy, update).publish(comparison)
        outcome = Outcome.PROPOSED if found else Outcome.PUSHED
        return RunResult(outcome, comparison, target.name, revision, found)

    async def _let_hydra_build(
        self, jobset: UpdateJobset, revision: str, evaluated: Evaluated, comparison: Comparison
    ) -> None:
        """Have the revision where Hydra looks until it has built every host of it.

        That is no branch of what is proposed: nobody should see, or merge, what is not proven.
        """
        ports, name = self.ports, self.policy.candidate
        left = self.tips.get(name)
        if left is not None and not (await self._look_at(name)).is_own:
            raise _diverged(name)
        await jobset.require()
        # Hydra has no job for a host that does not evaluate, as it did not before.
        systems = {host: side for host, side in evaluated.after.items() if isinstance(side, System)}
        before = await jobset.state(systems)
        proof = HydraProof(ports, jobset, self.policy, before, systems)
        try:
            async with on_branch(ports, revision, Target(name, left), self.look_at):
                with step(ports.sink, "Waiting for Hydra"):
                    await proof.wait(revision)
        finally:
            self.comparison = mark_red(comparison, proof.red)

    async def _compare_as_built(self, trees: Worktrees, comparison: Comparison) -> Comparison:
        """Return the report with the packages of what Hydra has built: of trees without changes."""
        self.ports.repository.put(trees.before, LOCK_FILE, trees.committed)
        names = tuple(one.host for one in comparison.changed)
        evaluated = await evaluate_hosts(self.ports, trees.before, trees.after, names)
        built = await build_hosts(self.ports, evaluated, is_proof=False)
        compared = {one.host: one for one in built}
        hosts = tuple(compared.get(one.host, one) for one in comparison.hosts)
        return Comparison(comparison.inputs, hosts)


def _is_unseen(side: Broken) -> bool:
    """Return whether it may be only the dirty tree of the comparison that does not evaluate."""
    refuses = re.search(r"dirty|'rev'", side.reason, re.IGNORECASE)
    return side.stage is Stage.EVALUATION and refuses is not None


def _refuse_broken(comparison: Comparison, patterns: HostPatterns) -> None:
    """Raise HOSTS_BROKEN if the update breaks a host, or leaves one broken that must build.

    If no host can be built, nothing is proven.
    """
    broken = {one: one.after for one in comparison.broken if isinstance(one.after, Broken)}
    blocking = {
        one: after
        for one, after in broken.items()
        if one.verdict is Effect.BREAKS or patterns.requires(one.host) or _is_unseen(after)
    }
    if not blocking and len(broken) == len(comparison.hosts):
        blocking = broken
    if not blocking:
        return
    failures = "; ".join(f"{one.host}: {after.reason}" for one, after in blocking.items())
    hint = "see the log; flake_update.exclude leaves a host out"
    if any(_is_unseen(after) for after in blocking.values()):
        hint += "; hosts are compared as dirty trees, which have no self.rev: see self.dirtyRev"
    raise FlakeError(
        Kind.HOSTS_BROKEN,
        f"with the updated inputs {len(blocking)} host(s) fail: {failures}",
        hint=hint,
    )


def _diverged(name: str) -> GitError:
    return GitError(
        Kind.BRANCH_DIVERGED,
        f"{name} on the remote has commits that are not of the agent",
        hint="merge or remove it: what others have done is never overwritten",
    )


def _lock_or_none(text: str | None) -> LockFile | None:
    try:
        return None if text is None else parse_lock_file(text)
    except FlakeError:
        return None
