from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from agent.application import by_hand, events
from agent.application.dead_man import dead_man
from agent.application.ports import ActivationExit
from agent.application.run import RunSettings
from agent.application.upgrade import upgrade
from agent.domain.errors import AgentError, HydraError, Kind
from agent.domain.gates import Gate
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, OnFailure, RebootMode, Strategy
from agent.domain.units import CONFIRM_UNIT
from fakes.samples import JOB, OLD
from fakes.stepwise import WorldJournal, WorldMarks, WorldNixosRebuild, WorldSystemd, system_with
from fakes.systemd import failed
from fakes.world import CACHE, GATEWAY, SERVICE, STORE, WATCHFUL, PowerCut, World, flake_of, system

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
NATURES = st.sampled_from([Nature.GOOD, Nature.GOOD, Nature.GOOD, *Nature])
ACTIONS = st.sampled_from([Action.SWITCH, Action.SWITCH, Action.SWITCH, *Action])
POLICIES = st.builds(
    lambda action, strategy, mode, on_failure: replace(
        WATCHFUL,
        action=action,
        strategy=strategy,
        reboot_mode=mode,
        confirm=replace(WATCHFUL.confirm, on_failure=on_failure),
    ),
    ACTIONS,
    st.sampled_from(Strategy),
    st.sampled_from([RebootMode.NEVER, RebootMode.WHEN_NEEDED]),
    st.sampled_from(
        [OnFailure.ROLL_BACK, OnFailure.ROLL_BACK, OnFailure.ROLL_BACK, OnFailure.HOLD]
    ),
)
AWAITED = [
    "substitute", "probe canary", "probe service", "arm", *Action, "start confirm", "disarm", "reboot",
    "set-profile", "switch-to-configuration switch", "switch-to-configuration test",
]  # fmt: skip
"""The steps in which a signal can end a run."""
EFFECTS = [
    *AWAITED, "journal selected", "journal verified", "journal fetched", "journal armed",
    "mark pending", "journal activating", "journal pending", "pending to confirmed",
    "pending to tested", "journal confirmed", "pending to staged", "journal staged",
    "journal rebooting", "pending to rolling-back", "journal rolling-back", "journal deny",
    "rolling-back to rolled-back", "journal rolled-back", "unmark rolled-back",
]  # fmt: skip
"""Before each of them the agent can be killed: that is also after the one before."""


@dataclass
class Watch:
    """Knows what is true of each system, and notes what the agent must never do."""

    natures: dict = field(default_factory=dict)
    green: set = field(default_factory=set)
    chosen: set = field(default_factory=lambda: {OLD})
    """What Hydra built and the agent has activated, or a person has."""
    disturbed: set = field(default_factory=set)
    """Those whose last activation went wrong for another reason."""
    had_clock: dict = field(default_factory=dict)
    decided: dict = field(default_factory=dict)
    """What became of the last upgrade to a path."""
    is_by_hand: bool = False
    is_isolated: bool = False
    wrongs: list = field(default_factory=list)

    def blame(self, what, *, unless):
        if not unless:
            self.wrongs.append(what)


class WatchedMarks(WorldMarks):
    """Marks of which each decision is judged."""

    def __init__(self, world, watch):
        super().__init__(world.steps, world.clock)
        self.world, self.watch = world, watch

    def set(self, mark, toplevel):
        super().set(mark, toplevel)
        if mark is Mark.PENDING:
            self.watch.decided.pop(toplevel, None)
        if mark is Mark.ROLLING_BACK:
            self.watch.decided[toplevel] = mark

    def move(self, mark, toplevel, to):
        is_moved = super().move(mark, toplevel, to)
        if is_moved and mark is Mark.PENDING:
            self.watch.blame(
                f"{toplevel} was decided twice", unless=toplevel not in self.watch.decided
            )
            self.watch.decided[toplevel] = to
            if to is Mark.ROLLING_BACK:
                self._claimed(toplevel)
        return is_moved

    def _claimed(self, path):
        """Judge the beginning of a roll-back: the system, or its activation, must be to blame."""
        watch, world = self.watch, self.world
        if watch.is_by_hand or world.host.running != path or path in watch.disturbed:
            return
        nature = watch.natures[path]
        watch.blame(
            f"rolled back from {path}, which is {nature}",
            unless=nature not in SOUND or watch.is_isolated,
        )
        lost_clock = watch.had_clock.get(path) and world.systemd.is_synchronised is False
        watch.blame(
            f"rolled back from {path} without a clock",
            unless=not lost_clock or nature is Nature.AGENT_DEAD,
        )


