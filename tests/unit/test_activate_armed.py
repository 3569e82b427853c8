from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.application import events
from agent.domain.confirmation import Baseline
from agent.domain.errors import HostError, JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from fakes.samples import OLD
from fakes.systemd import Armed
from fakes.world import WATCHFUL, PowerCut, World, system

NEW = system(1)
LONGEST = timedelta(minutes=30, seconds=30) + timedelta(minutes=10, seconds=5)
"""`activate-deadline` and `confirm.settle`, then `confirm.deadline` and five seconds for programs."""


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


# The journal in the middle


@pytest.mark.parametrize("phase", ["selected", "verified", "fetched", "armed", "activating"])
def test_nothing_is_begun_that_could_not_be_recorded_first(world, phase):
    world.steps.at(f"journal {phase}", JournalError(Kind.STATE_FULL, "full"))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.STATE_FULL)
    assert world.nixos_rebuild.activated == []
    assert world.links() == (OLD, OLD, OLD)
    world.steps.calm()
    assert world.run().outcome is Outcome.CONFIRMED


def test_an_activation_whose_end_could_not_be_recorded_is_confirmed_all_the_same(world):
    world.steps.at("journal pending", JournalError(Kind.STATE_FULL, "full"))
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)
    assert events.RECORD_FAILED.name in world.told.names()
    assert world.last_row().outcome == "confirmed"


# What is left behind for whoever ends it


def test_the_mark_and_the_timer_are_there_before_the_host_is_touched(world):
    seen = []
    world.steps.at(
        "activate-flake", lambda: seen.append((world.marks.read().pending, world.systemd.timer))
    )
    world.run()
    assert seen == [(NEW, Armed(LONGEST, "run-1", NEW))]


def test_without_a_timer_nothing_is_begun(world):
    world.systemd.arm_fault = HostError(Kind.DEAD_MAN_UNARMED, "no systemd-run")
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.DEAD_MAN_UNARMED)
    assert world.nixos_rebuild.activated == []
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.last_row().outcome == "failed"


def test_without_marks_nothing_is_begun(world):
    world.marks.set(Mark.CONFIRMED, OLD)
    world.marks.write_fault = HostError(Kind.MARKS_UNUSABLE, "read-only")
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.MARKS_UNUSABLE)
    assert world.nixos_rebuild.activated == []
    assert world.systemd.timer is None


def test_how_things_were_before_is_kept_with_the_row(world):
    world.systemd.failed = frozenset({"b.service"})
    world.systemd.is_synchronised = False
    world.service_breaks()
    world.steps.at("switch", PowerCut())
    with pytest.raises(PowerCut):
        world.run()
    assert Baseline.parse(world.last_row().baseline) == Baseline(
        checks={"service": False},
        failed_units=frozenset({"b.service"}),
        hydra=True,
        outside_world=True,
        clock=False,
    )


def test_a_dry_activation_leaves_nothing_behind(world):
    world.run(replace(WATCHFUL, action=Action.DRY_ACTIVATE))
    assert world.steps.among("journal armed", "mark pending", "arm", "probe service") == []
    assert (world.last_row().previous, world.last_row().baseline) == (OLD, None)
