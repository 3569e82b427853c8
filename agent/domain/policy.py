"""What the administrator wants: immutable, validated, independent of file formats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.domain.check import Check
    from agent.domain.job import Job, Select
    from agent.domain.origin import UrlPrefix
    from agent.domain.reboot import RebootPolicy
    from agent.domain.window import Schedule


DEAD_MAN_MARGIN: Final = timedelta(seconds=5)
"""Extra time for starting programs."""


class Action(StrEnum):
    """switch-to-configuration's actions."""

    SWITCH = "switch"
    BOOT = "boot"
    TEST = "test"
    DRY_ACTIVATE = "dry-activate"

    @property
    def moves_profile(self) -> bool:
        """Whether nixos-rebuild sets the system profile."""
        return self in (Action.SWITCH, Action.BOOT)


class Strategy(StrEnum):
    """How the candidate is verified to be this host's, and how it is activated."""

    FLAKE = "flake"
    """By evaluating the flake of the build's eval."""
    STORE_PATH = "store-path"
    """By its store path alone: nothing is evaluated."""


class RebootMode(StrEnum):
    """When the agent may reboot the host."""

    NEVER = "never"
    WHEN_NEEDED = "when-needed"
    ALWAYS = "always"


class OnFailure(StrEnum):
    """What to do if an activated system proves broken."""

    ROLL_BACK = "roll-back"
    HOLD = "hold"
    """It stays until an administrator decides: its data may have been migrated."""


@dataclass(frozen=True, slots=True)
class ConfirmPolicy:
    """How an activated system is confirmed."""

    checks: tuple[Check, ...]
    settle: timedelta
    """Time between the activation and the first judgement."""
    deadline: timedelta
    """How long the checks are repeated until they pass."""
    patience: timedelta
    """How long an inconclusive system stays pending before an administrator is asked."""
    on_failure: OnFailure
    asks_hydra: bool
    asks_gateway: bool
    ignored_units: tuple[str, ...]
    collects_garbage: bool
    """Whether garbage is collected once an upgrade is confirmed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that determines what a run does; sizes are bytes."""

    host: str
    job: Job
    select: Select
    action: Action
    strategy: Strategy
    verify: bool
    reboot_mode: RebootMode
    reboot: RebootPolicy
    upgrade_schedule: Schedule
    local_builds: bool
    store_reserve: int
    boot_reserve: int
    checks: tuple[Check, ...]
    health_deadline: timedelta
    confirm: ConfirmPolicy
    foreign_hold: timedelta
    clock_patience: timedelta
    """How long runs are held by an unsynchronised clock before they fail."""
    hydra_patience: timedelta
    """How long Hydra or a cache may be unreachable before runs fail."""
    activate_deadline: timedelta
    substituters: tuple[str, ...]
    """The configured ones; empty: nix's own."""
    allow_insecure: tuple[UrlPrefix, ...] = ()
    """What nix may fetch from this host, or without TLS or ssh."""
    specialisation: str | None = None
    """Which one is to run; empty: none; None: the running one."""

    @property
    def dead_man_delay(self) -> timedelta:
        """Time from arming the timer until it fires, which is longer than any run takes."""
        confirm = self.confirm
        return self.activate_deadline + confirm.settle + confirm.deadline + DEAD_MAN_MARGIN
