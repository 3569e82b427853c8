"""The port to the service manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from agent.application.ports.nix import ActivationExit
    from agent.domain.activation_unit import ActivationSeen
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath


_AT_REST = ("inactive", "failed", "maintenance")
"""Of systemd's states of units (systemd(1)), those without a program."""


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """What systemd says of a unit, in its own words; `exit_status` is of its main process.

    It is always an answer: where systemd gives none, there is no status.
    """

    load_state: str = "not-found"
    active_state: str = "inactive"
    sub_state: str = "dead"
    result: str = "success"
    exit_status: int = 0

    @property
    def is_running(self) -> bool:
        """Whether its program runs, is about to, or has not ended yet."""
        return self.active_state not in _AT_REST and not self.sub_state.startswith("auto-restart")


class UnitStates(Protocol):
    """What the service manager says. What raises, raises HostError."""

    @property
    def has_host_below(self) -> bool:
        """Whether this is a user's manager, on a host with an agent of its own."""

    async def failed_units(self) -> frozenset[str] | None:
        """Return the units that have failed, or restart after a failure; None if unknown."""

    async def started_by_timers(self, units: frozenset[str]) -> frozenset[str] | None:
        """Return those of `units` that are oneshots which a timer of theirs has started last.

        None if that is unknown.
        """

    async def status(self, unit: str) -> UnitStatus | None:
        """Return the state of a unit; None if systemd gives no answer."""

    async def is_clock_synchronised(self) -> bool | None:
        """Return whether the clock is synchronised, None if unknown."""

    async def is_host_upgrading(self) -> bool | None:
        """Return whether the system below a home is being upgraded; None if that is unknown."""

    async def is_activating(self) -> bool | None:
        """Return whether a switch-to-configuration is running, no matter who has started it.

        None if that is unknown.
        """

    async def activation(self) -> ActivationSeen:
        """Return what can be seen of the activation that is running."""

    def has_work_left(self) -> bool:
        """Return whether the last switch or test was stopped before it had come to all units.

        Never raises. While one is running it has work left, too.
        """


class Systemd(UnitStates, Protocol):
    """The service manager. What raises, raises HostError.

    None always means that there is no answer: systemd is not there, did not answer in time, or its
    answer cannot be read. It decides nothing.
    """

    async def start(self, unit: str, *, afresh: bool = False) -> bool:
        """Start a unit again, without waiting for it; False if systemd gives no answer.

        One that is running is left alone, unless it is to be begun `afresh`. CONFIRM_UNIT_FAILED:
        systemd says that it cannot start.
        """

    async def start_later(self, unit: str) -> None:
        """Ask for a unit to be started, and wait for nothing; never raises."""

    async def arm(self, delay: timedelta, run_id: str, toplevel: StorePath) -> None:
        """Let the dead-man look at this upgrade after `delay`; replaces an earlier timer.

        It outlives the agent, the login session and the switch. DEAD_MAN_UNARMED, SYSTEMD_SILENT.
        """

    async def disarm(self) -> None:
        """Remove the dead-man's timer; never raises."""

    async def wake(self, at: datetime) -> None:
        """Start the upgrade unit at `at`, instead of any time set before; never raises."""

    async def begun(self, paths: frozenset[StorePath]) -> str:
        """Wait until the transient unit runs a program of one of `paths`; return its InvocationID.

        Without such a unit it waits for ever: it is to be cancelled. Never raises.
        """

    async def stop_activation(self, invocation: str) -> None:
        """Stop the transient unit while it is the one with this InvocationID; never raises.

        Returns when nothing is running any more, or when that cannot be found out.
        """

    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        """Run a system's switch-to-configuration as nixos-rebuild does. ROLL_BACK_FAILED."""
