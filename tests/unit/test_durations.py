"""Holds that last: other people's systems over many boots, and a clock that nobody sets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from agent.application import events
from agent.application.facts.durations import ask_clock
from agent.application.run import RunSettings
from agent.application.status import take_status
from agent.domain.errors import ExitCode, Kind
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.policy import RebootMode
from agent.domain.window import Schedule, Window
from fakes.samples import OLD
from fakes.stepwise import system_with
from fakes.world import STORE, WATCHFUL, World, system

NEW, HOTFIX, OTHER = system(1), system(9), system(8)
DAY = timedelta(days=1)
PATIENT = replace(WATCHFUL, foreign_hold=3 * DAY)
ALWAYS = Schedule((Window(frozenset(range(7)), time(), DAY, UTC),))
WINDOWED = replace(WATCHFUL, upgrade_schedule=ALWAYS)


@pytest.fixture
def world():
    """A confirmed host, and a good build of NEW."""
    world = World()
    world.publish(1, NEW)
    world.marks.links = {Mark.CONFIRMED: OLD}
    return world


def reasons(report):
    return [name for name, _ in report.reasons]


def boots(world, after=timedelta(hours=23)):
    """Let the host be off for a time, and come up with all its links made anew."""
    world.clock.instant += after
    world.clock.seconds = 300.0
    world.host.boot_id += "+"
    world.host.changed = world.host.booted_when = world.clock.now() - timedelta(minutes=5)


def days_held(world, policy=PATIENT, days=30):
    """Boot once a day and do one run; return for how many days it was held."""
    for day in range(days):
        report = world.run(policy)
        if report.outcome is not Outcome.HELD:
            return day
        assert len(report.reasons) == 1
        boots(world)
    return days


# Other people's systems


def test_a_foreign_system_is_not_held_for_ever_on_a_host_that_boots_daily(world):
    world.somebody_switches(HOTFIX)
    assert days_held(world) == 4  # 23 hours a day


def test_nor_does_it_open_before_its_time(world):
    world.somebody_switches(HOTFIX)
    world.run(PATIENT)
    boots(world)
    report = world.run(PATIENT)
    assert reasons(report) == ["foreign-system"]
    assert "held until 2026-11-24 04:40 UTC" in report.reasons[0][1]


def test_another_foreign_system_is_held_from_its_own_beginning(world):
    world.somebody_switches(HOTFIX)
    for _ in range(3):
        world.run(PATIENT)
        boots(world)
    world.somebody_switches(OTHER)
    assert days_held(world) == 4


def test_a_foreign_system_that_has_gone_and_come_again_is_a_new_one(world):
    world.somebody_switches(HOTFIX)
    world.run(PATIENT)
    boots(world, 2 * DAY)
    world.somebody_switches(OLD)
    world.canary_dies()
    assert reasons(world.run(PATIENT)) == ["health"]
    world.canary_recovers()
    world.somebody_switches(HOTFIX)
    boots(world, 2 * DAY)
    assert reasons(world.run(PATIENT)) == ["foreign-system"]


def test_a_clock_that_is_set_by_decades_opens_nothing_and_holds_nothing(world):
    right = world.clock.now()
    world.systemd.is_synchronised = False
    world.clock.instant = datetime(1970, 1, 1, tzinfo=UTC)
    world.somebody_switches(HOTFIX)
    assert reasons(world.run(PATIENT)) == ["foreign-system"]
    world.systemd.is_synchronised = True
    world.clock.instant = right
    assert reasons(world.run(PATIENT)) == ["foreign-system"]
    world.host.changed = datetime(2099, 1, 1, tzinfo=UTC)
    assert days_held(world) == 4


def test_where_the_clock_is_never_right_the_time_that_the_host_is_up_counts(world):
    world.systemd.is_synchronised = None
    world.somebody_switches(HOTFIX)
    world.run(PATIENT)
    world.clock.move((3 * DAY).total_seconds() - 1)
    assert reasons(world.run(PATIENT)) == ["foreign-system"]
    world.clock.move(1)
    assert world.run(PATIENT).outcome is Outcome.CONFIRMED


def test_where_nothing_can_be_remembered_the_hold_stays(world):
    world.sightings.is_forgetful = True
    world.somebody_switches(HOTFIX)
    assert days_held(world) == 30


def test_a_status_and_a_dry_run_remember_nothing(world):
    world.somebody_switches(HOTFIX)
    world.systemd.is_synchronised = False
    world.run(WINDOWED, dry_run=True)
    asyncio.run(take_status(world.ports, WINDOWED, RunSettings("", STORE)))
    assert world.sightings.seen == {}
    world.run(WATCHFUL)
    before = dict(world.sightings.seen)
    assert list(before) == ["foreign-system"]
    world.host.running = world.host.profile = OLD
    asyncio.run(take_status(world.ports, WINDOWED, RunSettings("", STORE)))
    assert world.sightings.seen == before


def test_an_entry_that_is_picked_at_each_boot_is_not_held_for_ever(world):
    world.host.contents[OTHER] = system_with("k1")
    world.marks.links[Mark.TESTED] = OTHER
    world.host.running = world.host.booted = OTHER
    world.host.booted_when = world.clock.now()
    assert reasons(world.run(PATIENT)) == ["booted-unexpected"]
    assert days_held(world) == 4


def test_what_has_gone_while_no_gate_was_asked_is_a_new_one_when_it_comes_again(world):
    world.somebody_switches(HOTFIX)
    world.run(PATIENT)
    boots(world, DAY)
    world.somebody_switches(NEW)
    assert world.run(PATIENT).outcome is Outcome.NOTHING_TO_DO
    boots(world, 9 * DAY)
    world.publish(2, system(2))
    world.somebody_switches(HOTFIX)
    assert days_held(world) == 4


# A clock without time


@pytest.mark.parametrize("is_synchronised", [False, None])
def test_a_clock_without_time_holds_and_is_looked_at_again_soon(world, is_synchronised):
    world.systemd.is_synchronised = is_synchronised
    report = world.run(WINDOWED)
    assert (report.outcome, report.exit_code, reasons(report)) == (
        Outcome.HELD, ExitCode.HELD, ["clock"]
    )  # fmt: skip
    assert world.systemd.woken_at == world.clock.now() + timedelta(minutes=10)
    world.systemd.is_synchronised = True
    assert world.run(WINDOWED).outcome is Outcome.CONFIRMED
    assert world.sightings.seen == {}


def test_a_clock_without_time_is_a_failure_in_the_end_and_never_opens(world):
    world.systemd.is_synchronised = False
    world.run(WINDOWED)
    world.clock.move(DAY.total_seconds() - 1)
    assert world.run(WINDOWED).outcome is Outcome.HELD
    world.clock.move(1)
    for _ in range(3):
        report = world.run(WINDOWED)
        assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
        assert report.error.kind is Kind.CLOCK_UNSYNCHRONISED
        assert "24 hours" in report.error.message
        assert "timedatectl" in report.error.hint
        assert reasons(report) == ["clock"]
        assert world.told.fields_of(events.GATE_OVERDUE)["gate"] == "clock"
        assert world.is_untouched()
    world.systemd.is_synchronised = True
    assert world.run(WINDOWED).outcome is Outcome.CONFIRMED


def test_a_clock_that_loses_its_time_again_has_its_patience_again(world):
    world.systemd.is_synchronised = False
    world.run(WINDOWED)
    world.clock.move(DAY.total_seconds())
    world.systemd.is_synchronised = True
    world.canary_dies()
    world.run(WINDOWED)
    world.systemd.is_synchronised = False
    assert world.run(WINDOWED).outcome is Outcome.HELD


def test_a_clock_that_had_its_time_while_no_gate_was_asked_has_its_patience_again(world):
    world.systemd.is_synchronised = False
    world.run(WINDOWED)
    world.systemd.is_synchronised = True
    world.somebody_switches(NEW)
    assert world.run(WINDOWED).outcome is Outcome.NOTHING_TO_DO
    world.clock.move((2 * DAY).total_seconds())
    world.publish(2, system(2))
    world.systemd.is_synchronised = False
    assert world.run(WINDOWED).outcome is Outcome.HELD


def test_patience_with_the_clock_is_by_no_clock_and_outlasts_boots(world):
    world.systemd.is_synchronised = False
    held = 0
    while world.run(WINDOWED).outcome is Outcome.HELD:
        held += 1
        assert held < 9
        world.clock.move(timedelta(hours=4).total_seconds())
        world.run(WINDOWED)
        boots(world, timedelta(days=-700))
    assert held == 6  # at each boot 4 hours and 5 minutes


def test_a_clock_that_is_lost_late_is_a_failure_in_the_end_too(world):
    world.systemd.is_synchronised = False
    asyncio.run(ask_clock(world.ports, keeps=True))
    world.clock.move(DAY.total_seconds())
    world.systemd.is_synchronised = True
    seen = dict(world.sightings.seen)

    def lose_it():
        world.systemd.is_synchronised = False
        world.sightings.seen.update(seen)

    world.steps.at("substitute", lose_it)
    report = world.run(WINDOWED)
    assert report.error.kind is Kind.CLOCK_UNSYNCHRONISED
    assert world.links() == (OLD, OLD, OLD)


def test_without_windows_nobody_asks_the_clock(world):
    world.systemd.is_synchronised = False
    world.run(replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED))
    assert world.sightings.seen == {}


def test_a_reboot_waits_for_the_clock_and_then_fails_visibly(world):
    world.publish(1, NEW, kernel="k2")
    policy = replace(
        WATCHFUL,
        reboot_mode=RebootMode.WHEN_NEEDED,
        reboot=replace(WATCHFUL.reboot, schedule=ALWAYS),
    )
    world.systemd.is_synchronised = False
    report = world.run(policy)
    assert (report.outcome, reasons(report)) == (Outcome.STAGED, ["reboot", "clock"])
    assert world.run(policy).outcome is Outcome.AWAITS_REBOOT
    world.clock.move(DAY.total_seconds())
    report = world.run(policy)
    assert report.error.kind is Kind.CLOCK_UNSYNCHRONISED
    assert (world.host.reboots, world.marks.read().staged) == (0, NEW)
    world.systemd.is_synchronised = True
    assert world.run(policy).outcome is Outcome.REBOOTING
