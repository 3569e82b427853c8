"""A host in memory: three links, some systems, two file systems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import ActivationExit, Host
from agent.domain.facts import FreeSpace
from agent.domain.policy import Action
from agent.domain.systems import BootArtifacts, Systems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from agent.domain.errors import HostError
    from agent.domain.store_path import StorePath


def refused_by(check: str, code: int = 1) -> ActivationExit:
    """Return how switch-to-configuration ends when one of its checks refuses to begin.

    nixpkgs' nixos/modules/system/activation/pre-switch-check.nix has the words.
    """
    return ActivationExit(code, f"Pre-switch check '{check}' failed\nPre-switch checks failed")


PLAIN = BootArtifacts("/k/1", "/i/1", "/m/1", "quiet")


@dataclass
class FakeSystem:
    """What a toplevel holds; `specialisations` maps names to their own toplevels.

    `units` maps the names of unit files to their texts. `inhibitors` are its switch inhibitors, None
    for a system of before NixOS 26.05.
    """

    artifacts: BootArtifacts | None = PLAIN
    hostname: str | None = None
    specialisations: dict[str, StorePath] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    inhibitors: dict[str, str] | None = None


class FakeHost(Host):
    """Shows what a test sets; `fault` ends every question about links, `reboot_fault` a reboot.

    With `hides_running` nobody can say what runs.

    What is in `contents` is in the store, once it `is_fetched`. `illegible` are systems whose switch inhibitors the agent
    cannot read, `failed_checks` those that a pre-switch check refuses, with its name. `generations` are the profile's, by number, and
    `generation` is the present one; setting `profile` is `nix-env --set`.
    """

    def __init__(self) -> None:
        self.running: StorePath | None = None
        self.booted: StorePath | None = None
        self.hides_running = False
        self.generations: dict[int, StorePath] = {}
        self.generation: int | None = None
        self.is_container = False
        self.boot_id = "boot-0"
        self.platform_name: str | None = "x86_64-linux"
        self.contents: dict[StorePath, FakeSystem] = {}
        self.is_fetched: Callable[[StorePath], bool] = lambda _: True
        self.space = FreeSpace(store=100 << 30, boot=1 << 30)
        self.changed: datetime | None = None
        self.booted_when: datetime | None = None
        self.gateways: tuple[str, ...] = ("192.0.2.1",)
        self.reboots = 0
        self.is_forced = False
        self.on_reboot: Callable[[], None] = lambda: None
        self.fault: HostError | None = None
        self.reboot_fault: HostError | None = None
        self.illegible: set[StorePath] = set()
        self.failed_checks: dict[StorePath, str] = {}

    @property
    def profile(self) -> StorePath | None:
        """The present generation's system."""
        return None if self.generation is None else self.generations[self.generation]

    @profile.setter
    def profile(self, toplevel: StorePath | None) -> None:
        newest = max(self.generations, default=0)
        if toplevel is None:
            self.generation = None
        elif self.generations.get(newest) == toplevel:
            self.generation = newest
        else:
            self.generation = newest + 1
            self.generations[self.generation] = toplevel

    @override
    def systems(self) -> Systems:
        if self.fault is not None:
            raise self.fault
        running = None if self.hides_running else self.running
        return Systems(running, self.booted, self.profile, self.is_container, self.boot_id)

    @override
    def platform(self) -> str | None:
        return self.platform_name

    @override
    def boot_artifacts(self, toplevel: StorePath) -> BootArtifacts | None:
        found = self.contents.get(toplevel)
        return None if found is None else found.artifacts

    @override
    def switch_inhibitors(self, toplevel: StorePath) -> Mapping[str, str] | None:
        found = self.contents.get(toplevel)
        return None if found is None or toplevel in self.illegible else found.inhibitors

    def refuses(self, toplevel: StorePath, action: Action) -> ActivationExit | None:
        """Return how switch-to-configuration ends where it refuses to begin; None if it does not.

        It reads the inhibitors even where the agent cannot: what is `illegible`.
        """
        if toplevel in self.failed_checks:
            return refused_by(self.failed_checks[toplevel])
        old, new = (
            self.contents[path].inhibitors if path in self.contents else None
            for path in (self.running, toplevel)
        )
        if action in (Action.BOOT, Action.DRY_ACTIVATE) or not old or not new:
            return None
        is_changed = any(new[name] != value for name, value in old.items() if name in new)
        return refused_by("switchInhibitors") if is_changed else None

    @override
    def counterpart(self, toplevel: StorePath) -> StorePath:
        for system in self.contents.values():
            for name, path in system.specialisations.items():
                if path == self.booted:
                    return self._specialisations(toplevel).get(name, toplevel)
        return toplevel

    @override
    def specialisation_name(self, path: StorePath) -> str | None:
        for toplevel in self.generations.values():
            for name, special in self._specialisations(toplevel).items():
                if special == path:
                    return name
        return None

    @override
    def specialisations(self, toplevel: StorePath) -> dict[str, StorePath]:
        return dict(self._specialisations(toplevel))

    @override
    def equivalents(self, toplevel: StorePath) -> frozenset[StorePath]:
        return frozenset({toplevel, *self._specialisations(toplevel).values()})

    @override
    def hostname_of(self, toplevel: StorePath) -> str | None:
        found = self.contents.get(toplevel)
        return None if found is None else found.hostname

    @override
    def free_space(self) -> FreeSpace:
        return self.space

    @override
    def touched_units(self, old: StorePath, new: StorePath) -> frozenset[str]:
        before = self.contents[old].units if old in self.contents else {}
        after = self.contents[new].units if new in self.contents else {}
        return frozenset(unit for unit, text in after.items() if before.get(unit) != text)

    @override
    def has_unit(self, toplevel: StorePath, unit: str) -> bool:
        return toplevel in self.contents and unit in self.contents[toplevel].units

    @override
    def exists(self, toplevel: StorePath) -> bool:
        return toplevel in self.contents and self.is_fetched(toplevel)

    @override
    def changed_at(self) -> datetime | None:
        return self.changed

    @override
    def booted_at(self) -> datetime | None:
        return self.booted_when

    @override
    def default_gateways(self) -> tuple[str, ...]:
        return self.gateways

    @override
    async def reboot(self, *, forced: bool = False) -> None:
        if self.reboot_fault is not None:
            raise self.reboot_fault
        self.reboots += 1
        self.is_forced = forced
        self.on_reboot()

    def _specialisations(self, toplevel: StorePath) -> dict[str, StorePath]:
        found = self.contents.get(toplevel)
        return {} if found is None else found.specialisations
