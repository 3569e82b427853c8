"""A boot partition that is full of what no generation needs is cleaned once, by what runs."""

from __future__ import annotations

import pytest

from agent.application import events
from agent.application.act.boot_cleaning import clean_boot_once
from agent.application.ports import ActivationExit
from agent.application.report import Result
from agent.application.run import begin, carry_out
from agent.application.upgrade import upgrade
from agent.domain.errors import HostError, JournalError, Kind
from agent.domain.facts import FreeSpace
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from fakes.runs import an_arrival
from fakes.samples import OLD
from fakes.world import WATCHFUL, World, system

NEW, NEWER, OTHER = system(1), system(2), system(3)
INSTALL = "switch-to-configuration boot"
FULL = FreeSpace(store=100 << 30, boot=1 << 20)
ROOMY = FreeSpace(store=100 << 30, boot=1 << 30)


@pytest.fixture
def world():
    """A host on OLD with a full boot partition, which its installer cleans, and a build of NEW."""
    world = World()
    world.publish(1, NEW)
    world.marks.links = {Mark.CONFIRMED: OLD}
    world.host.space = FULL

    def clean():
        world.host.space = ROOMY

    world.steps.at(INSTALL, clean)
    return world


def installs(world):
    return world.systemd.activated.count((Action.BOOT, OLD))


def assert_left_alone(world, policy=WATCHFUL):
    report = world.run(policy)
    assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "boot-space")
    assert world.systemd.activated == []


def test_the_running_systems_installer_cleans_it_and_the_upgrade_goes_on(world):
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.links() == (NEW, OLD, NEW)
    assert installs(world) == 1
    assert world.told.fields_of(events.BOOT_CLEANED) == {
        "toplevel": OLD,
        "before": 1 << 20,
        "after": 1 << 30,
    }
    names = world.steps.among("lock", INSTALL, "switch")
    assert names[:3] == ["lock", INSTALL, "switch"]


def test_where_that_makes_no_room_the_gate_holds_and_it_is_not_done_again(world):
    world.steps.calm()
    for _ in range(3):
        report = world.run()
        assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "boot-space")
    assert installs(world) == 1


def test_it_is_done_once_for_each_running_system(world):
    world.run()
    world.host.space = FULL
    world.publish(2, NEWER)
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.systemd.activated == [(Action.BOOT, OLD), (Action.BOOT, NEW)]


def test_a_host_with_room_is_left_alone(world):
    world.host.space = ROOMY
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.systemd.activated == []


def test_a_dry_run_cleans_nothing(world):
    report = world.run(dry_run=True)
    assert report.outcome is Outcome.DRY_RUN
    assert (world.systemd.activated, world.journal.cleaned) == ([], set())


def test_a_gate_before_it_goes_first(world):
    world.journal.record(an_arrival(9, toplevel=OLD))
    report = world.run()
    assert report.reasons[0][0] == "downgrade"
    assert world.systemd.activated == []


def test_a_person_who_ignores_the_gate_needs_no_cleaning(world):
    report = world.carry_out(upgrade, ignored_gates=frozenset({"boot-space"}))
    assert report.outcome is Outcome.CONFIRMED
    assert world.systemd.activated == []


# Whose partition it is


def test_another_default_is_a_persons_choice(world):
    world.host.loader.installed = OTHER
    assert_left_alone(world)


def test_an_unknown_default_is_no_choice(world):
    world.host.loader.installed = None
    assert world.run().outcome is Outcome.CONFIRMED
    assert installs(world) == 1


@pytest.fixture
def specialised(world):
    """The host runs a specialisation that the build has, too."""
    world.host.specialise(OLD, "debug", OTHER, "k1")
    world.host.specialise(NEW, "debug", NEWER, "k1")
    world.host.running = OTHER
    world.host.loader.entries = {OLD, OTHER, NEW, NEWER}
    return world


