"""The names of systemd's units that the agent deals with."""

from __future__ import annotations

from typing import Final

CONFIRM_UNIT: Final = "nixos-hydra-agent-confirm.service"
"""Of the system that is to be confirmed; it runs `agent confirm` after a switch and at boot."""
DEAD_MAN_UNIT: Final = "nixos-hydra-agent-dead-man"
"""A transient timer and its service; it runs the old system's `agent dead-man`."""
ACTIVATION_UNIT: Final = "nixos-rebuild-switch-to-configuration.service"
"""The transient unit in which nixos-rebuild runs switch-to-configuration."""
