from __future__ import annotations

from functools import partial

import pytest

from agent.application import by_hand
from agent.application.dead_man import dead_man
from agent.application.ports import ActivationExit
from agent.domain.errors import JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from fakes.runs import an_arrival
from fakes.samples import NEW, OLD, OTHER
from fakes.stepwise import system_with
from fakes.world import World


@pytest.fixture
def world():
    """A host on a confirmed system, with two more in its store."""
    world = World()
    for path in (NEW, OTHER):
        world.host.contents[path] = system_with("k1")
    world.marks.set(Mark.CONFIRMED, OLD)
    return world


def cut_short(world, phase, **facts):
    """Let the history have a row of an earlier run that did not come to its end."""
    world.journal.record(an_arrival(99, NEW, phase, finished_at=None, **facts))


def test_the_dead_man_rolls_back_on_a_full_disk(world):
    world.marks.set(Mark.PENDING, NEW)
    world.host.profile = NEW
    cut_short(world, Outcome.ACTIVATING)
    world.journal.fault = JournalError(Kind.STATE_FULL, "no room")
    report = world.carry_out(partial(dead_man, toplevel=NEW))
    assert report.outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.host.profile) == (OLD, OLD)
    assert world.marks.read() == Marks(confirmed=OLD, rolled_back=NEW)


def test_a_tested_system_stays_tested_where_its_row_is_lost(world):
    world.marks.set(Mark.PENDING, NEW)
    world.host.activate(Action.TEST, NEW)
    report = world.carry_out(by_hand.confirm)
    assert report.outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=OLD, tested=NEW)


def test_a_profile_without_a_generation_before_is_left_and_the_row_is_closed(world):
    world.host.generations.clear()
    world.host.profile = NEW
    world.host.running = OTHER
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING)
    assert world.carry_out(by_hand.confirm).outcome is Outcome.NOTHING_TO_DO
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.last_row().outcome == Outcome.FAILED
    assert (world.host.running, world.host.profile) == (OTHER, NEW)


def test_a_lost_race_for_a_system_in_the_profile_leaves_the_profile(world):
    world.publish(1, NEW)
    world.host.profile = OTHER
    world.host.profile = NEW
    world.marks.set(Mark.STAGED, NEW)
    world.nixos_rebuild.ends = ActivationExit(1, "Could not acquire lock")
    world.run()
    assert world.summary()["error.kind"] == Kind.ACTIVATION_BUSY
    assert world.host.profile == NEW
    assert world.marks.read() == Marks(confirmed=OLD, staged=NEW)
