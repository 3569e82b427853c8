"""A Hydra that has too much to do is asked less, and the host's own duties are done all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.application.upgrade import upgrade
from agent.domain.errors import ExitCode, HydraError, JournalError, Kind
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from fakes.samples import OLD
from fakes.world import WATCHFUL, World, system

NEW = system(1)
BUSY = [
    *(Kind.HYDRA_TIMEOUT, Kind.HYDRA_DEADLINE),
    *(Kind.HYDRA_RATE_LIMITED, Kind.HYDRA_SERVER_ERROR),
]


@pytest.fixture
def world():
    world = World()
    world.publish(1, OLD)
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    assert world.hydra.spared == []
    return world


def fail(world, kind):
    world.hydra.fault = HydraError(kind, "not now")
    assert world.run().exit_code is ExitCode.UNREACHABLE
    world.hydra.fault = None


@pytest.mark.parametrize("wait", [0.0, 30.0])
def test_what_the_idle_path_has_found_is_heeded(world, wait):
    report = world.carry_out(upgrade, hydra_wait=wait)
    assert report.outcome is Outcome.NOTHING_TO_DO
    assert world.hydra.spared == [wait]


def test_what_decides_nothing_is_not_asked(world):
    world.carry_out(upgrade, hydra_wait=0.0)
    assert "outlook" not in world.steps
    assert "newest_good_build" in world.steps


@pytest.mark.parametrize("kind", BUSY)
def test_after_a_run_that_failed_for_it_the_next_one_asks_less(world, kind):
    fail(world, kind)
    assert world.hydra.spared == []
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    assert world.hydra.spared == [None]


@pytest.mark.parametrize("kind", [Kind.HYDRA_REFUSED, Kind.HYDRA_UNRESOLVABLE, Kind.HYDRA_TLS])
def test_a_hydra_that_was_not_reached_has_no_trouble_with_questions(world, kind):
    fail(world, kind)
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    assert world.hydra.spared == []


def test_trouble_of_yesterday_is_over(world):
    fail(world, Kind.HYDRA_TIMEOUT)
    world.clock.move(timedelta(days=1).total_seconds())
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    assert world.hydra.spared == []


def test_a_history_that_cannot_be_read_says_nothing_of_it(world):
    fail(world, Kind.HYDRA_TIMEOUT)
    world.journal.read_fault = JournalError(Kind.JOURNAL_CORRUPT, "damaged")
    world.run()
    assert world.hydra.spared == []


def test_an_upgrade_that_is_to_be_decided_is_decided_first(world):
    """The confirm unit judges what is pending; only afterwards Hydra is asked, and spared."""
    world.publish(2, NEW)
    world.host.generations[2], world.host.generation = NEW, 2
    world.host.running = NEW
    world.marks.set(Mark.PENDING, NEW)
    world.hydra.fault = HydraError(Kind.HYDRA_SERVER_ERROR, "503")
    report = world.carry_out(upgrade, hydra_wait=0.0)
    assert report.exit_code is ExitCode.UNREACHABLE
    assert world.marks.read().confirmed == NEW
    assert world.marks.read().pending is None
    assert world.hydra.spared == [0.0]


def test_an_upgrade_can_be_had_from_a_hydra_that_was_busy(world):
    world.publish(2, NEW)
    report = world.carry_out(upgrade, WATCHFUL, hydra_wait=0.0)
    assert report.outcome is Outcome.CONFIRMED
    assert world.host.running == NEW
