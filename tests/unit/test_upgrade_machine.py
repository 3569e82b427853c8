from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from agent.application import events
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.application.ports import ActivationExit
from agent.application.run import RunSettings
from agent.application.upgrade import upgrade
from agent.domain.errors import AgentError, Kind
from agent.domain.marks import Mark
from agent.domain.policy import Action, OnFailure, RebootMode, Strategy
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.checked_world import APP, SOUND, CheckedJournal, CheckedWorld, Nature
from fakes.samples import OLD
from fakes.stepwise import system_with
from fakes.world import STORE, WATCHFUL, PowerCut, flake_of, system

NATURES = st.sampled_from([Nature.GOOD, Nature.GOOD, *Nature])
OUTAGES = st.sampled_from(["none", "none", "hydra", "all"])
KERNELS = st.sampled_from(["k1", "k1", "k2"])
SELDOM = st.sampled_from([False, False, False, True])
BRISK = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, deadline=timedelta(seconds=5)))
POLICIES = st.builds(
    lambda action, strategy, mode, on_failure, hold: replace(
        BRISK,
        action=action,
        strategy=strategy,
        reboot_mode=mode,
        foreign_hold=timedelta(days=hold),
        confirm=replace(BRISK.confirm, on_failure=on_failure),
    ),
    st.sampled_from(
        [*[Action.SWITCH] * 6, Action.BOOT, Action.BOOT, Action.TEST, Action.DRY_ACTIVATE]
    ),
    st.sampled_from(Strategy),
    st.sampled_from([RebootMode.NEVER, RebootMode.NEVER, RebootMode.WHEN_NEEDED]),
    st.sampled_from([*[OnFailure.ROLL_BACK] * 5, OnFailure.HOLD]),
    st.sampled_from([0, 0, 1]),
)
AWAITED = [
    "substitute", "probe service", "arm", *Action, "start confirm", "disarm",
    "set-profile", "switch-to-configuration switch", "switch-to-configuration test",
]  # fmt: skip
"""The steps in which a signal can end a run."""
FORTH = [
    "journal selected", "journal fetched", "journal armed", "mark pending", "arm",
    "journal activating", "switch", "boot", "test", "pending to staged", "journal staged",
    "journal rebooting", "journal pending", "start confirm", "probe service",
    "pending to confirmed", "pending to tested", "disarm", "journal confirmed",
]  # fmt: skip
BACK = [
    "pending to rolling-back", "journal rolling-back", "journal deny", "set-profile",
    "switch-to-configuration switch", "switch-to-configuration test",
    "rolling-back to rolled-back", "disarm", "journal rolled-back", "unmark rolled-back",
]  # fmt: skip
"""Before each of them the agent can be killed: that is also after the one before."""


