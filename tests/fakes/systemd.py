"""A service manager in memory: units, the dead-man's timer, an activation that may be at work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import ActivationExit, Systemd, UnitStatus
from agent.domain.activation_unit import ActivationSeen, names_one_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime, timedelta

    from agent.domain.errors import HostError
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath

AT_WORK = UnitStatus("loaded", "active", "running")
ENDED = UnitStatus("loaded", "inactive", "dead")


def failed(exit_status: int) -> UnitStatus:
    """Return the state of a unit whose program ended with `exit_status`."""
    return UnitStatus("loaded", "failed", "failed", "exit-code", exit_status)


@dataclass(frozen=True)
class Armed:
    """The dead-man's timer."""

    delay: timedelta
    run_id: str
    toplevel: StorePath


class FakeSystemd(Systemd):
    """Keeps the state of `units`, the `timer`, and whether an activation `is_running`.

    `by_timers` are the oneshots that a timer has started; None is unknown.

    `programs` are what units do when they are started; each returns the state that it leaves. One
    without a program stays at work. `switches` moves the links of the test's host; of its activations
    each ends as the next of `exits`, or well, and unless its code is 0, `switches` is not called, but
    when `moves_before_failing` says so. `refuses` is what a switch-to-configuration says that will not
    begin. With `is_stubborn` no activation can be stopped.

    `is_running` alone is another hand's activation, past the unit; `works_on` is one in the unit,
    with an InvocationID: whose it is, the test says by both. With `is_silent` nothing is answered,
    and of `lost_answers` questions the answers get lost.
    """

    def __init__(self, switches: Callable[[Action, StorePath], None]) -> None:
        self.units: dict[str, UnitStatus] = {}
        self.programs: dict[str, Callable[[], Awaitable[UnitStatus]]] = {}
        self.failed: frozenset[str] | None = frozenset()
        self.by_timers: frozenset[str] | None = frozenset()
        self.started_later: list[str] = []
        self.is_synchronised: bool | None = True
        self.host_upgrades: bool | None = None
        self.timer: Armed | None = None
        self.woken_at: datetime | None = None
        self.is_running = False
        self.unit = ActivationSeen(is_running=False)
        self.waiting: list[tuple[frozenset[StorePath], asyncio.Future[str]]] = []
        self.is_silent = False
        self.lost_answers = 0
        self.is_stubborn = False
        self.work_left = False
        self.stops = 0
        self.switches = switches
        self.refuses: Callable[[StorePath, Action], ActivationExit | None] = lambda *_: None
        self.exits: list[ActivationExit] = []
        self.moves_before_failing = False
        self.activated: list[tuple[Action, StorePath]] = []
        self.start_fault: HostError | None = None
        self.arm_fault: HostError | None = None
        self.activate_fault: HostError | None = None

    def works_on(self, path: StorePath, invocation: str = "0" * 32) -> None:
        """Let an activation of `path` be at work in the transient unit."""
        self.is_running = True
        command = (f"{path}/bin/switch-to-configuration", "switch")
        self.unit = ActivationSeen(is_running=True, command=command, invocation=invocation)
        for paths, begun in self.waiting:
            if names_one_of(command, paths) and not begun.done():
                begun.set_result(invocation)

    def _is_lost(self) -> bool:
        self.lost_answers -= 1
        return self.is_silent or self.lost_answers >= 0

    @property
    @override
    def has_host_below(self) -> bool:
        return self.host_upgrades is not None

    @override
    async def failed_units(self) -> frozenset[str] | None:
        return None if self._is_lost() else self.failed

    @override
    async def started_by_timers(self, units: frozenset[str]) -> frozenset[str] | None:
        if not units:
            return frozenset()
        if self._is_lost() or self.by_timers is None:
            return None
        return units & self.by_timers

    @override
    async def status(self, unit: str) -> UnitStatus | None:
        return None if self._is_lost() else self.units.get(unit, UnitStatus())

    @override
    async def start(self, unit: str, *, afresh: bool = False) -> bool:
        if self._is_lost():
            return False
        if self.units.get(unit, ENDED).is_running and not afresh:
            return True
        if self.start_fault is not None:
            raise self.start_fault
        self.units[unit] = AT_WORK
        if unit in self.programs:
            self.units[unit] = await self.programs[unit]()
        return True

    @override
    async def start_later(self, unit: str) -> None:
        self.started_later.append(unit)

    @override
    async def is_host_upgrading(self) -> bool | None:
        return None if self._is_lost() else self.host_upgrades

    @override
    async def is_clock_synchronised(self) -> bool | None:
        return self.is_synchronised

    @override
    async def arm(self, delay: timedelta, run_id: str, toplevel: StorePath) -> None:
        self.timer = None
        if self.arm_fault is not None:
            raise self.arm_fault
        self.timer = Armed(delay, run_id, toplevel)

    @override
    async def disarm(self) -> None:
        self.timer = None

    @override
    async def wake(self, at: datetime) -> None:
        self.woken_at = at

    @override
    async def is_activating(self) -> bool | None:
        return (await self.activation()).is_running

    @override
    async def activation(self) -> ActivationSeen:
        if self._is_lost():
            return ActivationSeen(is_running=None)
        return (
            self.unit
            if self.is_running and self.unit.command
            else ActivationSeen(is_running=self.is_running)
        )

    @override
    def has_work_left(self) -> bool:
        return self.work_left or self.is_running

    @override
    async def begun(self, paths: frozenset[StorePath]) -> str:
        if self.is_running and names_one_of(self.unit.command, paths):
            return self.unit.invocation
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append((paths, begun))
        return await begun

    @override
    async def stop_activation(self, invocation: str) -> None:
        self.stops += 1
        if not self.is_stubborn and self.unit.invocation == invocation:
            self.is_running = False

    @override
    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        if self.activate_fault is not None:
            raise self.activate_fault
        self.activated.append((action, toplevel))
        if (refusal := self.refuses(toplevel, action)) is not None:
            return refusal
        ended = self.exits.pop(0) if self.exits else ActivationExit(0, "")
        if ended.returncode == 0 or self.moves_before_failing:
            self.switches(action, toplevel)
        return ended