@pytest.mark.parametrize("default", [OLD, OTHER])
def test_a_running_specialisation_keeps_the_default(specialised, default):
    specialised.host.loader.installed = default
    assert clean(specialised)
    assert specialised.host.loader.installed == default
    assert installs(specialised) == 1
    assert not clean(specialised)


def test_a_default_that_could_not_be_restored_is_not_touched(specialised):
    specialised.host.loader.installed = OTHER
    specialised.host.loader.entries = {OLD}
    assert_left_alone(specialised)


def test_a_default_that_is_not_restored_holds(specialised):
    specialised.host.loader.installed = OTHER
    specialised.steps.at(INSTALL, lambda: setattr(specialised.host.loader, "is_broken", True))
    assert not clean(specialised)
    assert specialised.told.fields_of(events.BOOT_NOT_CLEANED)["default"] == OLD


def test_what_is_foreign_or_staged_is_left_alone(world):
    world.host.profile = NEWER
    world.host.contents[NEWER] = world.host.contents[NEW]
    world.marks.set(Mark.STAGED, NEWER)
    assert_left_alone(world)


@pytest.mark.parametrize("is_running", [True, None])
def test_an_activation_of_others_or_a_silent_systemd_is_left_alone(world, is_running):
    if is_running:
        world.systemd.is_running = True
    else:
        world.systemd.is_silent = True
    assert not clean(world)
    assert world.systemd.activated == []


@pytest.mark.parametrize(
    "mark",
    [Mark.PENDING, Mark.STAGED, Mark.ROLLING_BACK, Mark.REBOOTING_BACK, Mark.ROLLED_BACK],
)
def test_nothing_may_be_under_way(world, mark):
    world.marks.set(mark, NEW)
    assert not clean(world)
    assert world.systemd.activated == []


@pytest.mark.parametrize("what", ["running", "profile"])
@pytest.mark.parametrize("path", [NEW, None])
def test_the_confirmed_system_must_be_what_runs_and_what_is_booted_next(world, what, path):
    setattr(world.host, what, path)
    assert not clean(world)
    assert world.systemd.activated == []


def test_a_host_without_a_confirmed_system_is_left_alone(world):
    world.marks.links = {}
    assert not clean(world)
    assert world.marks.read() == Marks()
    assert world.systemd.activated == []


def clean(world):
    """Return what came of trying to clean."""
    results = []

    async def body(run):
        results.append(await clean_boot_once(run))
        return Result(Outcome.NOTHING_TO_DO)

    async def use_case(ports, policy, settings):
        return await carry_out(begin(ports, policy, settings), body)

    world.carry_out(use_case)
    return results[0]


# What goes wrong


def test_what_cannot_be_remembered_is_not_done(world):
    world.journal.plan_fault = JournalError(Kind.STATE_FULL, "no room")
    assert_left_alone(world)


@pytest.mark.parametrize("exit_code", [1, 4, -9])
def test_an_installer_that_fails_is_told_and_not_run_again(world, exit_code):
    world.systemd.exits = [ActivationExit(exit_code, "Failed to install bootloader")]
    report = world.run()
    assert report.reasons[0][0] == "boot-space"
    told = world.told.fields_of(events.BOOT_NOT_CLEANED)
    assert told == {"toplevel": OLD, "returncode": exit_code, "default": OLD}
    world.run()
    assert installs(world) == 1


def test_one_that_cannot_be_started_is_reported(world):
    world.systemd.activate_fault = HostError(Kind.ROLL_BACK_FAILED, "no systemd-run")
    assert world.run().reasons[0][0] == "boot-space"
    assert world.told.fields_of(events.BOOT_NOT_CLEANED)["error.kind"] == "roll-back-failed"


def test_a_default_that_is_another_afterwards_holds(world):
    world.systemd.switches = lambda *_: setattr(world.host.loader, "installed", OTHER)
    report = world.run()
    assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "boot-space")
    assert world.told.fields_of(events.BOOT_NOT_CLEANED)["default"] == OTHER
    assert world.host.running == OLD
