from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.application.ports import ActivationExit
from agent.domain.errors import JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from fakes.runs import an_arrival
from fakes.samples import NEW, OLD, OTHER
from fakes.stepwise import system_with
from fakes.world import WATCHFUL, World, system


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
    report = world.carry_out(verdicts.confirm)
    assert report.outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=OLD, tested=NEW)


def test_a_profile_without_a_generation_before_is_left_and_the_row_is_closed(world):
    world.host.generations.clear()
    world.host.profile = NEW
    world.host.running = OTHER
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING)
    assert world.carry_out(verdicts.confirm).outcome is Outcome.NOTHING_TO_DO
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


# Cut short while another activation was waited for


@pytest.mark.parametrize("who_is_last", ["the person", "the agent"])
def test_a_boot_that_a_person_has_finished_stays_where_the_run_was_killed(world, who_is_last):
    order = (OTHER, NEW) if who_is_last == "the agent" else (NEW, OTHER)
    for path in order:
        world.host.profile = path
    world.host.loader.installed = OTHER
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING)
    world.carry_out(partial(dead_man, toplevel=NEW))
    assert world.links() == (OLD, OLD, OTHER)
    assert world.host.loader.installed == OTHER
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_default_that_was_left_on_an_older_generation_is_no_persons(world):
    """As after an installer that could not write: it is neither in the profile nor just before it."""
    for path in (OTHER, OLD, NEW):
        world.host.profile = path
    world.host.loader.installed = OTHER
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING)
    world.carry_out(partial(dead_man, toplevel=NEW))
    assert world.links() == (OLD, OLD, OLD)
    assert world.host.loader.installed == OLD


def test_what_ran_before_the_upgrade_was_not_brought_meanwhile(world):
    """A foreign system that a person has let go runs, is in the profile and the default."""
    world.somebody_switches(OTHER)
    world.host.profile = NEW
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING, previous=OTHER)
    world.carry_out(partial(dead_man, toplevel=NEW))
    assert world.links() == (OLD, OLD, OLD)


def test_a_generation_that_the_person_has_rolled_back_from_does_not_come_back(world):
    world.host.generations = {1: OTHER, 2: OLD, 3: NEW}
    world.host.generation = 3  # ours, in a race that was lost to `switch --rollback`
    world.host.running = world.host.loader.installed = OTHER
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING)
    world.carry_out(verdicts.confirm)
    assert world.links() == (OTHER, OLD, OTHER)


def test_where_no_mark_and_no_link_says_what_was_before_it_is_the_generation_before(world):
    world.host.generations = {1: system(5), 2: NEW}
    world.host.generation = 2
    world.host.running = OTHER
    world.marks.links = {Mark.PENDING: NEW}
    world.marks.times = {Mark.PENDING: 0.0}
    world.carry_out(verdicts.confirm)
    assert world.links() == (OTHER, OLD, system(5))


def test_a_system_that_was_only_tested_leaves_the_profile_what_it_was(world):
    world.host.generations = {1: OLD, 2: system(5), 3: NEW}
    world.host.generation = 3  # number 2 was rolled back from long ago
    world.host.running = OTHER
    world.marks.set(Mark.PENDING, NEW)
    cut_short(world, Outcome.ACTIVATING)
    world.carry_out(verdicts.confirm)
    assert world.links() == (OTHER, OLD, OLD)


# Stopped half-way, which ends a transient unit as a success


@pytest.mark.parametrize("action", [Action.SWITCH, Action.TEST])
def test_a_switch_that_was_stopped_is_not_confirmed(world, action):
    world.publish(1, NEW)
    world.systemd.work_left = True
    report = world.run(replace(WATCHFUL, action=action))
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.ACTIVATION_KILLED)
    assert "stopped half-way" in report.error.message
    assert world.links() == (OLD, OLD, OLD)
    assert world.last_row().fault == "suspect"


def test_what_an_earlier_switch_has_left_does_not_bear_on_a_boot(world):
    world.publish(1, NEW)
    world.systemd.work_left = True
    assert world.run(replace(WATCHFUL, action=Action.BOOT)).outcome is Outcome.STAGED


@pytest.mark.parametrize(
    ("phase", "confirmed", "end"),
    [
        (Outcome.ACTIVATING, OLD, Outcome.ROLLED_BACK),
        (Outcome.PENDING, OLD, Outcome.CONFIRMED),
        (None, OLD, Outcome.CONFIRMED),
        (Outcome.ACTIVATING, NEW, Outcome.CONFIRMED),
    ],
)
def test_a_switch_that_was_stopped_with_its_agent_is_undone(world, phase, confirmed, end):
    world.host.activate(Action.SWITCH, NEW)
    world.marks.set(Mark.CONFIRMED, confirmed)
    world.marks.set(Mark.PENDING, NEW)
    if phase is not None:
        cut_short(world, phase)
    world.systemd.work_left = True
    world.carry_out(verdicts.confirm)
    is_back = end is Outcome.ROLLED_BACK
    assert world.host.running == (OLD if is_back else NEW)
    assert world.marks.read().confirmed == (OLD if is_back else NEW)
