"""The names of the systemd units that the agent uses."""

from __future__ import annotations

from typing import Final

UPGRADE_UNIT: Final = "nixos-hydra-agent.service"
"""It runs `agent upgrade`, started by its timer or the wake timer."""
CONFIRM_UNIT: Final = "nixos-hydra-agent-confirm.service"
"""It runs `agent confirm` of the system to be confirmed, after a switch and at boot."""
DEAD_MAN_UNIT: Final = "nixos-hydra-agent-dead-man"
"""A transient timer and its service, which runs the old system's `agent dead-man`."""
WAKE_UNIT: Final = "nixos-hydra-agent-wake"
"""A transient timer that starts the upgrade unit when a wait is over."""
GARBAGE_COLLECTION_UNIT: Final = "nix-gc.service"
"""NixOS's own; it collects garbage according to `nix.gc`."""
ACTIVATION_UNIT: Final = "nixos-rebuild-switch-to-configuration.service"
"""The transient unit in which nixos-rebuild runs switch-to-configuration."""
HOME_ACTIVATION_UNIT: Final = "nixos-hydra-agent-activation.service"
"""The transient unit of the user's manager in which the agent activates a home."""
