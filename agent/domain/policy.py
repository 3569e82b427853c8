"""What the administrator wants: frozen, checked, free of file formats."""

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
"""For starting programs."""


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


class OnFailure(StrEnum):
    """What follows when an activated system proves broken."""

    ROLL_BACK = "roll-back"
    HOLD = "hold"
    """It stays, for a person to decide: its data may have migrated."""


@dataclass(frozen=True, slots=True)
class ConfirmPolicy:
    """How an activated system is confirmed."""

    checks: tuple[Check, ...]
    settle: timedelta
    """Between the activation and the first judgement."""
    deadline: timedelta
    """How long the checks are repeated until they pass."""
    patience: timedelta
    """How long an inconclusive system stays pending before an administrator is asked."""
    on_failure: OnFailure
    asks_hydra: bool
    asks_gateway: bool
    ignored_units: tuple[str, ...]
    collects_garbage: bool
    """Whether the store is cleaned once an upgrade is confirmed."""


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
    """How long a clock may be without synchronisation before what waits for it is a failure."""
    hydra_patience: timedelta
    """How long a run may find Hydra, or a cache, out of reach without having failed."""
    activate_deadline: timedelta
    substituters: tuple[str, ...]
    """Those of the settings; empty: nix's own."""
    allow_insecure: tuple[UrlPrefix, ...] = ()
    """What nix may fetch although it is on this host, or comes without TLS and ssh."""
    specialisation: str | None = None
    """Which one is to run; empty: none, None: the one that runs."""

    @property
    def dead_man_delay(self) -> timedelta:
        """From arming the timer until it fires: later than any run that goes on by itself."""
        confirm = self.confirm
        return self.activate_deadline + confirm.settle + confirm.deadline + DEAD_MAN_MARGIN