class WatchedJournal(WorldJournal):
    """A history that may not claim what the marks have not decided."""

    def __init__(self, world, watch):
        super().__init__(world.steps)
        self.watch = watch

    def record(self, run):
        super().record(run)
        decided = self.watch.decided.get(run.toplevel)
        if run.outcome == Outcome.CONFIRMED:
            is_true = decided in (Mark.CONFIRMED, Mark.TESTED)
            self.watch.blame(f"{run.run_id} was called confirmed, not {decided}", unless=is_true)
        if run.outcome == Outcome.ROLLED_BACK:
            is_true = decided is Mark.ROLLING_BACK
            self.watch.blame(f"{run.run_id} was called rolled-back, not {decided}", unless=is_true)


class WatchedRebuild(WorldNixosRebuild):
    """A nixos-rebuild that looks at what it is given, and may fail, or go on alone."""

    def watched(self, world, watch):
        self.world, self.watch = world, watch
        self.reach, self.dies_after, self.goes_on = "all", False, False
        self.unfinished = None
        self.moves_before_failing = True
        return self

    async def activate_store_path(self, action, path):
        world, watch = self.world, self.watch
        denied = {denial.toplevel for denial in world.journal.denials(world.clock.now())}
        watch.blame(f"activated {path}, which is denied", unless=path not in denied)
        watch.blame(f"activated {path}, not built by Hydra", unless=path in watch.green)
        watch.blame("activated unannounced", unless=self.is_announced(action, path))
        watch.disturbed.discard(path)
        if self.ends.returncode:
            watch.disturbed.add(path)
        watch.had_clock[path] = world.systemd.is_synchronised
        return await super().activate_store_path(action, path)

    def is_announced(self, action, path):
        world = self.world
        row = world.journal.under_way()
        is_lasting = action is not Action.DRY_ACTIVATE
        is_marked = world.marks.read().pending == path and world.systemd.timer is not None
        is_written = row is not None and (row.toplevel, row.outcome) == (path, Outcome.ACTIVATING)
        return is_written and (is_marked or not is_lasting)

    def move(self, action, path):
        """Move the links as far as activations reach at present."""
        host = self.world.host
        if action is Action.DRY_ACTIVATE:
            return
        if action.moves_profile and self.reach != "nothing":
            self.watch.chosen.add(path)
            host.profile = path
        if self.goes_on and action is not Action.BOOT:
            self.world.systemd.is_at_work, self.unfinished = True, (action, path)
            raise PowerCut
        if self.reach == "all" and self.ends.returncode != 100:
            host.switch_to(action, path)
            self.watch.chosen.add(host.running)
        self.world.settle()
        if self.dies_after:
            raise PowerCut


class WatchedSystemd(WorldSystemd):
    """A systemd that lets nothing but the confirmed system be activated in the agent's name."""

    def __init__(self, world, watch):
        super().__init__(world.steps, world.switch_back)
        self.world, self.watch = world, watch

    async def activate(self, toplevel, action):
        marks = self.world.marks.read()
        self.watch.blame(
            f"went back to {toplevel}, which is not confirmed", unless=toplevel == marks.confirmed
        )
        self.watch.blame("went back unmarked", unless=marks.rolling_back is not None)
        return await super().activate(toplevel, action)


class WatchedWorld(World):
    """A world in which each system shows its nature when it runs."""

    def __init__(self):
        super().__init__()
        self.watch = Watch(natures={OLD: Nature.GOOD})
        self.outage, self.is_blind, self.links = "none", False, ()
        self.nixos_rebuild = WatchedRebuild({}, self.host.activate, steps=self.steps)
        self.nixos_rebuild.watched(self, self.watch).activate = self.nixos_rebuild.move
        self.marks = WatchedMarks(self, self.watch)
        self.journal = WatchedJournal(self, self.watch)
        self.systemd = WatchedSystemd(self, self.watch)
        self.systemd.programs[CONFIRM_UNIT] = self.confirm_unit

    def switch_back(self, action, path):
        self.host.switch_to(action, path)
        self.settle()
        if self.nixos_rebuild.dies_after:
            raise PowerCut

    async def confirm_unit(self):
        if self.watch.natures[self.host.running] is Nature.AGENT_DEAD:
            return failed(1)
        return await self._confirm()

    def settle(self):
        """Let everything show what the running system and the outages make of it."""
        if self.links != (self.host.running, self.host.profile):
            self.links = (self.host.running, self.host.profile)
            self.host.changed = self.clock.now()
        nature = self.watch.natures[self.host.running]
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


