"""Settings whose defaults depend on the target: paths, and the configuration's name."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from agent.domain.target import NIXOS, TARGETS, Target, TargetName
from agent.lean.places import nix_state, user_state

if TYPE_CHECKING:
    from collections.abc import Mapping


def target_in(data: Mapping[str, object]) -> Target:
    """Return the target of settings in validation; NixOS if it is invalid."""
    name = data.get("target")
    return TARGETS[name] if isinstance(name, TargetName) else NIXOS


def default_name(data: Mapping[str, object]) -> str:
    """Return the name of the configuration if the settings do not have one."""
    return _filled(target_in(data).named_after)


def default_paths(target: Target) -> dict[str, str]:
    """Return the target's default paths, as far as they differ from the settings' own."""
    found = {key: map(_filled, places) for key, places in target.paths.items()}
    return {key: _chosen(list(places)) for key, places in found.items()}


def _chosen(places: list[str]) -> str:
    return next((place for place in places if Path(place).parent.is_dir()), places[0])


def _filled(text: str) -> str:
    if "{" not in text:
        return text
    return text.format(
        state=user_state(os.environ),
        nix=nix_state(os.environ),
        user=_user(),
        host=socket.gethostname(),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
