"""What the administrator wants: frozen, checked, free of file formats."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from agent.domain.check import Check
    from agent.domain.job import Job, Select


class Action(StrEnum):
    """switch-to-configuration's actions."""

    SWITCH = "switch"
    BOOT = "boot"
    TEST = "test"
    DRY_ACTIVATE = "dry-activate"

    @property
    def moves_profile(self) -> bool:
        """Whether nixos-rebuild sets the system profile for it."""
        return self in (Action.SWITCH, Action.BOOT)


class Strategy(StrEnum):
    """How the candidate is proven to be this host's, and activated."""

    FLAKE = "flake"
    """By evaluating the flake of the build's eval."""
    STORE_PATH = "store-path"
    """By its store path alone: nothing is evaluated."""


class RebootMode(StrEnum):
    """When the agent may reboot the host."""

    NEVER = "never"
    WHEN_NEEDED = "when-needed"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that decides what a run does; sizes are bytes."""

    host: str
    job: Job
    select: Select
    action: Action
    strategy: Strategy
    verify: bool
    reboot_mode: RebootMode
    local_builds: bool
    store_reserve: int
    boot_reserve: int
    checks: tuple[Check, ...]
    health_deadline: timedelta
