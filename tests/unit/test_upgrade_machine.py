from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from agent.application.ports import ActivationExit
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, RebootMode, Strategy
from fakes.samples import OLD, a_candidate
from fakes.world import CLOSURE, WATCHFUL, PowerCut, World, flake_of, system, system_with

POLICIES = st.builds(
    lambda action, strategy, mode, verify: replace(
        WATCHFUL, action=action, strategy=strategy, reboot_mode=mode, verify=verify
    ),
    st.sampled_from(Action),
    st.sampled_from(Strategy),
    st.sampled_from(RebootMode),
    st.booleans(),
)
OFTEN = st.sampled_from([True, True, True, False])
KERNELS = st.sampled_from(["k1", "k2"])
REACHED = (Outcome.ACTIVATED, Outcome.STAGED, Outcome.REBOOTING)
AWAITED = [
    "newest_good_build", "build", "locked_flake", "plan_fetch", "probe canary",
    "evaluate_toplevel", "substitute", "nixos-rebuild build", *Action, "reboot", "outlook",
]  # fmt: skip
"""The steps in which a signal can end a run."""
STEPS = [
    *AWAITED, "lock", "journal prepare", "journal contact", "journal activating",
    "journal confirmed", "journal staged", "journal rebooting", "journal failed", "idle-note",
]  # fmt: skip


