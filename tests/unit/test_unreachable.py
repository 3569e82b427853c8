"""An outage is no failure at once, and is one in the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.application import events
from agent.domain.errors import ExitCode, HydraError, Kind, NixError
from agent.domain.outcome import Outcome
from fakes.samples import OLD
from fakes.world import WATCHFUL, World, system

NEW, NEWER = system(1), system(2)
DAY = timedelta(days=1)
POLICY = replace(WATCHFUL, hydra_patience=3 * DAY)


@pytest.fixture
def world():
    world = World()
    world.publish(1, OLD)
    assert world.run(POLICY).outcome is Outcome.NOTHING_TO_DO
    return world


def go(world, length):
    world.clock.move(length.total_seconds())


def refuse(world):
    world.hydra.fault = HydraError(Kind.HYDRA_REFUSED, "nobody is there")


def answer(world):
    world.hydra.fault = None


def test_an_outage_is_a_failure_only_after_its_time(world):
    refuse(world)
    for _ in range(5):
        go(world, timedelta(hours=12))
        report = world.run(POLICY)
        assert (report.exit_code, report.error.kind) == (ExitCode.UNREACHABLE, Kind.HYDRA_REFUSED)
    go(world, timedelta(hours=12))
    report = world.run(POLICY)
    assert (report.exit_code, report.error.kind) == (ExitCode.FAILED, Kind.HYDRA_REFUSED)
    assert report.outcome is Outcome.FAILED
    assert report.fields()["exit_code"] == 1
    told = world.told.fields_of(events.SILENCE_OVERDUE)
    assert (told["about"], told["seconds"]) == ("hydra", (3 * DAY).total_seconds())


def test_an_answer_that_is_still_to_come_is_of_a_clock_that_was_set_back(world):
    world.journal.note_contact(world.clock.now() + 3650 * DAY)
    refuse(world)
    for _ in range(6):
        assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE
        go(world, timedelta(hours=12))
    assert world.run(POLICY).exit_code is ExitCode.FAILED


def test_it_counts_from_the_last_answer_and_not_from_the_first_run_without(world):
    refuse(world)
    go(world, 3 * DAY)
    assert world.run(POLICY).exit_code is ExitCode.FAILED


def test_an_answer_ends_it_and_the_next_outage_begins_anew(world):
    refuse(world)
    go(world, 2 * DAY)
    world.run(POLICY)
    answer(world)
    assert world.run(POLICY).exit_code is ExitCode.DONE
    assert world.sightings.seen == {}
    go(world, 2 * DAY)
    refuse(world)
    assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE


def test_an_answer_that_an_idle_run_had_ends_it_too(world):
    refuse(world)
    go(world, 2 * DAY)
    world.run(POLICY)
    go(world, DAY)
    world.journal.contact = world.clock.now()
    go(world, DAY)
    assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE


def test_a_host_that_was_never_answered_waits_as_long_and_fails_then(world):
    world.journal.contact = None
    refuse(world)
    assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE
    go(world, 3 * DAY - timedelta(seconds=1))
    assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE
    go(world, timedelta(seconds=1))
    assert world.run(POLICY).exit_code is ExitCode.FAILED


def test_time_in_which_the_host_was_off_is_no_outage(world):
    go(world, 30 * DAY)
    world.host.boot_id = "another"
    world.clock.seconds = 20.0
    refuse(world)
    assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE


def test_an_answer_from_the_future_is_no_outage(world):
    world.journal.contact = world.clock.now() + 300 * DAY
    refuse(world)
    assert world.run(POLICY).exit_code is ExitCode.UNREACHABLE


def test_a_dry_run_neither_counts_nor_fails_for_it(world):
    refuse(world)
    go(world, 9 * DAY)
    assert world.run(POLICY, dry_run=True).exit_code is ExitCode.UNREACHABLE
    assert world.sightings.seen == {}


def test_another_fault_is_a_failure_at_once(world):
    world.hydra.fault = HydraError(Kind.HYDRA_UNAUTHORISED, "who is that?")
    assert world.run(POLICY).exit_code is ExitCode.UNAUTHORISED
    assert world.sightings.seen == {}


def test_the_patience_with_a_cache_begins_anew_for_each_candidate(world):
    world.publish(2, NEW)

    def run_without_cache():
        world.steps.at("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route"))
        return world.run(POLICY)

    assert run_without_cache().exit_code is ExitCode.UNREACHABLE
    go(world, 2 * DAY)
    assert run_without_cache().exit_code is ExitCode.UNREACHABLE
    go(world, DAY)
    report = run_without_cache()
    assert (report.exit_code, report.error.kind) == (ExitCode.FAILED, Kind.CACHE_UNREACHABLE)
    world.publish(3, NEWER)
    assert run_without_cache().exit_code is ExitCode.UNREACHABLE
    world.steps.calm()
    assert world.run(POLICY).outcome is Outcome.CONFIRMED
    assert world.sightings.seen == {}
