"""Proves, before anything is fetched or built, that Hydra built this host's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.facts.fetchable import require_fetchable
from agent.application.report import candidate_fields
from agent.domain.errors import Kind, NixError
from agent.domain.policy import Strategy

if TYPE_CHECKING:
    from agent.application.ports import FactPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.store_path import StorePath


async def verify(run: Run[FactPorts], found: Candidate) -> None:
    """Prove that what Hydra built is what the flake evaluates to for this host.

    Without that proof, too, nix is handed only a flake that may be fetched with all its inputs.

    Raises:
        NixError: PATH_MISMATCH, FLAKE_INSECURE, FLAKE_HAS_LOGIN, or why the flake cannot be
            evaluated.
    """
    ports, policy = run.ports, run.policy
    if policy.strategy is Strategy.FLAKE:
        with run.step("verify"):
            await require_fetchable(ports, policy.allow_insecure, flake_of(found))
    if not policy.verify:
        ports.sink.emit(events.VERIFY_SKIPPED)
        return
    if policy.strategy is Strategy.STORE_PATH:
        return  # nothing is evaluated; the host name is compared once the system is there
    ports.sink.emit(events.VERIFY_STARTED, **candidate_fields(found))
    with run.step("verify"):
        evaluated = await ports.nix.evaluate_toplevel(flake_of(found), policy.host)
    if evaluated != found.toplevel:
        raise mismatch("evaluates to", evaluated, found)
    ports.sink.emit(events.VERIFY_PASSED, **candidate_fields(found))


def flake_of(found: Candidate) -> LockedFlakeReference:
    """Return the flake that a candidate was evaluated from."""
    assert found.flake is not None  # noqa: S101 - the flake strategy always asks for it
    return found.flake


def mismatch(how: str, other: StorePath, found: Candidate) -> NixError:
    """Return the fault of a flake that yields another path than Hydra built."""
    return NixError(
        Kind.PATH_MISMATCH,
        f"{found.flake} {how} {other}, but Hydra's build {found.build_id} is {found.toplevel}",
        hint="is hydra.job the job of this very configuration, and the flake pure?",
    )
