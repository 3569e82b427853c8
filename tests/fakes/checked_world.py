"""A world in which each system shows its nature, and nothing wrong goes unnoticed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.domain.errors import HydraError, Kind
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.unit_names import CONFIRM_UNIT

from .samples import JOB, OLD
from .stepwise import WorldJournal, WorldMarks, WorldNixosRebuild, WorldSystemd
from .systemd import failed
from .world import CACHE, GATEWAY, SERVICE, PowerCut, World

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit, RunRecord, UnitStatus
    from agent.domain.store_path import StorePath

APP = "app.service"


class Nature(StrEnum):
    """What a system is like, once it runs."""

    GOOD = "good"
    SERVICE_BREAKS = "service-breaks"
    UNIT_FAILS = "unit-fails"
    CUTS_OFF = "cuts-off"
    AGENT_DEAD = "agent-dead"
    AGENT_GONE = "agent-gone"


SOUND = (Nature.GOOD, Nature.AGENT_GONE)
"""Nothing that confirmation looks at is ill because of such a system."""


@dataclass
class Watch:
    """Knows what is true of each system, and notes what the agent must never do."""

    natures: dict[StorePath, Nature] = field(default_factory=dict)
    green: set[StorePath] = field(default_factory=set)
    chosen: set[StorePath | None] = field(default_factory=lambda: {OLD})
    """What Hydra built and the agent has activated, or a person has."""
    brought: set[StorePath | None] = field(default_factory=set)
    """What a person has activated, or what was there when the marks were lost."""
    disturbed: set[StorePath] = field(default_factory=set)
    """Those whose last activation went wrong for another reason."""
    had_clock: dict[StorePath, bool | None] = field(default_factory=dict)
    decided: dict[str, Mark] = field(default_factory=dict)
    """What became of the last upgrade to a path."""
    reboots: dict[tuple[str, StorePath | None], str] = field(default_factory=dict)
    """The boot in which a reboot into a path, or back from it, was asked for."""
    last: StorePath | None = None
    """What was activated last."""
    is_by_hand: bool = False
    is_isolated: bool = False
    wrongs: list[str] = field(default_factory=list)

    def blame(self, what: str, *, unless: bool) -> None:
        """Note a wrong."""
        if not unless:
            self.wrongs.append(what)


class WatchedMarks(WorldMarks):
    """Marks of which each decision is judged."""

    def __init__(self, world: CheckedWorld) -> None:
        super().__init__(world.steps, world.clock)
        self.world, self.watch = world, world.watch

    @override
    def set(self, mark: Mark, toplevel: StorePath) -> None:
        super().set(mark, toplevel)
        if mark is Mark.PENDING:
            self.watch.decided.pop(toplevel, None)
        if mark is Mark.ROLLING_BACK:
            self.watch.decided[toplevel] = mark

    @override
    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        is_moved = super().move(mark, toplevel, to)
        if is_moved and mark is Mark.PENDING:
            self.watch.blame(
                f"{toplevel} was decided twice", unless=toplevel not in self.watch.decided
            )
            self.watch.decided[toplevel] = to
            if to is Mark.ROLLING_BACK:
                self._claimed(toplevel)
        return is_moved

    def _claimed(self, path: StorePath) -> None:
        """Judge the beginning of a roll-back: the system, or its activation, must be to blame."""
        watch, world = self.watch, self.world
        if watch.is_by_hand or world.host.running != path or path in watch.disturbed:
            return
        nature = watch.natures[path]
        watch.blame(
            f"rolled back from {path}, which is {nature}",
            unless=nature not in SOUND or watch.is_isolated,
        )
        lost_clock = watch.had_clock.get(path) is True and world.systemd.is_synchronised is False
        watch.blame(
            f"rolled back from {path} without a clock",
            unless=not lost_clock or nature is Nature.AGENT_DEAD,
        )


class CheckedJournal(WorldJournal):
    """A history that may not claim what the marks have not decided."""

    def __init__(self, world: CheckedWorld) -> None:
        super().__init__(world.steps)
        self.watch = world.watch

    @override
    def record(self, run: RunRecord) -> None:
        super().record(run)
        decided = self.watch.decided.get(run.toplevel or "")
        if run.outcome == Outcome.CONFIRMED:
            is_true = decided in (Mark.CONFIRMED, Mark.TESTED)
            self.watch.blame(f"{run.run_id} was called confirmed, not {decided}", unless=is_true)
        if run.outcome == Outcome.ROLLED_BACK:
            is_true = decided is Mark.ROLLING_BACK
            self.watch.blame(f"{run.run_id} was called rolled-back, not {decided}", unless=is_true)


@dataclass
class WatchedRebuild(WorldNixosRebuild):
    """A nixos-rebuild that looks at what it is given, and may fail, or go on alone."""

    world: CheckedWorld = field(kw_only=True)
    reach: str = "all"
    """How far activations get: `all`, `profile`, `nothing`."""
    dies_after: bool = False
    """Whether the agent is killed once the links have moved."""
    goes_on: bool = False
    """Whether it is killed while the activation goes on."""
    unfinished: tuple[Action, StorePath] | None = None

    @override
    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        world, watch = self.world, self.world.watch
        denied = {denial.toplevel for denial in world.journal.denials(world.clock.now())}
        watch.blame(f"activated {path}, which is denied", unless=path not in denied)
        watch.blame(f"activated {path}, not built by Hydra", unless=path in watch.green)
        watch.blame("activated unannounced", unless=self.is_announced(action, path))
        if path != watch.last:
            watch.reboots.clear()
        watch.last = path
        watch.disturbed.discard(path)
        if self.ends.returncode:
            watch.disturbed.add(path)
        watch.had_clock[path] = world.systemd.is_synchronised
        return await super().activate_store_path(action, path, specialisation)

    def is_announced(self, action: Action, path: StorePath) -> bool:
        """Whether all is left behind that someone else needs to end the upgrade."""
        world = self.world
        row = world.journal.under_way()
        is_lasting = action is not Action.DRY_ACTIVATE
        is_marked = world.marks.read().pending == path and world.systemd.timer is not None
        is_written = row is not None and (row.toplevel, row.outcome) == (path, Outcome.ACTIVATING)
        return is_written and (is_marked or not is_lasting)

    def move(self, action: Action, path: StorePath) -> None:
        """Move the links as far as activations reach at present."""
        host = self.world.host
        if action is Action.DRY_ACTIVATE:
            return
        if action.moves_profile and self.reach != "nothing":
            self.world.watch.chosen.add(path)
            host.profile = path
        if self.goes_on and action is not Action.BOOT:
            self.world.systemd.is_running, self.unfinished = True, (action, path)
            raise PowerCut
        if self.reach == "all" and self.ends.returncode != 100:
            host.switch_to(action, path)
            self.world.watch.chosen.add(host.running)
        self.world.settle()
        if self.dies_after:
            raise PowerCut


class WatchedSystemd(WorldSystemd):
    """A systemd that lets nothing but the confirmed system be activated in the agent's name."""

    def __init__(self, world: CheckedWorld) -> None:
        super().__init__(world.steps, world.switch_back)
        self.world, self.watch = world, world.watch

    @override
    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        marks = self.world.marks.read()
        is_for_the_loader = action is Action.BOOT and toplevel in (marks.confirmed, marks.staged)
        self.watch.blame(
            f"went back to {toplevel}, which is not confirmed",
            unless=toplevel == marks.confirmed or is_for_the_loader,
        )
        self.watch.blame("went back unmarked", unless=marks.left is not None or is_for_the_loader)
        return await super().activate(toplevel, action)


