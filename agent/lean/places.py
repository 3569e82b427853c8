"""Where things are when no setting says it: one source for the settings and for the idle path.

It imports nothing, so that the idle path stays cheap.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE = "/etc/nixos-hydra-agent/config.toml"
STATE_DIR = "/var/lib/nixos-hydra-agent"
MARKS_DIR = "/nix/var/nix/gcroots/nixos-hydra-agent"

HOME_PLACES: dict[str, tuple[str, ...]] = {
    "current_system": ("{state}/home-manager/gcroots/current-home",),
    "profile": (
        "{state}/nix/profiles/home-manager",
        "{nix}/profiles/per-user/{user}/home-manager",
    ),
    "state_dir": ("{state}/nixos-hydra-agent",),
    # Users cannot write to nix's own directory of roots; see `UserMarks`.
    "marks_dir": ("{state}/nixos-hydra-agent/marks",),
}
"""Those of a home, by the key below `paths`; of several the first one whose parent is there counts.

Of home-manager: modules/lib-bash/activation-init.sh.
"""

SURROUNDINGS = ("HOME", "XDG_STATE_HOME", "NIX_STATE_DIR", "LOGNAME", "USER", "LNAME", "USERNAME")
"""Variables that decide where a home's things are and what it is called (see `getpass.getuser`)."""


def user_state(environ: Mapping[str, str]) -> str:
    """Return the user's state directory, which homes keep theirs in."""
    home = environ.get("HOME") or "/"
    return environ.get("XDG_STATE_HOME") or f"{home}/.local/state"


def nix_state(environ: Mapping[str, str]) -> str:
    """Return nix's state directory."""
    return environ.get("NIX_STATE_DIR") or "/nix/var/nix"