class Life(RuleBasedStateMachine):
    """A host's life: whatever befalls it, the agent keeps its promises."""

    def __init__(self):
        super().__init__()
        self.world = WatchedWorld()
        self.watch = self.world.watch
        self.systems = self.builds = 0
        self.paths = [OLD]

    # The host, and the people around it

    @initialize(nature=NATURES)
    def a_host_is_installed_and_has_a_job(self, nature):
        self.world.host.contents[OLD].units[APP] = OLD
        self.world.settle()
        self.publish(self.new_system(nature, "k1"))
        self.world.run()

    @rule(nature=NATURES)
    def a_person_switches_to_a_system_of_their_own(self, nature):
        self.person_activates(Action.SWITCH, self.new_system(nature, "k1"))

    @rule(data=st.data(), action=st.sampled_from([Action.SWITCH, Action.BOOT, Action.TEST]))
    def a_person_goes_back_to_an_earlier_system(self, data, action):
        self.person_activates(action, data.draw(st.sampled_from(sorted(self.watch.chosen))))

    @rule(data=st.data(), days=st.sampled_from([None, 1]))
    def a_person_denies(self, data, days):
        path = data.draw(st.sampled_from(self.paths))
        length = None if days is None else timedelta(days=days)
        self.person_says(by_hand.deny, path, "no", length)

    @rule(data=st.data())
    def a_person_allows(self, data):
        self.person_says(by_hand.allow, data.draw(st.sampled_from(self.paths)), "yes")

    @rule()
    def a_person_rolls_back(self):
        self.watch.is_by_hand = True
        self.act(partial(by_hand.roll_back_by_hand, reason="no"))
        self.watch.is_by_hand = False

    @rule(force=st.booleans())
    def the_confirm_unit_or_a_person_confirms(self, force):
        self.act(partial(by_hand.confirm, force=force))

    @rule(is_confirmed_again=st.booleans(), falls_back=st.sampled_from([False, False, True]))
    def the_host_is_rebooted(self, is_confirmed_again, falls_back):
        self.reboot(falls_back=falls_back)
        if is_confirmed_again:
            self.act(by_hand.confirm)

    @rule(minutes=st.sampled_from([1, 15, 120, 26 * 60]))
    def time_passes(self, minutes):
        self.world.clock.move(minutes * 60)

    @rule(outage=st.sampled_from(["none", "hydra", "all"]))
    def the_network_fails_or_recovers(self, outage):
        self.world.outage = outage
        self.world.settle()

    @rule(is_synchronised=st.sampled_from([True, True, False, None]))
    def the_clock_is_lost_or_found(self, is_synchronised):
        self.world.systemd.is_synchronised = is_synchronised

    @rule(is_blind=st.booleans())
    def checks_cannot_be_run_or_can(self, is_blind):
        self.world.is_blind = is_blind
        self.world.settle()

    @rule(is_journal=st.booleans(), are_marks=st.booleans())
    def what_the_agent_remembers_is_lost(self, is_journal, are_marks):
        if is_journal:
            self.world.journal = WatchedJournal(self.world, self.watch)
        if are_marks:
            self.world.marks.links.clear()
            self.world.marks.times.clear()
            self.watch.decided.clear()

    # Hydra

    @rule(
        nature=NATURES, kernel=st.sampled_from(["k1", "k2"]), status=st.sampled_from([0, 0, 0, 1])
    )
    def hydra_has_a_new_build(self, nature, kernel, status):
        self.publish(self.new_system(nature, kernel), status=status)

    @rule(data=st.data())
    def a_revert_brings_an_earlier_system_back(self, data):
        earlier = [build.outputs["out"] for build in self.world.hydra.builds.values()]
        self.publish(data.draw(st.sampled_from(earlier)))

    @rule()
    def the_newest_good_build_is_restarted_and_fails(self):
        good = [id_ for id_, build in self.world.hydra.builds.items() if build.is_good]
        if good:
            self.world.change(max(good), status=1)

    @rule()
    def a_flake_turns_out_to_yield_another_path(self):
        self.world.nix.evaluates[flake_of(self.builds + 1000), "h"] = self.new_system(
            Nature.GOOD, "k1"
        )

    # The agent

    @rule(
        policy=POLICIES,
        ignored=st.sampled_from([(), (), (Gate.AGENT_REMOVED, Gate.FOREIGN_SYSTEM)]),
    )
    def the_agent_runs(self, policy, ignored):
        self.act(upgrade, policy, ignored_gates=frozenset(ignored), ignored_because="so")

    @rule(
        policy=POLICIES,
        code=st.sampled_from([1, 2, 4, 100, -9]),
        tail=st.sampled_from(["", "Could not acquire lock", "activating the configuration"]),
        reach=st.sampled_from(["all", "profile", "nothing"]),
    )
    def the_agent_runs_while_activations_go_wrong(self, policy, code, tail, reach):
        self.world.nixos_rebuild.ends = ActivationExit(code, tail)
        self.world.nixos_rebuild.reach = reach
        self.act(upgrade, policy)

    @rule(policy=POLICIES, step=st.sampled_from(EFFECTS), outage=st.sampled_from(["hydra", "all"]))
    def the_network_fails_while_the_agent_runs(self, policy, step, outage):
        def fail():
            self.world.outage = outage
            self.world.settle()

        self.world.steps.at(step, fail)
        self.act(upgrade, policy)

    @rule(policy=POLICIES, step=st.sampled_from(AWAITED))
    def the_agent_is_terminated(self, policy, step):
        self.world.steps.at(step, asyncio.CancelledError())
        self.act(upgrade, policy)

    @rule(policy=POLICIES, step=st.sampled_from(EFFECTS), is_power_cut=st.booleans())
    def the_agent_is_killed(self, policy, step, is_power_cut):
        self.world.steps.at(step, PowerCut())
        self.act(upgrade, policy)
        if is_power_cut:
            self.reboot()

    @rule(policy=POLICIES, goes_on=st.booleans())
    def the_agent_is_killed_in_or_after_an_activation(self, policy, goes_on):
        self.world.nixos_rebuild.goes_on = goes_on
        self.world.nixos_rebuild.dies_after = True
        self.act(upgrade, policy)

    @rule(step=st.sampled_from(EFFECTS))
    def a_confirmation_is_killed(self, step):
        self.world.steps.at(step, PowerCut())
        self.act(by_hand.confirm)

    @precondition(lambda self: self.world.systemd.is_at_work)
    @rule()
    def an_activation_comes_to_its_end(self):
        self.finish_activation()

    @precondition(lambda self: self.world.systemd.timer is not None)
    @rule(step=st.sampled_from([None, None, None, *EFFECTS]))
    def the_dead_man_s_timer_fires(self, step):
        if step is not None:
            self.world.steps.at(step, PowerCut())
        self.fire()

    @rule(policy=POLICIES)
    def a_rival_decides_in_the_very_instant(self, policy):
        marks = self.world.marks

        def decide():
            path = marks.links.get(Mark.PENDING)
            if path is not None:
                is_ill = self.watch.natures[path] not in SOUND
                is_whole = self.world.host.running == self.world.host.profile == path
                to = Mark.CONFIRMED if is_ill and is_whole else Mark.ROLLING_BACK
                marks.links[to] = marks.links.pop(Mark.PENDING)
                marks.times[to] = marks.times.pop(Mark.PENDING)
                self.watch.decided[path] = to

        marks.before_move = decide
        self.act(upgrade, policy)

    @rule()
    def left_alone_the_agent_leaves_nothing_under_way(self):
        self.all_goes_well()
        for _ in range(3):
            self.act(upgrade)
            self.world.clock.move(3600)
        marks = self.world.marks.read()
        assert (marks.rolling_back, marks.rolled_back) == (None, None)
        if marks.pending is not None:
            self.prove_that_a_person_has_to_decide(marks)
            return
        assert self.world.systemd.timer is None
        assert self.world.journal.under_way() is None

    @rule()
    def after_a_roll_back_by_hand_or_without_a_newer_good_build_goes_through(self):
        self.left_alone_the_agent_leaves_nothing_under_way()
        if self.world.marks.read().pending is not None:
            self.a_person_rolls_back()
        if self.world.marks.read().pending is not None or self.world.hydra.fault is not None:
            return  # nothing to go back to, or somebody's system that reaches nobody
        newest = self.new_system(Nature.GOOD, "k1")
        self.publish(newest)
        self.world.clock.move(2 * 86400)
        self.act(upgrade)
        assert self.world.marks.read().confirmed == newest, self.world.summary()
        assert (self.world.host.running, self.world.host.profile) == (newest, newest)
        self.act(upgrade)
        assert self.world.summary()["outcome"] in {"nothing-to-do", "awaits-reboot"}

    # What always holds

    @invariant()
    def the_agent_has_done_nothing_that_it_must_never_do(self):
        assert self.watch.wrongs == []

    @invariant()
    def the_links_only_point_to_what_somebody_chose(self):
        host = self.world.host
        assert {host.running, host.booted, host.profile} <= self.watch.chosen

    @invariant()
    def a_confirmed_system_can_be_gone_back_to(self):
        confirmed = self.world.marks.read().confirmed
        assert confirmed is None or confirmed in self.watch.chosen

    # How the world works

    def act(self, use_case, policy=WATCHFUL, **asked):
        """Let the agent do one thing; it may be killed in it, but never meets a bug of its own."""
        world = self.world
        world.told_by_new.said.clear()
        with contextlib.suppress(asyncio.CancelledError, PowerCut):
            world.carry_out(use_case, policy, **asked)
        world.steps.calm()
        world.systemd.units.clear()
        world.marks.before_move = None
        self.watch.is_by_hand = False
        rebuild = world.nixos_rebuild
        rebuild.ends, rebuild.reach = ActivationExit(0, ""), "all"
        rebuild.goes_on = rebuild.dies_after = False
        if not world.systemd.is_at_work:
            rebuild.unfinished = None
        bugs = [
            fields["exception"]
            for told in (world.told, world.told_by_new)
            for event, fields in told.said
            if event is events.BUG_FOUND
        ]
        assert not bugs, bugs[0]

    def fire(self):
        timer, self.world.systemd.timer = self.world.systemd.timer, None
        self.world.clock.move(timer.delay.total_seconds())
        self.act(partial(dead_man, toplevel=timer.toplevel))

    def all_goes_well(self):
        """End all outages and activations."""
        self.finish_activation()
        self.world.outage, self.world.is_blind = "none", False
        self.world.systemd.is_synchronised = True
        self.world.settle()

    def prove_that_a_person_has_to_decide(self, marks):
        """What stays pending for ever must be ill, and either not provably so, or held on purpose."""
        path = marks.pending
        assert self.watch.natures[path] is not Nature.GOOD, self.world.summary()

    def finish_activation(self):
        rebuild = self.world.nixos_rebuild
        if self.world.systemd.is_at_work and rebuild.unfinished is not None:
            self.world.host.switch_to(*rebuild.unfinished)
            self.watch.chosen.add(self.world.host.running)
        self.world.systemd.is_at_work, rebuild.unfinished = False, None
        self.world.settle()

    def reboot(self, *, falls_back=False):
        """Start the profile's system, or what a boot loader falls back to."""
        host, marks = self.world.host, self.world.marks.read()
        self.world.systemd.is_at_work, self.world.nixos_rebuild.unfinished = False, None
        self.world.systemd.timer = None
        host.boot()
        if falls_back and marks.confirmed is not None:
            host.running = host.booted = marks.confirmed
        self.world.settle()

    def person_activates(self, action, path):
        self.finish_activation()
        self.watch.chosen.add(path)
        self.world.host.activate(action, path)
        self.world.settle()

    def person_says(self, what, *words):
        said = RunSettings("by-hand", STORE, by="anna")
        try:
            asyncio.run(what(self.world.ports, said, *words))
        except AgentError as error:
            assert error.kind is Kind.NOTHING_HELD  # noqa: PT017 - most often there is none

    def new_system(self, nature, kernel):
        self.systems += 1
        path = system(self.systems)
        self.watch.natures[path] = nature
        contents = system_with(kernel)
        contents.units[APP] = path
        if nature is Nature.AGENT_GONE:
            del contents.units[CONFIRM_UNIT]
        self.world.host.contents[path] = contents
        self.paths.append(path)
        return path

    def publish(self, path, *, status=0):
        self.builds += 1
        contents = self.world.host.contents[path]
        self.world.publish(self.builds, path)
        self.world.host.contents[path] = contents
        if status == 0:
            self.watch.green.add(path)
        self.world.change(self.builds, status=status)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
