"""What the agent upgrades, a host or a home: the one place that knows how they differ.

The source for homes is home-manager: modules/home-environment.nix,
modules/lib-bash/activation-init.sh and the program `home-manager` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.domain.policy import Action
from agent.lean.places import HOME_PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping


class TargetName(StrEnum):
    """The targets, by their names in the settings."""

    NIXOS = "nixos"
    HOME_MANAGER = "home-manager"


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of target; its toplevel is what its Hydra job builds."""

    noun: str
    """Its name in messages."""
    attribute: str
    """The toplevel's attribute in a flake; `{}` stands for the configuration's name."""
    named_after: str
    """The default name of a configuration; `{user}` and `{host}` are replaced."""
    paths: Mapping[str, tuple[str, ...]]
    """Default paths, by the key below `paths`, if they differ from the settings' own defaults.

    `{state}` is the user's state directory (`$XDG_STATE_HOME`), `{nix}` nix's, `{user}` the user's
    name. Of several paths, the first one whose parent exists is used.
    """
    actions: frozenset[Action]
    may_reboot: bool
    units: str
    """The directory of systemd units in a toplevel."""

    def toplevel_of(self, name: str) -> str:
        """Return the attribute of the toplevel of the configuration `name`."""
        return self.attribute.format(f'"{name}"')


NIXOS: Final = Target(
    noun="host",
    attribute="nixosConfigurations.{}.config.system.build.toplevel",
    named_after="{host}",
    paths={},
    actions=frozenset(Action),
    may_reboot=True,
    units="etc/systemd/system",
)

HOME_MANAGER: Final = Target(
    noun="home",
    attribute="homeConfigurations.{}.activationPackage",
    named_after="{user}",
    paths=HOME_PLACES,
    # A home is not booted, and it cannot be tried without being linked into place.
    actions=frozenset({Action.SWITCH}),
    may_reboot=False,
    units="home-files/.config/systemd/user",
)

TARGETS: Final[Mapping[TargetName, Target]] = {
    TargetName.NIXOS: NIXOS,
    TargetName.HOME_MANAGER: HOME_MANAGER,
}
