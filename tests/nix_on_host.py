"""The adapters for nix and nixos-rebuild as a throw-away host's agent would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.adapters.nix.commands import NixCommand
from agent.adapters.nix.nixos_rebuild import NixosRebuildCommand
from agent.adapters.process import Runner
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.origin import UrlPrefix
from agent.domain.store_path import parse_store_path
from agent.domain.systems import Systems
from fakes.events import RememberedEvents, SteppedClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.demo.host import ThrowawayHost
    from built_systems import BuiltSystems


class NixOnHost:
    """Real nix, and the stand-in for nixos-rebuild, on one host; `said` is what they told."""

    def __init__(
        self, farm: BuiltSystems, host: ThrowawayHost, environment: Mapping[str, str] | None = None
    ) -> None:
        self.farm = farm
        self.host = host
        self.sink = RememberedEvents()
        environment = {**host.environment(), **(environment or {})}
        self.runner = Runner(self.sink, SteppedClock(), environment)

    def flake(self, revision: str | None = None):
        """Return the fleet's flake at a revision."""
        reference = self.farm.farm.reference(revision or self.farm.revision)
        return parse_locked_flake_reference(reference)

    def nix(self, **changes) -> NixCommand:
        """Return the adapter for nix, with other settings than the defaults."""
        settings = {
            "store_dir": self.farm.store_dir,
            "gc_root": self.host.paths.marks_dir / "candidate",
            "substituters": (),
            "trusted_public_keys": (),
            "local_builds": False,
            "flags": (),
            "deadline": 60.0,
            "allow_insecure": (UrlPrefix(self.farm.farm.origin),),
        }
        return NixCommand(self.runner, **{**settings, **changes})

    def nixos_rebuild(self, **changes) -> NixosRebuildCommand:
        """Return the adapter for nixos-rebuild, with other settings than the defaults."""
        settings = {
            "scratch": self.host.paths.state_dir,
            "flags": (),
            "local_builds": False,
            "substituters": (),
            "trusted_public_keys": (),
            "build_deadline": 60.0,
            "activate_deadline": 60.0,
            "store_dir": self.farm.store_dir,
            "allow_insecure": (UrlPrefix(self.farm.farm.origin),),
        }
        return NixosRebuildCommand(self.runner, **{**settings, **changes})

    def systems(self) -> Systems:
        """Return where the host's three links lead."""
        paths = self.host.paths
        return Systems(
            running=self._system(paths.current_system),
            booted=self._system(paths.booted_system),
            profile=self._system(paths.profile),
        )

    def lines(self) -> list[str]:
        """Return every line that was logged of programs."""
        return [str(fields["line"]) for event, fields in self.sink.said if "line" in fields]

    def store_entries(self) -> set[str]:
        """Return the names of what is in the store, derivations and sources aside."""
        found = {entry.name for entry in self.host.paths.store_dir.iterdir()}
        return {n for n in found if not n.endswith((".drv", "-source", ".lock", ".links"))}

    def _system(self, link):
        return parse_store_path(str(link.resolve()), self.farm.store_dir)
