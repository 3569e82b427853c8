"""The names of systemd's units that the agent deals with."""

from __future__ import annotations

from typing import Final

UPGRADE_UNIT: Final = "nixos-hydra-agent.service"
"""It runs `agent upgrade`, by its timer or the wake timer."""
CONFIRM_UNIT: Final = "nixos-hydra-agent-confirm.service"
"""Of the system that is to be confirmed; it runs `agent confirm` after a switch and at boot."""
DEAD_MAN_UNIT: Final = "nixos-hydra-agent-dead-man"
"""A transient timer and its service; it runs the old system's `agent dead-man`."""
WAKE_UNIT: Final = "nixos-hydra-agent-wake"
"""A transient timer that starts the upgrade unit when something that was waited for is due."""
GARBAGE_COLLECTION_UNIT: Final = "nix-gc.service"
"""NixOS's own; it collects garbage as `nix.gc` says."""
ACTIVATION_UNIT: Final = "nixos-rebuild-switch-to-configuration.service"
"""The transient unit in which nixos-rebuild runs switch-to-configuration."""
HOME_ACTIVATION_UNIT: Final = "nixos-hydra-agent-activation.service"
"""The transient unit of the user's manager in which the agent activates a home."""
