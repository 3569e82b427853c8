"""The use case `agent flake-update diff`: updates the lock file here, and shows what that changes.

What is committed is compared with what lies in the checkout. Both are evaluated as dirty trees of
one revision: a host whose system names its revision would differ by the commit alone otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application.flake_update import events
from agent.application.flake_update.compare import (
    build_hosts,
    committed_lock,
    evaluate_hosts,
    find_hosts,
    step,
)
from agent.domain.errors import FlakeError, Kind
from agent.domain.flake_update.comparison import Comparison
from agent.domain.flake_update.lock_file import LOCK_FILE, changed_inputs
from agent.domain.trust import fault_of, refusals_of_update

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import UpdatePorts
    from agent.domain.flake_update.lock_file import InputChange, LockFile


async def diff(
    ports: UpdatePorts, policy: UpdatePolicy, *, skips_update: bool
) -> Comparison | None:
    """Return what the update changes, None if the lock file stays as it is committed.

    With `skips_update` the lock file in the checkout has been updated already.

    Raises:
        AgentError: FlakeError, GitError, NixError.
    """
    repository = ports.repository
    with repository.hold():
        await repository.prepare()
        require_flake(repository.text_in(repository.flake, "flake.nix"))
        head = await repository.head()
        text = await repository.file_at(head, LOCK_FILE)
        committed = committed_lock(text)
        committed.require(policy.inputs)
        hosts = await find_hosts(ports, repository.flake, policy.hosts)
        if not skips_update:
            with step(ports.sink, "Updating flake inputs"):
                await ports.builds.update(repository.flake, policy.inputs)
        inputs = changes_of_lock(ports, policy, committed, repository.flake)
        if inputs is None:
            return None
        async with repository.worktree(head) as before:
            await repository.copy_changes(before)
            repository.put(before, LOCK_FILE, as_dirty(text))
            evaluated = await evaluate_hosts(ports, before, repository.flake, hosts)
            return Comparison(inputs, await build_hosts(ports, evaluated, is_proof=True))


def require_flake(text: str | None) -> None:
    """Make sure that there is a flake. FlakeError: FLAKE_MISSING."""
    if text is None:
        raise FlakeError(
            Kind.FLAKE_MISSING,
            "there is no flake.nix",
            hint="call it in the flake's directory, or set flake_update.repository",
        )


def as_dirty(text: str | None) -> str:
    """Return a lock file that locks the same, and makes its tree a dirty one."""
    return f"{text}\n"


def changes_of_lock(
    ports: UpdatePorts, policy: UpdatePolicy, before: LockFile, flake: Path
) -> tuple[InputChange, ...] | None:
    """Return how the lock file in a directory differs from `before`, None if it does not.

    Raises:
        FlakeError: LOCK_FILE_MISSING, LOCK_FILE_UNREADABLE.
        NixError: FLAKE_INSECURE: an upstream has an input that nothing must be fetched from.
    """
    with step(ports.sink, "Checking for flake.lock changes"):
        after = committed_lock(ports.repository.text_in(flake, LOCK_FILE))
        if after.content == before.content:
            ports.sink.emit(events.LOCK_UNCHANGED)
            return None
        refused = refusals_of_update(before.content, after.content, policy.allow_insecure)
        if refused:
            raise fault_of(refused, policy.allow_insecure)
        inputs = changed_inputs(before, after)
        ports.sink.emit(events.LOCK_CHANGED, inputs=[one.name for one in inputs])
    return inputs