class Life(RuleBasedStateMachine):
    """A host's life: whatever befalls it, the agent keeps its promises.

    `trusted` are the systems that Hydra has built green for the host's job at some time, and
    those that a person brought.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.nixos_rebuild.activate = self.move_links
        self.world.nixos_rebuild.moves_before_failing = True
        self.trusted = {OLD}
        self.kernels = {}
        self.systems = 0
        self.builds = 0
        self.highest_taken = 0
        self.reach = "all"

    # The host, and the people around it

    @initialize(
        is_container=st.sampled_from([False, False, True]),
        booted=st.sampled_from([OLD, OLD, None]),
        kernel=KERNELS,
    )
    def a_host_is_installed_and_has_a_job(self, is_container, booted, kernel):
        self.world.host.is_container = is_container
        self.world.host.booted = booted
        self.publish(self.new_system(kernel), kernel, is_cached=True)

    @rule(kernel=KERNELS)
    def a_person_switches_to_a_system_of_their_own(self, kernel):
        path = self.new_system(kernel)
        self.trusted.add(path)
        self.world.host.activate(Action.SWITCH, path)

    @rule(data=st.data(), action=st.sampled_from([Action.SWITCH, Action.BOOT, Action.TEST]))
    def a_person_goes_back_to_an_earlier_system(self, data, action):
        self.world.host.activate(action, data.draw(st.sampled_from(sorted(self.trusted))))

    @rule()
    def the_host_is_power_cycled(self):
        self.world.host.boot()

    @rule(is_well=OFTEN)
    def the_canary_dies_or_recovers(self, is_well):
        self.world.canary_recovers()
        if not is_well:
            self.world.canary_dies()

    # Hydra and its cache

    @rule(kernel=KERNELS, status=st.sampled_from([0, 0, 0, 1, None]), is_cached=OFTEN)
    def hydra_has_a_new_build(self, kernel, status, is_cached):
        self.publish(self.new_system(kernel), kernel, is_cached=is_cached)
        self.world.change(self.builds, status=status, is_finished=status is not None)

    @rule(data=st.data())
    def a_revert_brings_an_earlier_system_back(self, data):
        earlier = self.world.hydra.builds[self.some_build(data)].outputs["out"]
        self.publish(earlier, self.kernels[earlier], is_cached=True)

    @rule(data=st.data())
    def a_build_is_restarted(self, data):
        self.world.change(self.some_build(data), is_finished=False)

    @rule()
    def the_newest_good_build_is_restarted(self):
        good = [id_ for id_, build in self.world.hydra.builds.items() if build.is_good]
        if good:
            self.world.change(max(good), is_finished=False)

    @rule(data=st.data(), status=st.sampled_from([0, 1]))
    def a_build_finishes(self, data, status):
        self.world.change(self.some_build(data), is_finished=True, status=status)

    @rule(data=st.data(), is_seen_by_evaluation=st.booleans())
    def a_flake_turns_out_to_yield_another_path(self, data, is_seen_by_evaluation):
        flake = flake_of(self.some_build(data) + 1000)
        other = self.new_system("k1")
        self.world.nixos_rebuild.builds[flake, "h"] = other
        if is_seen_by_evaluation:
            self.world.nix.evaluates[flake, "h"] = other

    @rule(data=st.data(), is_there=OFTEN)
    def a_closure_arrives_in_the_cache_or_leaves_it(self, data, is_there):
        path = self.world.hydra.builds[self.some_build(data)].outputs["out"]
        self.world.nix.cached.pop(path, None)
        if is_there:
            self.world.nix.cached[path] = CLOSURE

    @rule(data=st.data(), is_signed=OFTEN)
    def a_closure_is_signed_or_not(self, data, is_signed):
        path = self.world.hydra.builds[self.some_build(data)].outputs["out"]
        self.world.nix.unsigned -= {path}
        if not is_signed:
            self.world.nix.unsigned |= {path}

    # The agent

    @rule(policy=POLICIES, fate=st.sampled_from(["boots", "falls back", "hangs"]))
    def the_agent_runs(self, policy, fate):
        self.let_run(policy)
        self.live_through_reboot(fate)

    @rule(
        policy=POLICIES,
        code=st.sampled_from([0, 1, 2, 4, 100, -9]),
        reach=st.sampled_from(["all", "profile", "nothing"]),
    )
    def the_agent_runs_while_activations_go_wrong(self, policy, code, reach):
        self.activations_end_with(code, reach)
        self.let_run(policy)
        self.activations_end_with(0, "all")
        self.live_through_reboot("boots")

    @rule(policy=POLICIES)
    def the_agent_rehearses(self, policy):
        before, rows = self.links(), list(self.world.journal.written)
        self.let_run(policy, dry_run=True)
        assert self.links() == before
        assert self.world.journal.written == rows

    @rule(policy=POLICIES, step=st.sampled_from(STEPS))
    def the_canary_dies_while_the_agent_runs(self, policy, step):
        self.world.steps.at(step, self.world.canary_dies)
        self.let_run(policy)
        self.live_through_reboot("boots")

    @rule(policy=POLICIES, step=st.sampled_from(AWAITED))
    def the_agent_is_terminated(self, policy, step):
        self.world.steps.at(step, asyncio.CancelledError())
        self.let_run(policy)
        self.live_through_reboot("boots")

    @rule(policy=POLICIES, step=st.sampled_from(STEPS))
    def the_power_is_cut_while_the_agent_runs(self, policy, step):
        self.world.steps.at(step, PowerCut())
        if self.let_run(policy, is_power_cut=True):
            self.world.host.boot()
        else:
            self.live_through_reboot("boots")

    @rule(policy=POLICIES, kernel=KERNELS)
    def once_all_is_well_the_agent_comes_to_rest_on_the_newest_build(self, policy, kernel):
        self.world.canary_recovers()
        newest = self.new_system(kernel)
        self.publish(newest, kernel, is_cached=True)
        self.let_run(policy)
        assert self.world.summary()["decision"] == "upgrade"
        assert self.world.summary()["exit_code"] == 0
        self.live_through_reboot("boots")
        for _ in range(2):
            self.let_run(policy)
            assert self.world.summary()["outcome"] in {"nothing-to-do", "awaits-reboot"}
        if policy.action is not Action.DRY_ACTIVATE:
            assert newest in self.links()

    # What always holds

    @invariant()
    def the_links_only_ever_point_to_what_hydra_built_green_or_a_person_brought(self):
        assert {*self.links()} - {None} <= self.trusted

    def let_run(self, policy, *, dry_run=False, is_power_cut=False):
        """Do one run, and hold it to its promises; return whether it ended in a power cut."""
        world = self.world
        green = {build.outputs["out"] for build in world.hydra.builds.values() if build.is_good}
        self.trusted |= green
        before, asked = self.links(), world.host.reboots
        is_rebooted = before[2] and world.journal.history_of(
            a_candidate(before[2])
        ).reboot_asked_in not in (None, world.host.boot_id)
        done = len(world.nixos_rebuild.activated)
        world.idle_note.build_id = None
        has_ended = True
        try:
            world.run(policy, dry_run=dry_run)
        except asyncio.CancelledError:
            assert world.summary()["error.kind"] == "terminated"
        except PowerCut:
            assert is_power_cut
            has_ended = False
        world.steps.calm()

        activated = world.nixos_rebuild.activated[done:]
        if not policy.verify:  # a person said that what the flake yields is good enough
            self.trusted |= {path for _, path in activated}
        assert {path for _, path in activated} <= (green if policy.verify else self.trusted)
        self.check_order(world.steps)
        self.check_reboot(policy, world.host.reboots - asked)
        if "reboot" in world.steps and not activated:
            assert not is_rebooted
        self.check_links(policy, before, activated)
        self.check_row(before, activated, has_ended=has_ended)
        if has_ended:
            self.check_summary(policy)
        return not has_ended

    def check_order(self, steps):
        """Nothing touches the host but after it was recorded, and after a look at the canary."""
        effects = [step for step in steps if step in {*Action, "reboot"}]
        if not effects:
            return
        first = steps.index(effects[0])
        asked = steps.among("substitute", "nixos-rebuild build", "probe canary")
        assert asked[-1] == "probe canary"
        assert self.world.prober.was_well
        if effects[0] != "reboot":
            assert "journal activating" in steps[:first]
        if "reboot" in effects:
            assert "journal rebooting" in steps[: steps.index("reboot")]

    def check_reboot(self, policy, asked):
        assert asked <= 1
        if asked:
            assert policy.reboot_mode is not RebootMode.NEVER
            assert policy.action.moves_profile
            assert not self.world.host.is_container
            assert self.world.last_row().outcome == "rebooting"
            assert self.world.last_row().toplevel == self.world.host.profile

    def check_links(self, policy, before, activated):
        if not activated:
            assert self.links() == before
        if not policy.action.moves_profile:
            assert self.world.host.profile == before[2]
        assert self.world.host.booted == before[1]

    def check_row(self, before, activated, *, has_ended):
        """The newest row is the truth about what was activated."""
        if not activated:
            return
        ((action, path),) = activated
        row = self.world.last_row()
        assert row.run_id == f"run-{self.world.runs}"
        assert (row.action, row.toplevel) == (action, path)
        assert row.previous == (before[0] or "unknown")
        running, _, profile = self.links()
        match row.outcome:
            case Outcome.ACTIVATED:
                assert running == path
                assert profile == (path if action.moves_profile else before[2])
            case Outcome.STAGED | Outcome.REBOOTING:
                assert profile == path
            case Outcome.DRY_ACTIVATED:
                assert self.links() == before
            case Outcome.FAILED:
                assert self.world.summary()["exit_code"] != 0
            case outcome:
                assert outcome == Outcome.ACTIVATING
                assert not has_ended
        if row.outcome in REACHED:
            assert row.build_id >= self.highest_taken
            self.highest_taken = row.build_id

    def check_summary(self, policy):
        said = self.world.summary()
        assert (said["running"], said["booted"], said["profile"]) == self.links()
        if said["outcome"] == "held":
            assert (said["decision"], said["exit_code"]) == ("hold", 75)
            assert said["reasons"]
        good = {id_: build for id_, build in self.world.hydra.builds.items() if build.is_good}
        if said["outcome"] == "nothing-to-do":
            newest = good[max(good)].outputs["out"]
            history = self.world.journal.history_of(a_candidate(newest, max(good)))
            is_rehearsed = policy.action is Action.DRY_ACTIVATE and history.is_dry_activated
            assert not history.has_failed
            is_in_its_place = not policy.verify and self.world.host.running == history.activated_as
            assert self.world.host.running == newest or is_rehearsed or is_in_its_place
            assert self.world.idle_note.build_id == max(good)
        else:
            assert self.world.idle_note.build_id is None

    # How the world works

    def links(self):
        host = self.world.host
        return host.running, host.booted, host.profile

    def activations_end_with(self, code, reach):
        self.world.nixos_rebuild.ends = ActivationExit(code, "")
        self.reach = reach

    def move_links(self, action, path):
        """Move the links as far as activations reach at present."""
        if self.reach == "all" and self.world.nixos_rebuild.ends.returncode != 100:
            self.world.host.activate(action, path)
        elif self.reach != "nothing" and action.moves_profile:
            self.world.host.activate(Action.BOOT, path)

    def live_through_reboot(self, fate):
        """Let a reboot that was asked for bring up the profile, an older entry, or nothing."""
        if "reboot" in self.world.steps and self.world.last_row().outcome == "rebooting":
            if fate == "boots":
                self.world.host.boot()
            elif fate == "falls back":
                self.world.host.running = self.world.host.booted = OLD

    def new_system(self, kernel):
        self.systems += 1
        path = system(self.systems)
        self.world.host.contents[path] = system_with(kernel)
        self.kernels[path] = kernel
        return path

    def publish(self, path, kernel, *, is_cached):
        self.builds += 1
        self.world.publish(self.builds, path, kernel=kernel, is_cached=is_cached)

    def some_build(self, data):
        return data.draw(st.integers(1, self.builds))


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
