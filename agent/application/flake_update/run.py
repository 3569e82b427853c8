"""The use case `agent flake-update run`: proposes an update that is proven, or says why not.

Everything happens in temporary worktrees, and no branch of the user's repository is touched: the
commit is pushed as it is.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from agent.application.flake_update.publish import Publication, Update
from agent.application.flake_update.result import Outcome, RunResult, message_of
from agent.application.report import error_fields
from agent.domain.errors import AgentError, FlakeError, GitError, Kind
from agent.domain.flake_update.branch import (
    TRAILER,
    Diverged,
    Proposed,
    Target,
    UpdateBranch,
    choose_branch,
)
from agent.domain.flake_update.comparison import Broken, Comparison
from agent.domain.flake_update.lock_file import LOCK_FILE, parse_lock_file
from agent.domain.flake_update.report import commit_message

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.application.flake_update.compare import Evaluated
    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import Proposal, UpdatePorts
    from agent.application.flake_update.publish import Prove
    from agent.application.notification import Notifier
    from agent.application.ports import EventSink
    from agent.domain.flake_update.lock_file import LockFile


@dataclass(frozen=True, slots=True)
class Audience:
    """Who learns what came of a run; `look_at` is where there is more to read when it fails."""

    sink: EventSink
    notifier: Notifier | None
    look_at: str


async def run(
    opening: AbstractAsyncContextManager[UpdatePorts],
    policy: UpdatePolicy,
    audience: Audience,
    *,
    dry_run: bool,
) -> RunResult:
    """Update, verify, commit, push and propose, once; people are told what came of it.

    What keeps the ports from being opened is a fault of the run as well. With `dry_run` nothing is
    committed, pushed, proposed or told. Only an interruption is raised.
    """
    one = None
    try:
        async with opening as ports:
            one = _Run(ports, policy, dry_run=dry_run, look_at=audience.look_at)
            with ports.repository.hold():
                result = await one.perform()
    except AgentError as error:
        audience.sink.emit(events.UPDATE_FAILED, **error_fields(error))
        result = RunResult(Outcome.FAILED, error=error)
        if one is not None:
            result = RunResult(Outcome.FAILED, one.comparison, one.branch, error=error)
    if audience.notifier is not None and not dry_run:
        with step(audience.sink, "Telling people"):
            await audience.notifier.notify(message_of(result, audience.look_at))
    audience.sink.emit(events.UPDATE_FINISHED, **result.fields())
    return result


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
            inputs = changes_of_lock(self.ports, committed, after)
            if inputs is None:
                return RunResult(Outcome.LOCK_UNCHANGED)
            self.comparison = Comparison(inputs)
            target = await self._target(parse_lock_file(repository.text_in(after, LOCK_FILE) or ""))
            if isinstance(target, RunResult):
                return target
            before = await stack.enter_async_context(repository.worktree(base))
            repository.put(before, LOCK_FILE, as_dirty(text))
            hosts = await find_hosts(self.ports, after, self.policy.hosts)
            evaluated = await evaluate_hosts(self.ports, before, after, hosts)
            return await self._verify(evaluated, after, target)

    async def _fetch(self) -> None:
        """Ask forge and remote what there is: what they refuse shows before anything is built."""
        base, prefix = self.policy.base, self.policy.branch.prefix
        with step(self.ports.sink, f"Fetching {base}"):
            if self.ports.forge is not None:
                self.proposals = await self.ports.forge.open_proposals(base, prefix)
            self.tips = await self.ports.repository.remote_branches(base, prefix)

    async def _target(self, lock: LockFile) -> Target | RunResult:
        day = self.ports.clock.now().date()
        branches = [await self._look_at(one) for one in self.tips if self.policy.branch.covers(one)]
        chosen = choose_branch(branches, self.policy.branch.on(day), lock)
        if isinstance(chosen, Diverged):
            raise GitError(
                Kind.BRANCH_DIVERGED,
                f"{chosen.branch.name} on the remote has commits that are not of the agent",
                hint="merge or remove it: what others have done is never overwritten",
            )
        if isinstance(chosen, Proposed):
            return RunResult(
                Outcome.ALREADY_PROPOSED,
                self.comparison,
                chosen.branch.name,
                chosen.branch.revision,
                self._proposal_of(chosen.branch.name),
            )
        return chosen

    async def _look_at(self, name: str) -> UpdateBranch:
        repository, tip, base = self.ports.repository, self.tips[name], self.tips[self.policy.base]
        text = await repository.file_at(tip, LOCK_FILE)
        messages = await repository.messages(base, tip)
        return UpdateBranch(
            name=name,
            revision=tip,
            lock=_lock_or_none(text),
            is_current=await repository.is_ancestor(base, tip),
            is_own=all(TRAILER in message for message in messages),
            is_proposed=self._proposal_of(name) is not None,
        )

    def _proposal_of(self, name: str) -> Proposal | None:
        return next((one for one in self.proposals if one.head == name), None)

    async def _verify(self, evaluated: Evaluated, after: Path, target: Target) -> RunResult:
        is_local = self.policy.verify is Verify.LOCAL
        hosts = evaluated.unbuilt()
        if is_local:
            hosts = await build_hosts(self.ports, evaluated, is_proof=True)
        inputs = self.comparison.inputs if self.comparison else ()
        self.comparison = comparison = Comparison(inputs, hosts)
        self._refuse_broken(comparison)
        if not comparison.changed:
            return RunResult(Outcome.HOSTS_UNCHANGED, comparison)
        self.branch = target.name
        if self.dry_run:
            return RunResult(Outcome.DRY_RUN, comparison, target.name)
        return await self._publish(evaluated, after, target)

    @staticmethod
    def _refuse_broken(comparison: Comparison) -> None:
        if not comparison.broken:
            return
        told = [
            f"{one.host}: {one.after.reason}"
            for one in comparison.broken
            if isinstance(one.after, Broken)
        ]
        raise FlakeError(
            Kind.HOSTS_BROKEN,
            f"with the updated inputs {len(told)} host(s) fail: {'; '.join(told)}",
            hint="see the log; flake_update.exclude leaves a host out",
        )

    async def _publish(self, evaluated: Evaluated, after: Path, target: Target) -> RunResult:
        ports = self.ports
        day = ports.clock.now().date()
        assert self.comparison is not None  # noqa: S101 - it was made just now
        with step(ports.sink, "Committing"):
            message = commit_message(self.comparison, day, (TRAILER,))
            revision = await ports.repository.commit(after, message)
        prove = await self._proof(evaluated, revision, target)
        proposal = self._proposal_of(target.name)
        older = next((one for one in self.proposals if one.head != target.name), None)
        update = Update(revision, target, day, proposal, older, self.look_at)
        self.comparison, found = await Publication(ports, self.policy, update).publish(prove)
        outcome = Outcome.PROPOSED if found else Outcome.PUSHED
        return RunResult(outcome, self.comparison, target.name, revision, found)

    async def _proof(self, evaluated: Evaluated, revision: str, target: Target) -> Prove:
        """Return what proves the revision; with local builds it is proven already."""
        ports, comparison = self.ports, self.comparison
        assert comparison is not None  # noqa: S101 - it was made before the commit
        jobset = None if ports.jobset_of is None else ports.jobset_of(target.name)
        state = None if jobset is None else await jobset.state()

        async def prove() -> Comparison:
            if jobset is None:
                return comparison
            proof = HydraProof(ports, self.policy, jobset, state)
            with step(ports.sink, "Waiting for Hydra"):
                await proof.wait(revision, evaluated.hosts)
            hosts = await build_hosts(ports, evaluated, is_proof=False)
            return Comparison(comparison.inputs, hosts)

        return prove


def _lock_or_none(text: str | None) -> LockFile | None:
    try:
        return None if text is None else parse_lock_file(text)
    except FlakeError:
        return None