class Life(RuleBasedStateMachine):
    """A host's life: whatever befalls it, the agent keeps its promises."""

    def __init__(self):
        super().__init__()
        self.world = CheckedWorld()
        self.watch = self.world.watch
        self.systems = self.builds = 0
        self.paths = [OLD]

    # The host, and the people around it

    @initialize(nature=NATURES)
    def a_host_is_installed_and_has_a_job(self, nature):
        self.world.host.contents[OLD].units[APP] = OLD
        self.world.settle()
        self.publish(nature)
        self.act(upgrade)

    @rule(data=st.data(), action=st.sampled_from([Action.SWITCH, Action.BOOT, Action.TEST]))
    def a_person_activates_a_system(self, data, action):
        own = self.new_system(data.draw(NATURES), "k1")
        self.finish_activation()
        path = data.draw(st.sampled_from([own, *sorted(self.watch.chosen)]))
        self.watch.chosen.add(path)
        self.watch.brought.add(path)
        self.world.host.activate(action, path)
        self.world.settle()

    @rule(data=st.data(), is_denied=st.booleans(), days=st.sampled_from([None, 1]))
    def a_person_denies_or_allows(self, data, is_denied, days):
        path = data.draw(st.sampled_from(self.paths))
        if is_denied:
            self.person_says(verdicts.deny, path, "no", days and timedelta(days=days))
        else:
            self.person_says(verdicts.allow, path, "yes")
            # Whoever allows a system lets the host be rebooted into it once more.
            for why in ("into", "back from"):
                self.watch.reboots.pop((why, path), None)

    @rule()
    def a_person_rolls_back(self):
        self.watch.is_by_hand = True
        self.act(partial(verdicts.roll_back_by_hand, reason="no"))

    @rule(force=st.booleans())
    def the_confirm_unit_or_a_person_confirms(self, force):
        self.act(partial(verdicts.confirm, force=force))

    @rule(is_confirmed_again=st.booleans(), falls_back=st.sampled_from([False, False, True]))
    def the_host_is_rebooted(self, is_confirmed_again, falls_back):
        self.reboot(falls_back=falls_back)
        if is_confirmed_again:
            self.act(verdicts.confirm)

    @rule(minutes=st.sampled_from([15, 26 * 60]))
    def time_passes(self, minutes):
        self.world.clock.move(minutes * 60)

    @rule(outage=OUTAGES, clock=st.sampled_from([True, True, False, None]), is_blind=SELDOM)
    def the_world_outside_changes(self, outage, clock, is_blind):
        self.world.outage, self.world.is_blind = outage, is_blind
        self.world.systemd.is_synchronised = clock
        self.world.settle()

    @rule(what=st.sampled_from(["journal", "marks", "both"]))
    def what_the_agent_remembers_is_lost(self, what):
        self.watch.reboots.clear()
        if what != "marks":
            self.world.journal = CheckedJournal(self.world)
        if what != "journal":
            self.world.marks.links.clear()
            self.world.marks.times.clear()
            self.watch.decided.clear()
            self.watch.brought.add(self.world.host.profile)

    # The agent, and Hydra's builds

    @rule(policy=POLICIES, nature=NATURES, kernel=KERNELS)
    def the_agent_runs(self, policy, nature, kernel):
        self.publish(nature, kernel)
        self.act(upgrade, policy)

    @rule(policy=POLICIES)
    def a_person_lets_a_system_without_the_agent_pass(self, policy):
        self.publish(Nature.AGENT_GONE)
        ignored = frozenset({"agent-removed", "foreign-system"})
        self.act(upgrade, policy, ignored_gates=ignored, ignored_because="so", by="anna")

    @rule(policy=POLICIES)
    def the_agent_runs_again(self, policy):
        self.act(upgrade, policy)

    @rule(data=st.data(), policy=POLICIES)
    def a_revert_brings_an_earlier_system_back(self, data, policy):
        earlier = [build.outputs["out"] for build in self.world.hydra.builds.values()]
        self.publish_path(data.draw(st.sampled_from(earlier)))
        self.act(upgrade, policy)

    @rule(policy=POLICIES, nature=NATURES, is_red=st.booleans())
    def the_newest_build_is_red_or_another_s(self, policy, nature, is_red):
        self.publish(nature)
        if is_red:
            self.watch.green.discard(self.paths[-1])
            self.world.change(self.builds, status=1)
        else:
            other = self.new_system(Nature.GOOD, "k1")
            flake = flake_of(self.builds + 1000)
            self.world.nix.evaluates[flake, "h"] = self.world.nixos_rebuild.builds[flake, "h"] = (
                other
            )
        self.act(upgrade, replace(policy, strategy=Strategy.FLAKE))

    @rule(
        policy=POLICIES,
        nature=NATURES,
        code=st.sampled_from([1, 2, 4, 100, -9]),
        tail=st.sampled_from(["", "Could not acquire lock", "activating the configuration"]),
        reach=st.sampled_from(["all", "profile", "nothing"]),
    )
    def the_agent_runs_while_activations_go_wrong(self, policy, nature, code, tail, reach):
        # Who was refused the lock has not reached the services; a candidate that runs is a winner's.
        assume(not (tail == "Could not acquire lock" and reach == "all"))
        self.publish(nature)
        self.world.nixos_rebuild.ends = ActivationExit(code, tail)
        self.world.nixos_rebuild.reach = reach
        self.act(upgrade, policy)

    @rule(
        policy=POLICIES,
        nature=st.sampled_from([Nature.GOOD, Nature.GOOD, Nature.SERVICE_BREAKS]),
        step=st.sampled_from(["journal activating", "start confirm", "probe service"]),
        what=st.sampled_from(["hydra", "hydra", "all", "clock", "checks"]),
        is_fired=st.booleans(),
    )
    def the_world_outside_changes_while_the_agent_runs(self, policy, nature, step, what, is_fired):
        def change():
            if what == "clock":
                self.world.systemd.is_synchronised = False
            elif what == "checks":
                self.world.is_blind = True
            else:
                self.world.outage = what
            self.world.settle()

        self.publish(nature)
        self.world.steps.at(step, change)
        self.act(upgrade, policy)
        if is_fired:
            self.fire()

    @rule(policy=POLICIES, nature=NATURES, step=st.sampled_from(AWAITED))
    def the_agent_is_terminated(self, policy, nature, step):
        self.publish(nature)
        self.world.steps.at(step, asyncio.CancelledError())
        self.act(upgrade, policy)

    @rule(data=st.data(), policy=POLICIES, nature=NATURES, is_power_cut=st.booleans())
    def the_agent_is_killed(self, data, policy, nature, is_power_cut):
        self.publish(nature)
        self.world.steps.at(data.draw(steps_with(nature)), PowerCut())
        self.act(upgrade, policy)
        if is_power_cut:
            self.reboot()

    @rule(policy=POLICIES, nature=NATURES, goes_on=st.booleans(), is_fired=st.booleans())
    def the_agent_is_killed_in_or_after_an_activation(self, policy, nature, goes_on, is_fired):
        self.publish(nature)
        self.world.nixos_rebuild.goes_on = goes_on
        self.world.nixos_rebuild.dies_after = True
        self.act(upgrade, policy)
        if is_fired:
            self.fire()

    @rule(nature=NATURES, loader=st.sampled_from(["obeys", "falls back", "does not obey"]))
    def an_upgrade_takes_a_reboot(self, nature, loader):
        policy = replace(BRISK, reboot_mode=RebootMode.WHEN_NEEDED)
        self.publish(nature, f"k{len(self.paths)}")
        self.act(upgrade, policy)
        self.reboot(falls_back=loader == "falls back")
        self.act(verdicts.confirm, policy)
        self.reboot()
        left = self.world.marks.read().rebooting_back
        if loader == "does not obey" and left is not None:
            self.world.host.running = self.world.host.booted = left
            self.world.settle()
        self.act(upgrade, policy)

    @precondition(lambda self: self.world.marks.links.get(Mark.PENDING))
    @rule(step=st.sampled_from(FORTH + BACK))
    def a_confirmation_is_killed(self, step):
        self.world.steps.at(step, PowerCut())
        self.act(verdicts.confirm)

    @precondition(lambda self: self.world.systemd.is_running)
    @rule()
    def an_activation_comes_to_its_end(self):
        self.finish_activation()

    @precondition(lambda self: self.world.systemd.timer is not None)
    @rule(step=st.sampled_from([*[""] * 20, *FORTH, *BACK]))
    def the_dead_man_s_timer_fires(self, step):
        self.world.steps.at(step, PowerCut())
        self.fire()

    @rule(policy=POLICIES, nature=NATURES, is_confirming=st.booleans())
    def a_rival_decides_in_the_very_instant(self, policy, nature, is_confirming):
        marks = self.world.marks

        def decide():
            path = marks.links.get(Mark.PENDING)
            if path is not None:
                is_whole = self.world.host.running == self.world.host.profile == path
                to = Mark.CONFIRMED if is_confirming and is_whole else Mark.ROLLING_BACK
                marks.links[to] = marks.links.pop(Mark.PENDING)
                marks.times[to] = marks.times.pop(Mark.PENDING)
                self.watch.decided[path] = to

        self.publish(nature)
        marks.before_move = decide
        self.act(upgrade, policy)

    @rule()
    def left_alone_the_agent_leaves_nothing_under_way(self):
        self.finish_activation()
        self.all_goes_well()
        for _ in range(3):
            self.act(upgrade)
            self.world.clock.move(3600)
        marks = self.world.marks.read()
        assert (marks.rolling_back, marks.rolled_back) == (None, None)
        if marks.pending is not None:  # it is ill, and that is not provable, or held on purpose
            denials = self.world.journal.denials(self.world.clock.now())
            is_denied = marks.pending in {denial.toplevel for denial in denials}  # decision 8
            is_good = self.watch.natures[marks.pending] is Nature.GOOD
            assert is_denied or not is_good, self.world.summary()
            return
        self.fire()  # a timer of a decision that was cut short
        assert self.world.systemd.timer is None
        assert self.world.journal.under_way() is None
        assert self.world.host.profile in {marks.confirmed, marks.staged, *self.watch.brought}

    @rule()
    def in_the_end_a_newer_good_build_goes_through(self):
        self.left_alone_the_agent_leaves_nothing_under_way()
        if self.world.marks.read().pending is not None:
            self.a_person_rolls_back()
        if self.world.marks.read().pending is not None or self.world.hydra.fault is not None:
            return  # nothing to go back to, or someone's system that reaches nobody
        self.publish(Nature.GOOD)
        newest = self.paths[-1]
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
    def the_links_only_point_to_what_someone_chose(self):
        host = self.world.host
        assert {host.running, host.booted, host.profile} <= self.watch.chosen

    @invariant()
    def a_confirmed_system_can_be_gone_back_to(self):
        confirmed = self.world.marks.read().confirmed
        assert confirmed is None or confirmed in self.watch.chosen

    # How the world works

    def act(self, use_case, policy=BRISK, **asked):
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
        if not world.systemd.is_running:
            rebuild.unfinished = None
        bugs = [
            fields["exception"]
            for told in (world.told, world.told_by_new)
            for event, fields in told.said
            if event is events.BUG_FOUND
        ]
        assert not bugs, bugs[0]

    def fire(self):
        """Let the dead-man's timer end, if it is set."""
        timer, self.world.systemd.timer = self.world.systemd.timer, None
        if timer is not None:
            self.world.clock.move(timer.delay.total_seconds())
            self.act(partial(dead_man, toplevel=timer.toplevel))

    def finish_activation(self):
        rebuild = self.world.nixos_rebuild
        if self.world.systemd.is_running and rebuild.unfinished is not None:
            self.world.host.switch_to(*rebuild.unfinished)
            self.watch.chosen.add(self.world.host.running)
        self.world.systemd.is_running, rebuild.unfinished = False, None
        self.world.settle()

    def reboot(self, *, falls_back=False):
        """Start the profile's system, or what a boot loader falls back to."""
        host, marks = self.world.host, self.world.marks.read()
        self.world.systemd.is_running, self.world.nixos_rebuild.unfinished = False, None
        self.world.systemd.timer = None
        host.boot()
        if falls_back and marks.confirmed is not None:
            host.running = host.booted = marks.confirmed
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

    def publish(self, nature, kernel="k1"):
        """Let Hydra build a system of its own, which it can only while nothing is out of order."""
        self.all_goes_well()
        self.publish_path(self.new_system(nature, kernel))

    def all_goes_well(self):
        self.the_world_outside_changes("none", clock=True, is_blind=False)

    def publish_path(self, path):
        self.builds += 1
        contents = self.world.host.contents[path]
        self.world.publish(self.builds, path)
        self.world.host.contents[path] = contents
        self.watch.green.add(path)


def steps_with(nature):
    """Return the steps at which an upgrade to such a system can be killed."""
    return st.sampled_from(FORTH if nature in SOUND else FORTH + BACK)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30, derandomize=True)


class ManyLives(Life):
    """The same, as often as there is time for, and other ones each time."""


TestManyLives = pytest.mark.long(ManyLives.TestCase)
TestManyLives.settings = settings(max_examples=1000, stateful_step_count=30)