class CheckedWorld(World):
    """A world in which each system shows its nature when it runs."""

    nixos_rebuild: WatchedRebuild
    marks: WatchedMarks
    journal: CheckedJournal
    systemd: WatchedSystemd

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch(natures={OLD: Nature.GOOD})
        self.outage = "none"
        self.is_blind = False
        self.seen: tuple[StorePath | None, ...] = ()
        self.nixos_rebuild = WatchedRebuild(
            {}, self.host.activate, steps=self.steps, moves_before_failing=True, world=self
        )
        self.nixos_rebuild.activate = self.nixos_rebuild.move
        self.marks = WatchedMarks(self)
        self.journal = CheckedJournal(self)
        self.systemd = WatchedSystemd(self)
        self.systemd.programs[CONFIRM_UNIT] = self.confirm_unit
        self.host.on_reboot = self.judge_reboot

    def judge_reboot(self) -> None:
        """See that a reboot is the only one for its path, and that the loader knows the way back."""
        marks, watch = self.marks.read(), self.watch
        why = ("back from", marks.left) if marks.left else ("into", marks.staged)
        asked_in = watch.reboots.setdefault(why, self.host.boot_id)
        watch.blame(f"rebooted {why} again", unless=asked_in == self.host.boot_id)
        default = self.host.loader.default()
        watch.blame(
            f"rebooted with {default} as the default, not confirmed",
            unless=default == marks.confirmed or marks.confirmed is None,
        )

    def switch_back(self, action: Action, path: StorePath) -> None:
        """Do what the confirmed system's switch-to-configuration does."""
        self.host.switch_to(action, path)
        self.settle()
        if self.nixos_rebuild.dies_after:
            raise PowerCut

    async def confirm_unit(self) -> UnitStatus:
        """Do what the running system's confirm unit does, if its agent can."""
        if self.nature is Nature.AGENT_DEAD:
            return failed(1)
        return await self._confirm()

    @property
    def nature(self) -> Nature:
        """What the running system is like."""
        assert self.host.running is not None
        return self.watch.natures[self.host.running]

    def settle(self) -> None:
        """Let everything show what the running system and the outages make of it."""
        if self.seen != (self.host.running, self.host.profile):
            self.seen = (self.host.running, self.host.profile)
            self.host.changed = self.clock.now()
        nature = self.nature
        self.watch.is_isolated = self.outage == "all"
        silent, is_cut = self.outage != "none", nature is Nature.CUTS_OFF or self.outage == "all"
        reasons = self.prober.reasons
        reasons.clear()
        if silent or is_cut:
            reasons[JOB.instance] = "no answer"
        if is_cut:
            reasons[GATEWAY] = reasons[f"{CACHE}/nix-cache-info"] = "no reply"
        self.hydra.fault = HydraError(Kind.HYDRA_REFUSED, "no answer") if silent or is_cut else None
        if nature is Nature.SERVICE_BREAKS or self.is_blind:
            reasons[SERVICE] = "no reply"
        self.prober.unproven = {SERVICE} if self.is_blind else set()
        self.systemd.failed = frozenset({APP} if nature is Nature.UNIT_FAILS else ())
