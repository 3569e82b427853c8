"""Reboots as the use cases do them: postponed, announced, tried once, confirmed, gone back from."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, time, timedelta

import pytest

from agent.application import events
from agent.application.confirm.dead_man import dead_man
from agent.application.manual.pauses import pause, reboot_by_hand, resume
from agent.application.ports import ActivationExit
from agent.application.run import RunSettings
from agent.application.status import take_status
from agent.domain.errors import ExitCode, HostError, JournalError, Kind
from agent.domain.marks import Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.pause import Pause
from agent.domain.policy import Action, RebootMode
from agent.domain.reboot import Inhibitor, RebootPlan
from agent.domain.window import Schedule, Window
from fakes.loader import FakeLoader, SlowLoader
from fakes.runs import a_run
from fakes.samples import OLD
from fakes.stepwise import system_with
from fakes.systemd import Armed
from fakes.world import STORE, WATCHFUL, World, system

NEW, NEWER = system(1), system(2)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
REBOOTS = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED)
SETTINGS = RunSettings("by-hand", STORE, by="eve")
BACKUP = Inhibitor("backup", "a dump is being written")
FULL = JournalError(Kind.STATE_FULL, "no room")


@pytest.fixture
def world():
    """A host on OLD, and a good build of NEW that only a reboot starts."""
    world = World()
    world.publish(1, NEW, kernel="k2")
    return world


def opening_in(world, after, policy=REBOOTS, length=2 * HOUR):
    """Return the policy with one window a day, that opens `after` so long."""
    start = (world.clock.now() + after).time()
    window = Window(frozenset(range(7)), start, length, UTC)
    schedule = Schedule((window,), margin=15 * MINUTE)
    return replace(policy, reboot=replace(policy.reboot, schedule=schedule))


def obstacles(report):
    return [name for name, _ in report.reasons]


def status(world, policy=REBOOTS):
    return asyncio.run(take_status(world.ports, policy, RunSettings("", STORE)))


# Waiting


def test_outside_of_the_windows_a_needed_reboot_waits_staged_and_the_next_run_is_scheduled(world):
    policy = opening_in(world, HOUR)
    report = world.run(policy)
    assert (report.outcome, report.exit_code) == (Outcome.STAGED, ExitCode.DONE)
    assert obstacles(report) == ["reboot", "reboot-window"]
    assert world.host.reboots == 0
    # Whoever reboots it meanwhile gets what has proved healthy.
    assert (world.host.loader.default(), world.host.loader.once) == (OLD, None)
    assert world.systemd.woken_at == world.clock.now() + HOUR
    again = world.run(policy)
    assert (again.decision, again.outcome) == ("reboot", Outcome.AWAITS_REBOOT)
    assert obstacles(again) == ["reboot", "reboot-window"]
    world.clock.move(3600)
    assert world.run(policy).outcome is Outcome.REBOOTING
    assert world.host.reboots == 1


def test_a_reboot_that_waits_is_cancelled_by_a_newer_build(world):
    world.logind.logged_in = ("ann",)
    assert world.run(REBOOTS).outcome is Outcome.STAGED
    world.publish(2, NEWER, kernel="k3")
    world.run(REBOOTS)
    assert world.told.fields_of(events.REBOOT_CANCELLED)["toplevel"] == NEW
    assert "a newer build has come" in world.logind.told[1]
    assert world.journal.plan.toplevel == NEWER
    assert world.marks.read().staged == NEWER


def test_people_are_warned_and_the_reboot_keeps_its_word(world):
    world.logind.logged_in = ("ann",)
    report = world.run(REBOOTS)
    assert obstacles(report) == ["reboot", "users"]
    (told,) = world.logind.told
    assert "04:50 UTC" in told
    assert "agent pause" in told
    assert world.systemd.woken_at == world.clock.now() + 10 * MINUTE
    world.clock.move(60)
    assert obstacles(world.run(REBOOTS)) == ["reboot", "users"]
    assert len(world.logind.told) == 1
    world.clock.move(540)
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert not world.host.is_forced


def test_whoever_blocks_a_shutdown_is_respected_for_its_time_and_then_passed(world):
    world.logind.inhibiting = (BACKUP,)
    assert obstacles(world.run(REBOOTS)) == ["reboot", "inhibited"]
    world.clock.move(timedelta(days=1).total_seconds())
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert world.host.is_forced
    assert world.told.fields_of(events.REBOOT_REQUESTED)["inhibitors"] == [
        "backup: a dump is being written"
    ]


def test_an_inhibitor_of_the_last_moment_is_respected(world):
    refused = HostError(Kind.REBOOT_FAILED, "inhibited")

    def come():
        world.logind.inhibiting = (BACKUP,)
        world.host.reboot_fault = None if world.host.is_forced else refused

    world.steps.at("journal rebooting", come)
    report = world.run(REBOOTS)
    assert (report.error, world.host.reboots, world.host.is_forced) == (refused, 0, False)
    assert world.last_row().outcome == "staged"


def test_ill_neighbours_take_an_announced_reboot_back(world):
    world.logind.logged_in = ("ann",)
    world.run(REBOOTS)
    world.logind.logged_in = ()
    world.canary_dies()
    report = world.run(REBOOTS)
    assert (report.outcome, obstacles(report)) == (Outcome.HELD, ["health"])
    assert world.told.fields_of(events.REBOOT_CANCELLED)["reason"] == "its health checks fail"
    assert world.host.reboots == 0


def test_a_reboot_plan_that_cannot_be_written_does_not_lose_the_staged_system(world):
    world.logind.logged_in = ("ann",)
    world.journal.plan_fault = FULL
    report = world.run(REBOOTS)
    assert report.error.kind is Kind.STATE_FULL
    assert world.marks.read().staged == NEW
    assert world.host.reboots == 0


def test_outside_of_its_windows_an_upgrade_is_held_and_the_next_run_is_scheduled(world):
    opens = (world.clock.now() + HOUR).time()
    schedule = Schedule((Window(frozenset(range(7)), opens, 2 * HOUR, UTC),))
    policy = replace(REBOOTS, upgrade_schedule=schedule)
    report = world.run(policy)
    assert (report.outcome, obstacles(report)) == (Outcome.HELD, ["upgrade-window"])
    assert world.systemd.woken_at == world.clock.now() + HOUR
    never = replace(policy, upgrade_schedule=Schedule((Window(frozenset(), time(), HOUR, UTC),)))
    world.systemd.woken_at = None
    world.run(never)
    assert world.systemd.woken_at is None


def test_a_home_waits_while_the_system_is_upgraded_and_the_next_run_is_scheduled(world):
    world.systemd.host_upgrades = True
    report = world.run()
    assert (report.outcome, obstacles(report)) == (Outcome.HELD, ["host-upgrade"])
    assert world.systemd.woken_at == world.clock.now() + 2 * MINUTE
    world.systemd.host_upgrades = False
    assert world.run().outcome in (Outcome.CONFIRMED, Outcome.REBOOTING)


def test_a_home_that_was_built_meanwhile_waits_for_the_system_too(world):
    world.systemd.host_upgrades = False

    def begin():
        world.systemd.host_upgrades = True

    world.steps.at("nixos-rebuild build", begin)
    report = world.run()
    assert (report.outcome, obstacles(report)) == (Outcome.HELD, ["host-upgrade"])
    assert world.host.running == OLD
    assert world.systemd.woken_at == world.clock.now() + 2 * MINUTE


def test_windows_are_not_relied_on_while_the_clock_is_wrong(world):
    world.systemd.is_synchronised = False
    open_now = replace(
        REBOOTS,
        upgrade_schedule=Schedule((Window(frozenset(range(7)), time(), 24 * HOUR, UTC),)),
    )
    assert obstacles(world.run(open_now)) == ["clock"]


# Paused


def test_a_pause_holds_upgrades_and_reboots_and_takes_back_what_was_announced(world):
    world.logind.logged_in = ("ann",)
    world.run(REBOOTS)
    begun = asyncio.run(pause(world.ports, SETTINGS, "audit", HOUR))
    assert begun.until == world.clock.now() + HOUR
    assert world.logind.told[-1] == "The announced reboot is not done yet: paused by eve: audit."
    world.logind.logged_in = ()
    assert obstacles(world.run(REBOOTS)) == ["reboot", "paused"]
    world.publish(2, NEWER)
    # The newer one is held, and the reboot into the one that is staged is postponed.
    assert obstacles(world.run(REBOOTS)) == ["reboot", "paused"]
    assert world.host.reboots == 0
    world.clock.move(3600)
    assert world.run(REBOOTS).outcome is not Outcome.HELD


def test_a_pause_for_good_ends_by_hand(world):
    asyncio.run(pause(world.ports, SETTINGS, "audit", None))
    assert obstacles(world.run(REBOOTS)) == ["paused"]
    asyncio.run(resume(world.ports, SETTINGS))
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    with pytest.raises(HostError) as caught:
        asyncio.run(resume(world.ports, SETTINGS))
    assert caught.value.kind is Kind.NOTHING_HELD


def test_a_host_without_a_profile_can_be_paused(world):
    world.host.profile = None
    asyncio.run(pause(world.ports, SETTINGS, "audit", None))
    assert world.logind.told == []


def test_an_announcement_that_cannot_be_looked_up_does_not_keep_a_newer_build_away(world):
    world.logind.logged_in = ("ann",)
    world.run(REBOOTS)
    world.publish(2, NEWER)
    world.journal.plan_fault = FULL
    report = world.run(REBOOTS)
    assert report.outcome is Outcome.CONFIRMED
    assert events.RECORD_FAILED.name in world.told.names()


# By hand


def test_a_person_has_the_reboot_that_waits_done(world):
    world.run(WATCHFUL)  # which may not reboot
    world.host.running = OLD  # as if only staged
    report = world.carry_out(reboot_by_hand, WATCHFUL)
    assert report.outcome is Outcome.REBOOTING
    assert world.last_row().outcome == "rebooting"
    assert world.host.reboots == 1


@pytest.mark.parametrize("kernel", ["k1", "k2"])
def test_a_reboot_by_hand_waits_for_windows_and_people_all_the_same(world, kernel):
    world.publish(1, NEW, kernel=kernel)
    world.run(replace(WATCHFUL, action=Action.BOOT))
    world.logind.logged_in = ("ann",)
    report = world.carry_out(reboot_by_hand, WATCHFUL)
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert obstacles(report) == ["reboot", "users"]
    assert world.host.reboots == 0


def test_a_person_does_not_reboot_into_what_is_denied(world):
    world.run(replace(WATCHFUL, action=Action.BOOT))
    world.journal.deny(Denial(NEW, "known bad", world.clock.now(), "eve", 1))
    report = world.carry_out(reboot_by_hand, WATCHFUL)
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert obstacles(report) == ["reboot", "denied"]
    assert world.host.reboots == 0


def test_where_no_reboot_is_needed_there_is_nothing_to_do(world):
    assert world.carry_out(reboot_by_hand, REBOOTS).outcome is Outcome.NOTHING_TO_DO
    world.host.profile = None
    assert world.carry_out(reboot_by_hand, REBOOTS).outcome is Outcome.NOTHING_TO_DO


def test_a_container_is_not_rebooted(world):
    world.run(replace(WATCHFUL, action=Action.BOOT))
    world.host.is_container = True
    assert world.carry_out(reboot_by_hand, REBOOTS).outcome is Outcome.NOTHING_TO_DO
    assert world.run(replace(REBOOTS, action=Action.BOOT)).outcome is Outcome.AWAITS_REBOOT
    assert world.host.reboots == 0


def test_what_is_pending_goes_before_a_reboot_by_hand(world):
    world.publish(2, NEWER)
    world.hydra_is_gone()
    world.run(WATCHFUL)
    report = world.carry_out(reboot_by_hand, REBOOTS)
    assert (report.outcome, obstacles(report)) == (Outcome.HELD, ["recovery"])


# Tried once


def test_the_default_stays_on_the_confirmed_system_until_the_new_one_is_confirmed(world):
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    loader = world.host.loader
    assert (loader.default(), loader.once) == (OLD, NEW)
    assert world.told.fields_of(events.TRY_BOOT_SET) == {
        "loader": "systemd-boot", "toplevel": NEW, "default": OLD
    }  # fmt: skip
    world.host.boot()
    assert world.host.running == NEW
    assert world.run(REBOOTS).outcome is Outcome.NOTHING_TO_DO
    assert (world.marks.read().confirmed, loader.default()) == (NEW, NEW)
    assert (loader.choices_forgotten, loader.blessed) == (1, 1)


def test_a_system_that_never_comes_up_is_left_by_the_loader_and_not_tried_again(world):
    world.run(REBOOTS)
    world.host.loader.starts()  # and hangs
    world.host.boot()
    assert world.host.running == OLD
    report = world.run(REBOOTS)
    assert obstacles(report) == ["reboot-ineffective"]
    assert world.host.reboots == 1
    assert world.journal.denials(world.clock.now()) == ()


def test_a_loader_without_a_way_back_is_told_before_and_in_the_status(world):
    world.host.loader.name = None
    assert status(world).loader_fallback is None
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert events.LOADER_WITHOUT_FALLBACK.name in world.told.names()
    assert world.host.loader.default() == NEW


def test_a_system_without_an_entry_is_no_way_back(world):
    world.host.loader.without_entry = {OLD}
    assert status(world).loader_fallback is None
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert events.LOADER_WITHOUT_FALLBACK.name in world.told.names()
    assert (world.host.loader.default(), world.host.loader.once) == (NEW, None)


def test_a_default_that_was_held_on_what_cannot_be_fallen_back_to_is_moved(world):
    waits = opening_in(world, HOUR)
    world.run(waits)
    assert world.host.loader.default() == OLD
    world.host.loader.name = None
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert world.host.loader.default() == NEW


def test_an_unknown_running_system_has_no_way_back(world):
    world.host.running = None
    assert status(world).loader_fallback is None


def test_who_wants_no_trial_has_none(world):
    policy = replace(REBOOTS, reboot=replace(REBOOTS.reboot, tries_boot=False))
    assert status(world).loader_fallback == "systemd-boot"
    assert status(world, policy).loader_fallback is None
    world.run(policy)
    assert (world.host.loader.default(), world.host.loader.once) == (NEW, None)


@pytest.mark.parametrize("what", ["the loader", "the installer", "systemd"])
def test_where_the_trial_cannot_be_set_the_new_system_is_the_default(world, what):
    match what:
        case "the loader":
            world.host.loader.is_broken = True
        case "the installer":
            fails, ends = ActivationExit(1, "no room"), ActivationExit(0, "")
            world.systemd.exits = [fails, ends, fails]
        case _:
            world.systemd.activate_fault = HostError(Kind.ROLL_BACK_FAILED, "no systemd-run")
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert events.TRY_BOOT_FAILED.name in world.told.names()
    assert world.host.loader.default() == NEW


def test_a_default_that_cannot_be_moved_is_told(world):
    world.run(REBOOTS)
    world.host.boot()
    world.systemd.exits = [ActivationExit(1, "no room")]
    world.run(REBOOTS)
    told = world.told.names() + world.told_by_new.names()
    assert events.DEFAULT_LEFT.name in told


def test_a_default_that_a_person_has_chosen_stays_when_the_new_system_is_confirmed(world):
    world.run(REBOOTS)
    world.host.boot()
    world.host.loader.installed = NEWER
    world.run(REBOOTS)
    assert world.marks.read() == Marks(confirmed=NEW)
    assert (world.host.loader.default(), world.systemd.activated[1:]) == (NEWER, [])


def test_killed_before_the_default_is_moved_the_next_run_moves_it(world):
    world.run(REBOOTS)
    world.host.boot()

    def power_cut():
        raise PowerCutError

    world.steps.at("switch-to-configuration boot", power_cut)
    with pytest.raises(PowerCutError):
        world.run(REBOOTS)
    world.steps.calm()
    assert world.host.loader.default() == OLD
    world.run(REBOOTS)
    assert (world.marks.read().confirmed, world.host.loader.default()) == (NEW, NEW)


def without_power_before_the_default_is_moved(world):
    world.run(REBOOTS)
    world.host.boot()

    def power_cut():
        raise PowerCutError

    world.steps.at("switch-to-configuration boot", power_cut)
    with pytest.raises(PowerCutError):
        world.run(REBOOTS)
    world.steps.calm()
    world.host.boot()
    assert (world.marks.read().confirmed, world.host.running) == (NEW, OLD)


def test_without_power_before_the_default_is_moved_the_confirmed_system_is_booted_again(world):
    without_power_before_the_default_is_moved(world)
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert world.host.loader.default() == NEW
    world.host.boot()
    assert world.run(REBOOTS).outcome is Outcome.NOTHING_TO_DO
    assert world.marks.read() == Marks(confirmed=NEW)
    assert world.host.running == world.host.profile == NEW


def test_until_then_the_one_confirmed_before_is_nobody_elses_and_stays(world):
    without_power_before_the_default_is_moved(world)
    for outcome in (Outcome.STAGED, Outcome.AWAITS_REBOOT):
        report = world.run(opening_in(world, HOUR))
        assert report.outcome is outcome
        assert obstacles(report) == ["reboot", "reboot-window"]
    assert world.marks.read() == Marks(confirmed=NEW, staged=NEW)


def test_who_picks_the_old_system_before_the_history_knows_of_the_confirmation_is_left_in_peace(
    world,
):
    without_power_before_the_default_is_moved(world)
    world.host.loader.installed = NEW  # it had been moved; only the row is still open
    report = world.run(REBOOTS)
    assert obstacles(report) == ["foreign-system"]
    assert world.marks.read() == Marks(confirmed=NEW)


class PowerCutError(BaseException):
    """Nobody goes on."""


# Gone back from


def boot_into_broken(world, policy=REBOOTS):
    """Reboot into NEW, which is broken; return what its confirmation said."""
    world.run(policy)
    world.service_breaks()
    world.host.boot()
    return world.run(policy)


def test_a_broken_system_that_was_booted_is_left_by_one_reboot_and_denied(world):
    boot_into_broken(world)
    assert world.host.reboots == 2
    assert world.marks.read() == Marks(confirmed=OLD, rebooting_back=NEW)
    assert world.host.loader.default() == world.host.profile == OLD
    world.all_is_well()
    world.host.boot()
    report = world.run(REBOOTS)
    assert obstacles(report) == ["denied"]
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.host.running == OLD
    assert world.host.reboots == 2


def test_no_timer_runs_out_while_the_host_goes_down_to_be_rolled_back(world):
    world.run(REBOOTS)
    world.service_breaks()
    world.host.boot()
    world.systemd.timer = Armed(MINUTE, "run-1", NEW)
    seen = []
    world.host.on_reboot = lambda: seen.append(
        (world.marks.read().rebooting_back, world.systemd.timer)
    )
    world.run(REBOOTS)
    assert seen == [(NEW, None)]


def test_a_system_that_was_rolled_back_from_before_costs_no_second_reboot_back(world):
    world.run(REBOOTS)
    world.journal.rows.insert(0, a_run(90, outcome="rolled-back", fault="suspect", toplevel=NEW))
    world.service_breaks()
    world.host.boot()
    assert obstacles(world.run(REBOOTS)) == ["denied"]
    assert world.host.reboots == 1
    assert (world.host.running, world.host.profile, world.host.booted) == (OLD, OLD, NEW)
    assert [told.toplevel for told in world.journal.denied] == [NEW]
    world.all_is_well()
    world.publish(2, NEWER, kernel="k1")
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING  # the kernel is still that of NEW


def test_a_broken_system_is_left_although_it_was_dry_activated_between_its_staging_and_its_boot(
    world,
):
    world.run(REBOOTS)
    world.run(replace(WATCHFUL, action=Action.DRY_ACTIVATE))
    world.service_breaks()
    world.host.boot()
    world.run(WATCHFUL)
    assert (world.host.running, world.host.profile) == (OLD, OLD)
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_staged_system_that_breaks_a_test_is_taken_from_the_profile_too(world):
    world.run(REBOOTS)
    world.steps.at("activate-flake", world.service_breaks)
    report = world.run(replace(WATCHFUL, action=Action.TEST))
    assert report.outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.host.profile) == (OLD, OLD)
    world.all_is_well()
    world.run(WATCHFUL)
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_reboot_into_what_was_taken_as_confirmed_makes_it_the_default(world):
    world.run(replace(WATCHFUL, action=Action.TEST))
    world.run(REBOOTS)
    assert (world.host.running, world.host.loader.default()) == (NEW, OLD)
    world.marks.links.clear()
    world.run(REBOOTS)
    assert world.marks.read().confirmed == world.host.loader.default() == NEW


def test_where_that_reboot_does_not_help_the_services_are_switched_back_and_no_more(world):
    boot_into_broken(world)
    world.host.loader.installed = NEW
    world.host.boot()
    world.host.loader.installed = OLD
    assert world.host.running == NEW
    world.all_is_well()
    world.run(REBOOTS)
    assert world.host.running == OLD
    assert world.host.reboots == 2
    assert world.marks.read() == Marks(confirmed=OLD)


def test_where_that_reboot_is_refused_the_services_are_switched_back(world):
    world.run(REBOOTS)
    world.service_breaks()
    world.host.boot()
    world.host.reboot_fault = HostError(Kind.REBOOT_FAILED, "access denied")
    world.run(REBOOTS)
    assert world.host.running == OLD
    assert world.marks.read() == Marks(confirmed=OLD)


@pytest.mark.parametrize("what", ["the installer fails", "the default is another"])
def test_where_the_loader_would_not_go_back_no_reboot_is_asked_for(world, what):
    world.run(REBOOTS)
    world.service_breaks()
    world.host.boot()
    if what == "the installer fails":
        world.systemd.exits = [ActivationExit(1, "no room")]
    else:
        world.host.loader.default = lambda: NEW
    world.run(REBOOTS)
    assert world.host.reboots == 1
    assert world.host.running == OLD


def test_a_system_that_was_only_switched_to_is_switched_away_from(world):
    world.publish(1, NEW, kernel="k1")
    world.steps.at("activate-flake", world.service_breaks)
    report = world.run(REBOOTS)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.host.reboots == 0
    assert world.host.running == world.host.profile == OLD
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_host_that_may_not_reboot_switches_back(world):
    world.run(replace(WATCHFUL, action=Action.BOOT))
    world.host.boot()
    world.service_breaks()
    world.run(WATCHFUL)
    assert world.host.reboots == 0
    assert (world.host.running, world.host.profile) == (OLD, OLD)


def test_the_deadline_of_a_boot_ends_what_nobody_has_confirmed(world):
    world.run(REBOOTS)
    world.host.boot()
    world.systemd.start_fault = HostError(Kind.CONFIRM_UNIT_FAILED, "it does not start in time")

    async def deadline(ports, policy, settings):
        return await dead_man(ports, policy, settings, None)

    report = world.carry_out(deadline, REBOOTS)
    assert report.outcome in (Outcome.REBOOTING, Outcome.FAILED)
    assert world.host.reboots == 2
    assert world.marks.read().rebooting_back == NEW


def test_the_deadline_of_a_boot_leaves_a_staged_and_a_confirmed_system_alone(world):
    async def deadline(ports, policy, settings):
        return await dead_man(ports, policy, settings, None)

    assert world.carry_out(deadline, REBOOTS).outcome is Outcome.NOTHING_TO_DO
    world.run(replace(WATCHFUL, action=Action.BOOT))
    assert world.carry_out(deadline, REBOOTS).outcome is Outcome.NOTHING_TO_DO
    assert world.marks.read().staged == NEW


# What a person boots


def test_a_host_that_a_person_booted_into_an_older_entry_is_held(world):
    world.run(REBOOTS)
    world.host.boot()
    world.run(REBOOTS)
    world.publish(2, NEWER)
    world.clock.move(60)
    world.host.running = world.host.booted = OLD
    world.host.changed = world.host.booted_when = world.clock.now()
    report = world.run(REBOOTS)
    assert obstacles(report) == ["booted-unexpected"]
    assert world.journal.denials(world.clock.now()) == ()
    world.clock.move(timedelta(days=2).total_seconds())
    world.host.contents[NEWER] = system_with("k1")
    assert world.run(REBOOTS).outcome is not Outcome.HELD


# The status


def test_the_status_tells_when_and_why_not(world):
    policy = opening_in(world, HOUR)
    world.run(policy)
    told = status(world, policy).fields()
    assert told["decision"] == "await-reboot"
    assert told["reboot"]["obstacle"] == "reboot-window"
    assert told["reboot"]["until"] == (world.clock.now() + HOUR).isoformat()
    world.clock.move(3600)
    told = status(world, policy).fields()
    assert (told["decision"], told["reboot"]) == ("reboot", {"allowed": True})


def test_a_plan_is_of_one_system_only(world):
    world.logind.logged_in = ("ann",)
    world.run(REBOOTS)
    assert world.journal.reboot_plan(OLD) == RebootPlan(OLD)


# What comes in its way late


def pausing(world):
    paused = Pause("audit", "eve", world.clock.now())
    return SlowLoader(lambda: world.journal.set_pause(paused))


def run_of_agent(world):
    return world.run(REBOOTS)


def by_hand(world):
    return world.carry_out(reboot_by_hand, REBOOTS)


@pytest.mark.parametrize(
    ("begin", "outcome"),
    [(run_of_agent, Outcome.AWAITS_REBOOT), (by_hand, Outcome.HELD)],
)
def test_a_pause_that_begins_while_the_loader_is_told_keeps_the_host_from_its_reboot(
    world, begin, outcome
):
    world.logind.logged_in = ("ann",)
    world.run(REBOOTS)
    world.logind.logged_in = ()
    world.host.loader = pausing(world)
    report = begin(world)
    assert (report.outcome, obstacles(report)) == (outcome, ["reboot", "paused"])
    assert world.host.reboots == 0
    assert world.last_row().outcome == "staged"
    assert not any("reboots now" in told for told in world.logind.told)
    asyncio.run(resume(world.ports, SETTINGS))
    world.host.loader = FakeLoader()
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert world.host.reboots == 1


@pytest.mark.parametrize(
    ("inhibitors", "people", "obstacle"),
    [
        ((BACKUP,), (), "inhibited"),
        ((), ("ann",), "users"),
        (None, (), "inhibited"),
        ((), None, "users"),
    ],
)
def test_who_comes_while_the_loader_is_told_is_respected(world, inhibitors, people, obstacle):
    def come():
        world.logind.inhibiting, world.logind.logged_in = inhibitors, people

    world.host.loader = SlowLoader(come)
    report = world.run(REBOOTS)
    assert (report.outcome, obstacles(report)) == (Outcome.STAGED, ["reboot", obstacle])
    assert world.host.reboots == 0
    world.logind.inhibiting = world.logind.logged_in = ()
    world.host.loader.happening = lambda: None
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING


def test_a_pause_that_begins_late_leaves_a_fresh_upgrade_staged(world):
    world.host.loader = pausing(world)
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.STAGED, ExitCode.DONE)
    assert (world.host.reboots, world.marks.read().staged) == (0, NEW)


def test_a_pause_that_begins_while_an_upgrade_is_built_keeps_it_from_being_activated(world):
    paused = Pause("audit", "eve", world.clock.now())
    world.steps.at("nixos-rebuild build", lambda: world.journal.set_pause(paused))
    report = world.run(REBOOTS)
    assert (report.outcome, obstacles(report)) == (Outcome.HELD, ["paused"])
    assert (world.host.running, world.host.profile) == (OLD, OLD)
    assert world.marks.read() == Marks(confirmed=OLD)
    world.steps.calm()
    asyncio.run(resume(world.ports, SETTINGS))
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
