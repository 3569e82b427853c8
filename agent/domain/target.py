"""What the agent upgrades, a host or a home: the one place that knows in what they differ.

Of home-manager: modules/home-environment.nix, modules/lib-bash/activation-init.sh and the program
`home-manager` itself say what stands here.
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
    """The targets, as settings name them."""

    NIXOS = "nixos"
    HOME_MANAGER = "home-manager"


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of thing to upgrade; its toplevel is what its Hydra job builds."""

    noun: str
    """What it is called in messages."""
    attribute: str
    """The toplevel in a flake; `{}` is the configuration's name."""
    named_after: str
    """The name of a configuration by default; `{user}` and `{host}` are filled in."""
    paths: Mapping[str, tuple[str, ...]]
    """Where things are by default, by the key below `paths`, where that is not the settings' own.

    `{state}` is the user's state directory (`$XDG_STATE_HOME`), `{nix}` nix's, `{user}` the user's
    name. Of several places the first one whose parent is there counts.
    """
    actions: frozenset[Action]
    may_reboot: bool
    units: str
    """The directory of systemd's units, in a toplevel."""

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
    # A home is not booted, and nothing of it can be tried without being linked into place.
    actions=frozenset({Action.SWITCH}),
    may_reboot=False,
    units="home-files/.config/systemd/user",
)

TARGETS: Final[Mapping[TargetName, Target]] = {
    TargetName.NIXOS: NIXOS,
    TargetName.HOME_MANAGER: HOME_MANAGER,
}
