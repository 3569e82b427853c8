"""What is no mark in a mark's place: the others end what is under way, and nothing new begins."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.application.manual.pauses import reboot_by_hand
from agent.application.run import RunSettings
from agent.application.status import take_status
from agent.domain.errors import Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from fakes.pending import NEW, pending_world
from fakes.samples import OLD
from fakes.world import STORE, WATCHFUL, World

OTHERS = [Mark.STAGED, Mark.TESTED, Mark.ROLLING_BACK, Mark.REBOOTING_BACK, Mark.ROLLED_BACK]


@pytest.fixture(params=OTHERS)
def world(request):
    """A host on NEW, which is to be confirmed, with garbage in the place of some other mark."""
    world = pending_world()
    world.marks.unreadable = {request.param}
    return world


def test_the_pending_system_is_confirmed(world):
    assert world.carry_out(verdicts.confirm).outcome is Outcome.CONFIRMED
    assert world.marks.read().confirmed == NEW


def test_a_broken_one_is_rolled_back_from(world):
    world.service_breaks()
    assert world.carry_out(verdicts.confirm).outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)


def test_the_dead_man_has_it_judged(world):
    world.service_breaks()
    world.carry_out(partial(dead_man, toplevel=NEW))
    assert world.links() == (OLD, OLD, OLD)


def test_the_dead_man_ends_an_activation_that_was_cut_short():
    world = pending_world(outcome="activating")
    world.host.running = OLD
    world.marks.unreadable = {Mark.STAGED}
    world.carry_out(partial(dead_man, toplevel=NEW))
    assert world.links() == (OLD, OLD, OLD)
    assert world.marks.read().pending is None


def test_a_person_rolls_back(world):
    report = world.carry_out(partial(verdicts.roll_back_by_hand, reason="it is slow"))
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)


def test_a_confirmed_system_that_nobody_can_read_comes_from_the_history():
    world = pending_world()
    del world.marks.links[Mark.CONFIRMED]
    world.marks.unreadable = {Mark.CONFIRMED}
    world.service_breaks()
    assert world.carry_out(verdicts.confirm).outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)


def test_a_pending_system_that_nobody_can_read_comes_from_the_history():
    world = pending_world()
    del world.marks.links[Mark.PENDING]
    world.marks.unreadable = {Mark.PENDING}
    assert world.carry_out(verdicts.confirm).outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("use", ["run", "dry run", "reboot"])
def test_nothing_new_is_begun(mark, use):
    world = World()
    world.publish(1, NEW)
    world.marks.set(Mark.CONFIRMED, OLD)
    world.marks.links.pop(mark, None)
    world.marks.unreadable = {mark}
    if use == "reboot":
        report = world.carry_out(reboot_by_hand)
    else:
        report = world.run(dry_run=use == "dry run")
    assert report.error.kind is Kind.MARKS_UNUSABLE
    assert "remove it" in report.error.hint
    assert world.is_untouched()
    assert world.marks.unreadable == {mark}


def test_the_dead_man_looks_into_the_history_for_it():
    world = pending_world()
    del world.marks.links[Mark.PENDING]
    world.marks.unreadable = {Mark.PENDING}
    world.service_breaks()
    world.carry_out(partial(dead_man, toplevel=NEW))
    assert world.links() == (OLD, OLD, OLD)


@pytest.mark.parametrize("toplevel", [NEW, None])
@pytest.mark.parametrize("mark", [Mark.PENDING, Mark.ROLLING_BACK])
def test_the_dead_man_does_not_take_what_it_cannot_read_for_nothing(toplevel, mark):
    world = World()
    world.publish(1, NEW)
    world.host.running = world.host.booted = NEW
    world.marks.set(Mark.CONFIRMED, OLD)
    world.marks.unreadable = {mark}
    report = world.carry_out(partial(dead_man, toplevel=toplevel))
    assert report.error.kind is Kind.MARKS_UNUSABLE


def test_the_status_says_so_beside_the_marks_that_it_can_read(world):
    settings = RunSettings("status", STORE)
    status = asyncio.run(take_status(world.ports, WATCHFUL, settings))
    assert status.error.kind is Kind.MARKS_UNUSABLE
    assert status.marks.pending == NEW
