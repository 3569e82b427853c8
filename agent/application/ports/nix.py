"""The ports to nix and nixos-rebuild."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.domain.facts import FetchPlan
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath
    from agent.domain.trust import FlakeSource


class Progress(Protocol):
    """Receives the progress of a substitution."""

    def update(self, paths: int, paths_expected: int, size: int, size_expected: int) -> None:
        """Note paths and bytes done, and how many there will be as far as is known."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a substitution brought: number of paths, and their bytes in the store."""

    paths: int
    size: int


class NixEvaluation(Protocol):
    """The part of nix that adds only sources to the store. Everything raises NixError."""

    async def fetch_source(self, flake: LockedFlakeReference) -> FlakeSource:
        """Return what a flake's source says of its inputs; none of those is fetched.

        Kinds: NIX_MISSING, EVALUATION_FAILED, FLAKE_UNREACHABLE, STORE_FULL, NIX_TIMEOUT,
        NIX_NONSENSE.
        """

    async def evaluate_toplevel(self, flake: LockedFlakeReference, host: str) -> StorePath:
        """Return the output path of the host's toplevel; nothing is built.

        Kinds: NIX_MISSING, EVALUATION_FAILED, FLAKE_UNREACHABLE, STORE_FULL, NIX_TIMEOUT,
        NIX_NONSENSE.
        """

    async def plan_fetch(self, path: StorePath) -> FetchPlan:
        """Return what substituting the closure of `path` would bring; nothing is fetched.

        Where the host may build, a path in no cache is an empty plan.

        Kinds: NIX_MISSING, PATH_NOT_CACHED, CACHE_UNREACHABLE, FETCH_FAILED, NIX_TIMEOUT.
        """

    async def substituters(self) -> tuple[str, ...]:
        """Return the URLs of the substituters that are in force; never raises."""


class Nix(NixEvaluation, Protocol):
    """nix itself. Everything raises NixError."""

    async def substitute(self, path: StorePath, progress: Progress) -> Fetched:
        """Bring the closure of `path` into the store, and keep it from the garbage collector.

        Kinds: as `plan_fetch`, and SIGNATURE_UNTRUSTED, STORE_FULL.
        """


class Resolver(Protocol):
    """The name service of this host."""

    async def addresses(self, host: str) -> tuple[str, ...] | None:
        """Return the addresses of a host: () where it has none, None if unknown."""


@dataclass(frozen=True, slots=True)
class ActivationExit:
    """How `nixos-rebuild ACTION` ended; it does not say how far it got.

    `returncode` is switch-to-configuration's own where it ran, negative for a signal. `tail` is
    the end of stderr.
    """

    returncode: int
    tail: str
    timed_out: bool = False
    refused: str = ""
    """The options that it did not know: it has done nothing then."""
    script_failed: bool = False
    """The activation script is known to have broken off, though no sentence says so: a home's."""


class NixosRebuild(Protocol):
    """nixos-rebuild, or its counterpart for a home."""

    def sweep(self) -> None:
        """Remove what builds that were killed have left; the caller holds the agent's lock."""

    async def build(self, flake: LockedFlakeReference, host: str) -> StorePath:
        """Return the toplevel that `nixos-rebuild build` gives; with all in the store it is quick.

        Raises NixError: NIXOS_REBUILD_MISSING, NIXOS_REBUILD_OPTIONS, BUILD_ERROR,
        FLAKE_UNREACHABLE, NIX_TIMEOUT, NIX_NONSENSE; HostError: the state directory cannot be
        written.
        """

    async def activate_flake(
        self,
        action: Action,
        flake: LockedFlakeReference,
        host: str,
        specialisation: str | None = None,
    ) -> ActivationExit:
        """Run `nixos-rebuild ACTION --flake`; raises only for NIXOS_REBUILD_MISSING.

        A specialisation can be given where it is to run at once: with `switch` and `test`.
        """

    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        """Run `nixos-rebuild ACTION --store-path`; raises only for NIXOS_REBUILD_MISSING."""
