"""A host that runs a specialisation runs it after an upgrade, a roll-back and a reboot, too."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.dead_man import dead_man
from agent.application.ports import ActivationExit
from agent.application.upgrade import upgrade
from agent.domain.errors import HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, RebootMode, Strategy
from fakes.samples import OLD
from fakes.world import WATCHFUL, World, system

NEW, OLD_QUIET, NEW_QUIET, OLD_LOUD, NEW_LOUD = (system(number) for number in range(1, 6))
REBOOTS = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED)
STAGES = replace(WATCHFUL, action=Action.BOOT)


@pytest.fixture
def world():
    """A host that has booted the specialisation `quiet` of a confirmed system, and runs it."""
    world = World()
    world.publish(1, NEW)
    world.host.specialise(OLD, "quiet", OLD_QUIET, "k1")
    world.host.specialise(NEW, "quiet", NEW_QUIET, "k1")
    world.host.running = world.host.booted = world.host.loader.installed = OLD_QUIET
    world.marks.set(Mark.CONFIRMED, OLD)
    return world


def needs_a_reboot(world):
    world.host.contents[NEW].artifacts = world.host.contents[NEW_QUIET].artifacts = replace(
        world.host.contents[NEW].artifacts, kernel="/k2"
    )


def loses_it(world):
    world.host.contents[NEW].specialisations.clear()


# An upgrade


@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_upgrade_keeps_the_specialisation_of_that_name(world, strategy):
    report = world.run(replace(WATCHFUL, strategy=strategy))
    assert report.outcome is Outcome.CONFIRMED
    assert (world.host.running, world.host.profile) == (NEW_QUIET, NEW)
    assert world.nixos_rebuild.specialisations == ["quiet"]
    assert world.host.loader.installed == NEW_QUIET
    assert world.marks.read() == Marks(confirmed=NEW)


def test_a_test_keeps_it_too(world):
    world.run(replace(WATCHFUL, action=Action.TEST))
    assert (world.host.running, world.host.profile) == (NEW_QUIET, OLD)
    assert world.host.loader.installed == OLD_QUIET


def test_a_dry_activation_asks_for_none(world):
    report = world.run(replace(WATCHFUL, action=Action.DRY_ACTIVATE))
    assert report.outcome is Outcome.DRY_ACTIVATED
    assert world.nixos_rebuild.specialisations == [None]


def test_a_host_on_the_system_as_such_stays_on_it(world):
    world.host.running = world.host.booted = world.host.loader.installed = OLD
    assert world.run().outcome is Outcome.CONFIRMED
    assert (world.host.running, world.host.loader.installed) == (NEW, NEW)
    assert world.nixos_rebuild.specialisations == [None]


@pytest.mark.parametrize(("chosen", "runs"), [("loud", NEW_LOUD), ("", NEW)])
def test_the_settings_choose_another_one_or_none(world, chosen, runs):
    world.host.specialise(NEW, "loud", NEW_LOUD, "k1")
    assert world.run(replace(WATCHFUL, specialisation=chosen)).outcome is Outcome.CONFIRMED
    assert world.host.running == runs


def test_a_base_system_that_runs_in_its_place_was_brought_by_another(world):
    world.nixos_rebuild.activate = lambda action, path, *_: world.host.activate(action, path)
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.HELD, Kind.ACTIVATION_BUSY)
    assert world.journal.denied == []


def test_one_of_a_generation_before_the_profile_s_is_kept_too(world):
    world.marks.remove(Mark.CONFIRMED)  # the first run: what runs is adopted
    other = system(8)
    world.host.contents[other] = replace(world.host.contents[OLD], specialisations={})
    world.host.generations[1] = OLD
    world.host.profile = other
    world.run(replace(WATCHFUL, foreign_hold=timedelta(0)))
    assert (world.host.running, world.host.profile) == (NEW_QUIET, NEW)


# Lost


@pytest.mark.parametrize("policy", [WATCHFUL, REBOOTS, STAGES])
def test_a_system_without_it_is_held(world, policy):
    loses_it(world)
    report = world.run(policy)
    assert (report.outcome, report.reasons) == (
        Outcome.HELD,
        (
            (
                "specialisation-lost",
                "the candidate has no specialisation 'quiet', which is to run here; it has none",
            ),
        ),
    )
    assert world.links() == (OLD_QUIET, OLD_QUIET, OLD)
    assert world.nixos_rebuild.activated == []


def test_what_it_has_in_its_place_is_named(world):
    loses_it(world)
    world.host.specialise(NEW, "loud", NEW_LOUD, "k1")
    assert world.run().reasons[0][1].endswith("it has loud")


def test_one_that_was_chosen_and_is_not_there_holds_too(world):
    report = world.run(replace(WATCHFUL, specialisation="loud"))
    assert [name for name, _ in report.reasons] == ["specialisation-lost"]


def test_a_person_may_let_it_go(world):
    loses_it(world)
    report = world.carry_out(
        upgrade,
        ignored_gates=frozenset({"specialisation-lost"}),
        ignored_because="quiet is gone",
    )
    assert report.outcome is Outcome.CONFIRMED
    assert world.host.running == NEW


# Boots


@pytest.mark.parametrize("tries_boot", [True, False])
def test_a_reboot_is_into_the_specialisation(world, tries_boot):
    needs_a_reboot(world)
    policy = replace(REBOOTS, reboot=replace(REBOOTS.reboot, tries_boot=tries_boot))
    assert world.run(policy).outcome is Outcome.REBOOTING
    default = OLD_QUIET if tries_boot else NEW_QUIET
    assert world.host.loader.installed == default
    world.host.boot()
    assert world.host.running == NEW_QUIET
    assert world.run(policy).outcome is not Outcome.REBOOTING
    assert world.marks.read() == Marks(confirmed=NEW)
    assert world.host.loader.installed == NEW_QUIET


def test_a_staged_system_is_booted_as_its_specialisation(world):
    assert world.run(STAGES).outcome is Outcome.STAGED
    assert world.host.loader.installed == NEW_QUIET


@pytest.mark.parametrize("policy", [REBOOTS, STAGES])
def test_where_the_loader_cannot_start_it_nothing_is_staged(world, policy):
    needs_a_reboot(world)
    world.host.loader.entries.clear()
    report = world.run(policy)
    assert (report.outcome, [name for name, _ in report.reasons]) == (
        Outcome.HELD,
        ["specialisation-lost"],
    )
    assert world.links() == (OLD_QUIET, OLD_QUIET, OLD)
    assert world.nixos_rebuild.activated == []


def test_a_person_may_let_the_next_boot_be_of_the_system_as_such(world):
    world.host.loader.entries.clear()
    report = world.carry_out(
        upgrade, STAGES, ignored_gates=frozenset({"specialisation-lost"}), ignored_because="ok"
    )
    assert report.outcome is Outcome.STAGED
    assert world.host.loader.installed == NEW


def test_a_staged_system_whose_entry_is_missing_is_taken_back(world):
    world.host.loader.entries.remove(NEW_QUIET)
    report = world.run(STAGES)
    assert (report.outcome, report.error.kind) == (
        Outcome.ROLLED_BACK,
        Kind.ACTIVATION_INEFFECTIVE,
    )
    assert world.links() == (OLD_QUIET, OLD_QUIET, OLD)
    assert world.host.loader.installed == OLD_QUIET
    assert world.journal.denied == []


def test_a_reboot_that_would_not_be_into_it_is_held(world):
    needs_a_reboot(world)
    assert world.run(STAGES).outcome is Outcome.STAGED
    world.host.loader.installed = NEW
    world.host.loader.entries.clear()
    world.host.loader.name = None
    report = world.run(REBOOTS)
    assert world.host.reboots == 0
    reason = dict(report.reasons)["specialisation-lost"]
    assert reason.startswith("the boot loader would not start the specialisation ")


def test_a_person_may_let_the_reboot_be_into_the_system_as_such(world):
    needs_a_reboot(world)
    assert world.run(STAGES).outcome is Outcome.STAGED
    world.host.loader.installed = NEW
    world.host.loader.entries.clear()
    world.host.loader.name = None
    report = world.carry_out(
        upgrade, REBOOTS, ignored_gates=frozenset({"specialisation-lost"}), ignored_because="ok"
    )
    assert report.outcome is Outcome.REBOOTING


@pytest.mark.parametrize("how", ["refused", "failed"])
def test_a_default_that_no_installer_can_move_is_not_taken_for_moved(world, how):
    assert world.run(STAGES).outcome is Outcome.STAGED
    world.host.loader.installed = OLD_QUIET
    world.host.loader.name = None
    if how == "refused":
        world.systemd.activate_fault = HostError(Kind.ROLL_BACK_FAILED, "no such file")
    else:
        world.systemd.exits = [ActivationExit(1, "no room")] * 4
    report = world.run(REBOOTS)
    assert (report.outcome, world.host.reboots) == (Outcome.HELD, 0)


def test_a_switch_goes_on_where_the_loader_has_no_entry(world):
    world.host.loader.entries.clear()
    world.host.loader.installed = OLD
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.host.running == NEW_QUIET
    assert events.DEFAULT_LEFT.name in world.told.names()


def test_a_decision_that_another_process_has_taken_is_only_reported(world):
    world.host.loader.entries.remove(NEW_QUIET)

    def decides():
        world.marks.links[Mark.TESTED] = world.marks.links.pop(Mark.PENDING)

    world.steps.at("boot", lambda: setattr(world.marks, "before_move", decides))
    world.run(replace(STAGES, strategy=Strategy.STORE_PATH))
    assert world.marks.read().pending is None
    assert world.systemd.activated == []


def test_a_note_that_cannot_be_left_keeps_nobody_from_upgrading(world):
    def fails(_name):
        raise HostError(Kind.MARKS_UNUSABLE, "no room")

    world.marks.note_specialisation = fails
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.host.running == NEW_QUIET


# Roll-backs


def test_a_reboot_back_is_into_what_ran(world):
    needs_a_reboot(world)
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    world.host.boot()
    world.service_breaks()
    world.run(REBOOTS)
    assert world.host.loader.starts() == OLD_QUIET


@pytest.mark.parametrize("returncode", [2, 4])
def test_a_failed_activation_is_rolled_back_to_what_ran(world, returncode):
    world.nixos_rebuild.ends = ActivationExit(returncode, "Failed to run activate script")
    world.nixos_rebuild.moves_before_failing = True
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD_QUIET, OLD_QUIET, OLD)
    assert world.host.loader.installed == OLD_QUIET


def test_a_broken_system_is_rolled_back_from_to_what_ran(world):
    world.steps.at("activate-flake", world.service_breaks)
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD_QUIET, OLD_QUIET, OLD)
    assert world.host.loader.installed == OLD_QUIET


@pytest.mark.parametrize(
    ("default", "installs"),
    [(NEW_QUIET, [(Action.BOOT, OLD)]), (OLD, []), (OLD_QUIET, [])],
)
def test_the_loaders_files_are_written_where_what_ran_is_not_in_them_as_the_default(
    world, default, installs
):
    def is_set():
        world.host.loader.installed = default

    world.steps.at("activate-flake", world.service_breaks)
    world.steps.at("switch-to-configuration switch", is_set)
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.systemd.activated[1:] == [(Action.SWITCH, OLD_QUIET), *installs]
    assert world.host.loader.installed == OLD_QUIET


@pytest.mark.parametrize(("before", "runs"), [(OLD_QUIET, OLD_QUIET), (OLD, OLD)])
def test_the_dead_man_goes_back_to_what_ran_without_a_history(world, before, runs):
    world.host.specialise(NEW, "loud", NEW_LOUD, "k1")
    world.host.running = world.host.booted = before
    armed = {}
    world.steps.at("arm", lambda: armed.update(name=world.marks.specialisation()))
    world.run(replace(WATCHFUL, specialisation="loud"))
    world.marks.links = {}
    world.marks.times = {}
    world.host.running, world.host.profile = NEW_LOUD, NEW
    world.marks.set(Mark.CONFIRMED, OLD)
    world.marks.set(Mark.PENDING, NEW)
    world.marks.special = armed["name"]
    world.journal.rows.clear()
    world.steps.calm()
    del world.systemd.programs["nixos-hydra-agent-confirm.service"]
    world.systemd.start_fault = HostError(Kind.CONFIRM_UNIT_FAILED, "it cannot start")
    report = world.carry_out(partial(dead_man, toplevel=NEW))
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.host.running == runs
