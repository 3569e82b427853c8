"""Switch inhibitors: what only a reboot can start is staged for one, and never called a fault."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.dead_man import dead_man
from agent.application.confirm.roll_back import roll_back
from agent.application.manual.pauses import reboot_by_hand
from agent.application.manual.verdicts import confirm
from agent.application.ports import ActivationExit
from agent.application.run import RunSettings
from agent.application.status import take_status
from agent.domain.errors import ExitCode, HostError, JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault, Standing
from agent.domain.policy import Action, OnFailure, RebootMode
from agent.domain.request import VALID_FOR
from agent.domain.systems import changed_inhibitors, inhibitor_reason
from fakes.host import refused_by
from fakes.pending import NEW, carry_out_with, pending_world
from fakes.samples import OLD
from fakes.world import STORE, WATCHFUL, World, system

DBUS = {"dbus-implementation": "dbus"}
BROKER = {"dbus-implementation": "broker", "new": "x"}
DIFFER = "switch inhibitors differ: dbus-implementation (dbus → broker)"
BETWEEN = f"{DIFFER}, between the running system and the profile"
UNSAID = "switch inhibitors differ: as switch-to-configuration says"
NEVER, WHEN_NEEDED, ALWAYS = (replace(WATCHFUL, reboot_mode=mode) for mode in RebootMode)
REASONS = (("check-failed", "service: no reply"),)


@pytest.fixture
def world():
    """A host on OLD, and a build of NEW with another implementation of D-Bus."""
    world = World()
    world.publish(1, NEW)
    world.host.contents[OLD].inhibitors = DBUS
    world.host.contents[NEW].inhibitors = BROKER
    return world


def actions(world):
    return [action for action, _ in world.nixos_rebuild.activated]


def blame(world):
    """What is held against NEW."""
    return world.journal.standing_of(NEW, world.clock.now())


# Which differences count


@pytest.mark.parametrize(
    ("running", "wanted", "changed"),
    [
        (DBUS, BROKER, ("dbus-implementation (dbus → broker)",)),
        (DBUS, DBUS, ()),
        (DBUS, {"other": "broker"}, ()),
        ({}, BROKER, ()),
        (DBUS, {}, ()),
        (None, BROKER, ()),
        (DBUS, None, ()),
        ({"b": '"1"', "a": "1"}, {"a": "2", "b": '"2"'}, ("a (1 → 2)", "b (1 → 2)")),
    ],
)
def test_a_name_counts_where_both_systems_have_it_with_different_values(running, wanted, changed):
    assert changed_inhibitors(running, wanted) == changed


def test_a_reason_quotes_no_more_than_a_person_reads():
    names = [f"name-{number}" for number in range(9)]
    changed = changed_inhibitors(dict.fromkeys(names, "x" * 99), dict.fromkeys(names, "y"))
    reason = inhibitor_reason(changed)
    assert "name-4" in reason
    assert "name-5" not in reason
    assert reason.endswith(" and 4 more")
    assert f"({'x' * 60}… → y)" in reason
    assert inhibitor_reason(()) == ""


# An upgrade


def test_where_nothing_may_reboot_the_upgrade_is_staged_and_waits_for_a_person(world):
    report = world.run(NEVER)
    assert (report.outcome, report.exit_code) == (Outcome.STAGED, ExitCode.DONE)
    assert report.reasons == (("reboot", DIFFER),)
    assert world.told.fields_of(events.REBOOT_NEEDED) == {"reason": DIFFER}
    assert world.links() == (OLD, OLD, NEW)
    # The person's reboot is to bring it.
    assert world.host.loader.default() == NEW
    assert (blame(world), world.host.reboots) == (Standing(), 0)

    report = world.run(NEVER)
    assert (report.outcome, report.exit_code) == (Outcome.AWAITS_REBOOT, ExitCode.DONE)
    assert report.reasons == (("reboot", BETWEEN),)
    status = asyncio.run(take_status(world.ports, NEVER, RunSettings("", STORE)))
    assert (status.verdict, status.fields()["reason"]) == ("await-reboot", BETWEEN)
    assert actions(world) == [Action.BOOT]

    world.host.boot()
    assert world.run(NEVER).outcome is Outcome.NOTHING_TO_DO
    assert world.marks.read() == Marks(confirmed=NEW)


@pytest.mark.parametrize("policy", [WHEN_NEEDED, ALWAYS])
def test_where_the_agent_may_reboot_it_does(world, policy):
    report = world.run(policy)
    assert (report.outcome, report.reasons) == (Outcome.REBOOTING, (("reboot", DIFFER),))
    assert (actions(world), world.host.reboots) == ([Action.BOOT], 1)
    world.host.boot()
    assert world.run(policy).outcome is Outcome.NOTHING_TO_DO
    assert (world.marks.read(), blame(world)) == (Marks(confirmed=NEW), Standing())


def test_a_reboot_that_waits_is_asked_for_with_its_reason(world):
    world.run(NEVER)
    report = world.run(WHEN_NEEDED)
    assert (report.decision, report.reasons) == ("reboot", (("reboot", BETWEEN),))
    assert (actions(world), world.host.reboots) == ([Action.BOOT], 1)


def test_agent_reboot_completes_what_was_staged(world):
    world.run(NEVER)
    report = world.carry_out(reboot_by_hand, NEVER)
    assert (report.outcome, report.reasons) == (Outcome.REBOOTING, (("reboot", BETWEEN),))


def test_another_kernel_is_named_beside_them(world):
    world.publish(1, NEW, kernel="k2")
    world.host.contents[NEW].inhibitors = BROKER
    assert world.run(NEVER).reasons == (("reboot", f"kernel differ; {DIFFER}"),)
    ((_, reason),) = world.run(NEVER).reasons
    assert reason == f"kernel differ between the booted system and the profile; {DIFFER}"


@pytest.mark.parametrize("policy", [NEVER, WHEN_NEEDED, ALWAYS])
def test_a_container_is_staged_and_restarted_by_a_person(world, policy):
    world.host.is_container = True
    assert world.run(policy).outcome is Outcome.STAGED
    assert world.run(policy).outcome is Outcome.AWAITS_REBOOT
    assert (actions(world), world.host.reboots) == ([Action.BOOT], 0)


def test_boot_is_done_as_ever(world):
    assert world.run(replace(NEVER, action=Action.BOOT)).outcome is Outcome.STAGED
    assert actions(world) == [Action.BOOT]


@pytest.mark.parametrize("policy", [NEVER, WHEN_NEEDED, ALWAYS])
def test_a_test_is_held_before_anything_is_begun(world, policy):
    report = world.run(replace(policy, action=Action.TEST))
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    ((name, reason),) = report.reasons
    assert name == "switch-inhibited"
    assert reason.startswith(f"{DIFFER}: only a reboot can start {NEW}")
    assert world.is_untouched()
    assert (world.marks.read(), blame(world)) == (Marks(confirmed=OLD), Standing())


def test_a_dry_activate_shows_what_would_be_done(world):
    dry = replace(NEVER, action=Action.DRY_ACTIVATE)
    assert world.run(dry).outcome is Outcome.DRY_ACTIVATED


@pytest.mark.parametrize("unknown", [OLD, NEW])
def test_unknown_inhibitors_are_no_difference(world, unknown):
    world.host.contents[unknown].inhibitors = None
    assert world.run(NEVER).outcome is Outcome.CONFIRMED
    assert actions(world) == [Action.SWITCH]


SPECIAL, NEW_SPECIAL = system(8), system(9)


def test_those_of_the_specialisation_that_is_to_run_count(world):
    for toplevel, special, inhibitors in ((OLD, SPECIAL, DBUS), (NEW, NEW_SPECIAL, BROKER)):
        world.host.specialise(toplevel, "debug", special, "k1")
        world.host.contents[toplevel].inhibitors = DBUS
        world.host.contents[special].inhibitors = inhibitors
    world.host.running = world.host.booted = SPECIAL
    world.host.loader.entries = {OLD, SPECIAL, NEW, NEW_SPECIAL}
    assert world.run(NEVER).reasons == (("reboot", DIFFER),)
    assert world.run(NEVER).reasons == (("reboot", BETWEEN),)
    assert actions(world) == [Action.BOOT]


# What NixOS refuses all the same


@pytest.mark.parametrize("policy", [NEVER, WHEN_NEEDED, ALWAYS])
def test_a_switch_that_nixos_refuses_for_them_becomes_boot(world, policy):
    world.host.illegible = {NEW}
    report = world.run(policy)
    staged = policy is NEVER
    assert report.outcome is (Outcome.STAGED if staged else Outcome.REBOOTING)
    assert report.error is None
    wanted = [Action.BOOT] if policy is ALWAYS else [Action.SWITCH, Action.BOOT]
    assert actions(world) == wanted
    assert (blame(world), world.last_row().fault) == (Standing(), None)
    if staged:
        assert report.reasons == (("reboot", UNSAID),)
        assert world.run(policy).outcome is Outcome.AWAITS_REBOOT
        assert actions(world) == wanted


def refusing(world, meanwhile):
    """Let NixOS refuse to switch to NEW, and something happen while it does."""
    refuses = world.nixos_rebuild.refuses
    world.host.illegible = {NEW}

    def refuse(path, action):
        if action is Action.SWITCH:
            meanwhile()
        return refuses(path, action)

    world.nixos_rebuild.refuses = refuse


def test_all_is_asked_again_before_it_is_staged_instead(world):
    refusing(world, world.canary_dies)
    report = world.run(NEVER)
    assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "health")
    assert world.summary()["action"] == "boot"
    assert actions(world) == [Action.SWITCH]
    assert (world.links(), world.host.loader.default()) == ((OLD, OLD, OLD), OLD)
    assert (world.marks.read(), blame(world)) == (Marks(confirmed=OLD), Standing())


def test_a_refusal_that_took_its_time_is_asked_for_anew(world):
    refusing(world, partial(world.clock.move, VALID_FOR.total_seconds() + 60))
    assert world.run(NEVER).outcome is Outcome.STAGED


def test_a_refused_switch_that_cannot_be_undone_is_not_staged(world):
    world.nixos_rebuild.refuses = world.host.refuses_after_profile
    world.host.illegible = {NEW}
    world.profile.fault = HostError(Kind.ROLL_BACK_FAILED, "cannot change the profile")
    assert world.run(NEVER).error.kind is Kind.SWITCH_INHIBITED
    assert actions(world) == [Action.SWITCH]
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)


def test_a_refused_switch_that_cannot_be_written_down_is_not_staged(world):
    full = JournalError(Kind.STATE_FULL, "no space left")
    refusing(world, lambda: setattr(world.journal, "fault", full))
    assert world.run(NEVER).error.kind is Kind.STATE_FULL
    assert actions(world) == [Action.SWITCH]
    assert world.marks.read() == Marks(confirmed=OLD)


@pytest.mark.parametrize("action", [Action.TEST, Action.DRY_ACTIVATE])
def test_what_nixos_refuses_to_try_is_held(world, action):
    world.nixos_rebuild.refuses = lambda *_: refused_by("switchInhibitors")
    world.host.illegible = {NEW}
    report = world.run(replace(NEVER, action=action))
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert report.reasons[0][0] == "switch-inhibited"
    assert "Pre-switch check 'switchInhibitors' failed" in report.reasons[0][1]
    assert (world.marks.read(), blame(world)) == (Marks(confirmed=OLD), Standing())
    assert world.last_row().outcome == "held"
    assert world.run(replace(NEVER, action=action)).outcome is Outcome.HELD
    assert world.told.names().count("recovery.step") == 0


def test_even_a_refused_boot_is_nobodys_fault(world):
    world.nixos_rebuild.refuses = lambda *_: refused_by("switchInhibitors")
    assert world.run(NEVER).outcome is Outcome.HELD
    assert (world.marks.read(), blame(world)) == (Marks(confirmed=OLD), Standing())
    assert world.systemd.timer is None


def test_what_was_booted_and_left_again_is_staged_once(world):
    world.host.booted = NEW
    assert world.run(NEVER).outcome is Outcome.STAGED
    assert world.run(NEVER).outcome is Outcome.AWAITS_REBOOT
    assert actions(world) == [Action.BOOT]


# Other checks


@pytest.mark.parametrize("code", [1, 2, 4, 11, 100])
def test_a_check_that_refuses_names_itself_and_the_profile_is_given_back(world, code):
    world.host.contents[NEW].inhibitors = None
    world.host.failed_checks = {NEW: "blog is up"}
    world.nixos_rebuild.refuses = lambda path, action: replace(
        world.host.refuses_after_profile(path, action), returncode=code
    )
    report = world.run(NEVER)
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.PRE_SWITCH_CHECK_FAILED)
    assert "Pre-switch check 'blog is up' failed" in report.error.message
    assert world.links() == (OLD, OLD, OLD)
    assert world.told.fields_of(events.PROFILE_GIVEN_BACK) == {"toplevel": NEW, "profile": OLD}
    assert world.systemd.activated == []
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
    assert (blame(world).suspicions, blame(world).denial) == (1, None)
    assert world.run(NEVER).reasons[0][0] == "suspect"


@pytest.mark.parametrize(
    "tail",
    [
        "stopping the following units: x\nPre-switch check 'a' failed",
        "activating the configuration...\nPre-switch check 'a' failed",
        "unit[1]: Pre-switch check 'a' failed",
        "Pre-switch check '' failed",
    ],
)
def test_words_of_others_are_no_refusal(world, tail):
    world.host.contents[NEW].inhibitors = None
    world.nixos_rebuild.ends = ActivationExit(1, tail)
    assert world.run(NEVER).error.kind is Kind.ACTIVATION_FAILED


def test_a_refusal_that_has_moved_the_loaders_default_is_undone_wholly(world):
    world.host.contents[NEW].inhibitors = None
    world.nixos_rebuild.ends = refused_by("late")
    world.nixos_rebuild.moves_before_failing = True
    world.nixos_rebuild.activate = lambda _, path: world.host.activate(Action.BOOT, path)
    assert world.run(NEVER).outcome is Outcome.ROLLED_BACK
    assert (world.links(), world.host.loader.default()) == ((OLD, OLD, OLD), OLD)


def test_a_profile_that_cannot_be_given_back_is_left_to_the_next_run(world):
    world.host.contents[NEW].inhibitors = None
    world.host.failed_checks = {NEW: "a"}
    world.profile.fault = HostError(Kind.ROLL_BACK_FAILED, "cannot change the profile")
    assert world.run(NEVER).outcome is Outcome.FAILED
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    world.profile.fault = None
    world.run(NEVER)
    assert (world.host.profile, world.marks.read()) == (OLD, Marks(confirmed=OLD))


# Going back


@pytest.fixture
def broken():
    """A host that runs NEW, and NixOS would not switch back to OLD."""
    world = pending_world()
    world.host.contents[OLD].inhibitors = DBUS
    world.host.contents[NEW].inhibitors = BROKER
    return world


def go_back(world, policy=NEVER, action=Action.SWITCH, **asked):
    async def body(run):
        return await roll_back(run, NEW, action, Fault.BROKEN, REASONS)

    return carry_out_with(world, body, policy, **asked)


@pytest.mark.parametrize("policy", [NEVER, WHEN_NEEDED, ALWAYS])
@pytest.mark.parametrize("is_booted", [False, True])
@pytest.mark.parametrize("action", [Action.SWITCH, Action.TEST])
def test_it_is_gone_back_by_one_reboot_whatever_the_mode(broken, policy, is_booted, action):
    if is_booted:
        broken.host.booted = NEW
    report = go_back(broken, policy, action)
    assert (report.outcome, report.reasons) == (Outcome.REBOOTING, REASONS)
    assert report.durations.keys() == {"roll-back", "total"}
    assert broken.systemd.activated == [(Action.BOOT, OLD)]
    assert (broken.host.reboots, broken.host.profile) == (1, OLD)
    assert broken.marks.read() == Marks(confirmed=OLD, rebooting_back=NEW)
    broken.host.boot()
    broken.carry_out(confirm, policy)
    assert broken.links() == (OLD, OLD, OLD)
    assert broken.marks.read() == Marks(confirmed=OLD)
    assert (broken.host.reboots, blame(broken).roll_backs) == (1, 1)
    assert blame(broken).denial is not None


@pytest.mark.parametrize("policy", [NEVER, WHEN_NEEDED])
def test_a_refusal_that_was_not_foreseen_is_gone_back_from_by_a_reboot_too(broken, policy):
    broken.host.illegible = {OLD}
    assert go_back(broken, policy).outcome is Outcome.REBOOTING
    assert broken.systemd.activated == [(Action.SWITCH, OLD), (Action.BOOT, OLD)]
    assert broken.host.reboots == 1


def test_a_way_back_that_ends_this_very_process_is_no_failure(broken):
    broken.steps.at("reboot", lambda: asyncio.current_task().cancel())
    report = go_back(broken, NEVER)
    assert (report.outcome, report.error) == (Outcome.REBOOTING, None)


def test_a_way_back_that_is_taken_up_again_ends_with_the_process_as_well(broken):
    broken.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    broken.steps.at("reboot", lambda: asyncio.current_task().cancel())
    with pytest.raises(asyncio.CancelledError):
        broken.carry_out(partial(dead_man, toplevel=NEW))
    assert broken.marks.read().rebooting_back == NEW
    assert [step for step in broken.steps[broken.steps.index("reboot") :] if "switch" in step] == []


def test_a_way_back_that_is_taken_up_again_begins_nothing_while_the_host_goes_down(broken):
    broken.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)

    def on_sleep():
        if broken.host.reboots:
            asyncio.current_task().cancel()

    broken.clock.on_sleep = on_sleep
    with pytest.raises(asyncio.CancelledError):
        broken.carry_out(partial(dead_man, toplevel=NEW))
    assert broken.marks.read().rebooting_back == NEW
    assert broken.systemd.activated == [(Action.BOOT, OLD)]


def test_a_way_back_that_is_taken_up_again_says_that_the_host_has_not_gone_down(broken):
    broken.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    report = broken.run(NEVER)
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.REBOOT_FAILED)
    assert report.error.message == (
        "a reboot was asked for, and 600 s later the host has not gone down"
    )
    assert broken.systemd.activated == [(Action.BOOT, OLD)]
    assert (broken.host.reboots, broken.marks.read().rebooting_back) == (1, NEW)


def test_what_is_only_staged_is_taken_back_without_a_reboot():
    broken = pending_world(Action.BOOT)
    broken.host.contents[OLD].inhibitors = BROKER
    broken.host.contents[NEW].inhibitors = DBUS
    assert go_back(broken, action=Action.BOOT).outcome is Outcome.ROLLED_BACK
    assert (broken.links(), broken.host.reboots) == ((OLD, OLD, OLD), 0)


def assert_left_to_a_person(world, report, command="systemctl reboot"):
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.ROLL_BACK_NEEDS_REBOOT)
    assert report.error.hint == f"run `{command}`"
    told = world.told.fields_of(events.ROLL_BACK_NEEDS_REBOOT)
    assert told == {"toplevel": NEW, "target": OLD, "reason": told["reason"], "command": command}
    assert "switch inhibitors differ" in told["reason"]
    assert world.host.running == NEW
    assert (Action.TEST, OLD) not in world.systemd.activated


@pytest.mark.parametrize("is_foreseen", [True, False])
def test_in_a_container_the_error_says_what_to_run(broken, is_foreseen):
    broken.host.is_container = True
    broken.host.illegible = set() if is_foreseen else {OLD}
    assert_left_to_a_person(broken, go_back(broken))
    assert (broken.host.reboots, broken.host.profile) == (0, OLD)
    assert broken.host.loader.default() == OLD
    # It goes on saying so, until that has been done, and writes nothing for it again.
    installs = broken.systemd.activated.count((Action.BOOT, OLD))
    assert broken.run(NEVER).error.kind is Kind.ROLL_BACK_NEEDS_REBOOT
    assert broken.systemd.activated.count((Action.BOOT, OLD)) == installs
    broken.host.boot()
    broken.carry_out(confirm, NEVER)
    assert broken.marks.read() == Marks(confirmed=OLD)


def test_a_reboot_that_is_refused_is_not_asked_for_again(broken):
    broken.steps.at("reboot", HostError(Kind.REBOOT_FAILED, "access denied"))
    assert_left_to_a_person(broken, go_back(broken))
    broken.steps.calm()
    assert_left_to_a_person(broken, broken.run(WHEN_NEEDED))
    assert broken.host.reboots == 0
    assert broken.marks.read() == Marks(confirmed=OLD, rebooting_back=NEW)


def test_a_loader_that_disobeys_makes_no_loop(broken):
    go_back(broken)
    broken.host.loader.once = NEW
    broken.host.boot()
    report = broken.run(NEVER)
    assert report.error.kind is Kind.ROLL_BACK_NEEDS_REBOOT
    assert (broken.host.reboots, broken.host.running) == (1, NEW)


def test_one_that_was_rolled_back_from_before_costs_no_second_reboot(broken):
    go_back(broken)
    broken.host.boot()
    broken.carry_out(confirm, NEVER)
    broken.somebody_switches(NEW)
    broken.marks.set(Mark.PENDING, NEW)
    assert_left_to_a_person(broken, go_back(broken, about_the_upgrade=False))
    assert broken.host.reboots == 1


def test_a_loader_that_cannot_be_written_is_a_part_of_what_to_run(broken):
    broken.systemd.exits = [ActivationExit(1, "No space left on device")] * 2
    command = f"{OLD}/bin/switch-to-configuration boot && systemctl reboot"
    assert_left_to_a_person(broken, go_back(broken), command)
    assert broken.host.reboots == 0


@pytest.mark.parametrize("policy", [NEVER, WHEN_NEEDED])
def test_a_profile_that_cannot_be_changed_is_a_part_of_it_too(broken, policy):
    broken.profile.fault = HostError(Kind.ROLL_BACK_FAILED, "no room")
    command = f"{OLD}/bin/switch-to-configuration boot && systemctl reboot"
    assert_left_to_a_person(broken, go_back(broken, policy), command)
    assert broken.host.reboots == 0


def test_where_a_person_decides_the_command_is_named(broken):
    holds = replace(NEVER, confirm=replace(NEVER.confirm, on_failure=OnFailure.HOLD))
    broken.service_breaks()
    report = broken.carry_out(confirm, holds)
    assert report.outcome is Outcome.PENDING
    assert report.reasons[0] == (
        "confirmation-failed",
        (
            "confirm.on_failure is 'hold': an administrator decides; `agent rollback --reason TEXT` goes back, by"
            f" a reboot ({DIFFER.replace('dbus → broker', 'broker → dbus')})"
        ),
    )
    assert broken.host.reboots == 0
