from __future__ import annotations

from dataclasses import replace

import pytest

from agent.application import events
from agent.application.ports import ActivationExit
from agent.domain.errors import ExitCode, HostError, JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import RebootMode
from fakes.samples import OLD
from fakes.world import WATCHFUL, World, system

NEW = system(1)
REBOOTS = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED)


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


# Reboots


def test_a_switch_to_another_kernel_becomes_boot_and_a_reboot_when_it_may(world):
    world.publish(1, NEW, kernel="k2")
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.REBOOTING, ExitCode.DONE)
    assert report.reasons == (("reboot", "kernel differ"),)
    assert world.steps.among("boot", "switch", "reboot", "journal staged", "journal rebooting") == [
        "boot", "journal staged", "journal rebooting", "reboot", "journal rebooting",
    ]  # fmt: skip
    assert world.summary()["action"] == "boot"
    assert world.last_row().outcome == "rebooting"


def test_after_the_reboot_nothing_is_left_to_do(world):
    world.publish(1, NEW, kernel="k2")
    world.run(REBOOTS)
    world.host.boot()
    assert world.run(REBOOTS).outcome is Outcome.NOTHING_TO_DO


def test_a_switch_to_another_kernel_that_may_not_reboot_says_that_one_is_needed(world):
    world.publish(1, NEW, kernel="k2")
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.told.fields_of(events.REBOOT_NEEDED) == {"reason": "kernel differ"}
    assert "reboot" not in world.steps


def test_what_the_dead_man_has_claimed_in_the_very_instant_is_not_rebooted_into(world):
    world.publish(1, NEW, kernel="k2")
    world.marks.before_move = lambda: world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.FAILED)
    assert world.told.fields_of(events.CLAIM_LOST) == {"toplevel": NEW}
    assert world.host.reboots == 0
    assert world.marks.read() == Marks(confirmed=OLD, rolling_back=NEW)
    assert world.last_row().outcome == "activating"  # who has claimed it writes the rest
    world.marks.before_move = None
    world.run(REBOOTS)
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.host.profile == OLD
    assert world.host.reboots == 0


def test_a_container_is_never_rebooted(world):
    world.host.is_container = True
    world.publish(1, NEW, kernel="k2")
    assert world.run(replace(REBOOTS, reboot_mode=RebootMode.ALWAYS)).outcome is Outcome.CONFIRMED
    assert "reboot" not in world.steps


def test_the_reboot_need_of_a_booted_specialisation_is_that_of_its_counterpart(world):
    special = {OLD: system(8), NEW: system(9)}
    for path, variant in special.items():
        world.host.specialise(path, "gaming", variant, "k2")
    world.host.booted = special[OLD]
    assert world.run(REBOOTS).outcome is Outcome.CONFIRMED
    assert "reboot" not in world.steps


def test_where_the_booted_system_is_unknown_no_need_for_a_reboot_is_shown(world):
    world.host.booted = None
    world.publish(1, NEW, kernel="k2")
    assert world.run(REBOOTS).outcome is Outcome.CONFIRMED


def test_no_reboot_follows_a_failed_activation(world):
    world.publish(1, NEW, kernel="k2")
    world.nixos_rebuild.ends = ActivationExit(1, "")
    assert world.run(REBOOTS).outcome is Outcome.FAILED
    assert "reboot" not in world.steps


def test_a_refused_reboot_is_a_failure_and_only_the_reboot_is_tried_again(world):
    world.publish(1, NEW, kernel="k2")
    world.steps.at("reboot", HostError(Kind.REBOOT_FAILED, "an inhibitor"))
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.exit_code) == ("staged", "reboot-failed", 1)
    world.steps.calm()
    report = world.run(REBOOTS)
    assert (report.decision, report.outcome) == ("reboot", Outcome.REBOOTING)
    assert "boot" not in world.steps


def test_no_reboot_is_asked_for_that_could_not_be_recorded_first(world):
    world.publish(1, NEW, kernel="k2")
    world.steps.at("journal rebooting", JournalError(Kind.STATE_FULL, "full"))
    assert world.run(REBOOTS).error.kind is Kind.STATE_FULL
    assert "reboot" not in world.steps


@pytest.mark.parametrize(
    "happening",
    [
        HostError(Kind.REBOOT_FAILED, "an inhibitor"),
        JournalError(Kind.STATE_FULL, "full"),
    ],
)
def test_a_reboot_that_does_not_come_about_leaves_nothing_to_be_started_once(world, happening):
    world.publish(1, NEW, kernel="k2")
    step = "reboot" if isinstance(happening, HostError) else "journal rebooting"
    world.steps.at(step, happening)
    assert world.run(REBOOTS).outcome is Outcome.FAILED
    assert world.told.fields_of(events.TRY_BOOT_SET)["toplevel"] == NEW
    assert (world.host.loader.once, world.host.loader.installed) == (None, OLD)


def test_a_reboot_that_is_held_late_leaves_nothing_to_be_started_once(world):
    world.publish(1, NEW, kernel="k2")
    world.host.loader.boot_once = _with(world.host.loader.boot_once, world.canary_dies)
    assert world.run(REBOOTS).outcome is Outcome.STAGED
    assert world.told.fields_of(events.TRY_BOOT_SET)["toplevel"] == NEW
    assert (world.host.loader.once, world.host.loader.installed) == (None, OLD)
    world.host.boot()
    assert world.host.running == OLD


def _with(method, happening):
    """Return a method of a port after which something happens."""

    async def both(*given):
        told = await method(*given)
        happening()
        return told

    return both
