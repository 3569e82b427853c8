"""Runs that come again: soon after what passes by itself, later and later after what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.application import events
from agent.domain.errors import ExitCode, HydraError, JournalError, Kind, NixError
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault, fault_of_preparation
from agent.domain.policy import Strategy
from agent.domain.retry import wait_before_retry
from fakes.runs import a_run
from fakes.samples import OTHER
from fakes.world import WATCHFUL, World, flake_of, system

NEW, NEWER = system(1), system(2)
MINUTE = timedelta(minutes=1)
REFUSED = HydraError(Kind.HYDRA_REFUSED, "refused")


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def told(error):
    """Return what a fault says: between the two sides of a run it goes as text."""
    return error.kind, error.message


def reasons(report):
    return [name for name, _ in report.reasons]


def wait(world):
    """How long after its end the next run begins."""
    return world.systemd.woken_at - world.clock.now()


# How long


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(0, 2), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (10**9, 60)],
)
def test_each_failure_in_a_row_doubles_the_wait_up_to_an_hour(failures, minutes):
    assert wait_before_retry(failures, 0.5) == minutes * MINUTE


@given(st.integers(0, 99), st.floats(0, 1))
def test_hosts_come_back_a_quarter_of_the_wait_apart_at_the_most(failures, place):
    middle = wait_before_retry(failures, 0.5)
    assert 0.75 * middle <= wait_before_retry(failures, place) <= 1.25 * middle


# What passes by itself


def test_what_cannot_be_reached_passes_and_what_is_wrong_does_not():
    passing = {kind for kind in Kind if kind.passes}
    assert passing >= {kind for kind in Kind if kind.exit_code == 69}
    assert {kind for kind in passing if kind.exit_code != ExitCode.UNREACHABLE} == {
        Kind.PATH_NOT_CACHED, Kind.BUILD_UNFINISHED, Kind.JOB_NOT_BUILT_YET, Kind.ACTIVATION_BUSY
    }  # fmt: skip


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("newest_good_build", REFUSED),
        ("newest_good_build", HydraError(Kind.HYDRA_SERVER_ERROR, "502")),
        ("build", HydraError(Kind.BUILD_UNFINISHED, "again")),
        ("plan_fetch", NixError(Kind.PATH_NOT_CACHED, "not yet")),
        ("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route")),
        ("evaluate_toplevel", NixError(Kind.FLAKE_UNREACHABLE, "no route")),
        ("substitute", NixError(Kind.CACHE_UNREACHABLE, "no route")),
    ],
)
def test_a_run_that_failed_for_what_passes_comes_again_in_minutes(world, step, fault):
    world.steps.at(step, fault)
    report = world.run()
    assert told(report.error) == told(fault)
    assert 1.5 * MINUTE <= wait(world) <= 2.5 * MINUTE
    assert events.RUN_SCHEDULED.name in world.told.names()
    assert not any(row.fault for row in world.journal.rows)
    world.steps.calm()
    assert world.run().outcome is Outcome.CONFIRMED


def test_an_activation_of_someone_elses_is_waited_for_in_minutes(world):
    world.systemd.is_running = True
    assert world.run().error.kind is Kind.ACTIVATION_BUSY
    assert wait(world) <= 2.5 * MINUTE


@pytest.mark.parametrize(
    "fault",
    [
        HydraError(Kind.HYDRA_UNAUTHORISED, "401"),
        HydraError(Kind.JOBSET_MISSING, "404"),
        HydraError(Kind.HYDRA_HTML, "a page"),
        NixError(Kind.STORE_FULL, "no room"),
    ],
)
def test_what_needs_a_person_is_left_to_the_timer(world, fault):
    world.steps.at("newest_good_build", fault)
    assert told(world.run().error) == told(fault)
    assert world.systemd.woken_at is None


def test_a_dry_run_schedules_nothing(world):
    world.steps.at("newest_good_build", REFUSED)
    world.run(dry_run=True)
    assert world.systemd.woken_at is None


def waits(world, runs):
    """Do some runs, each when the last one has scheduled it; return the waits in minutes."""
    found = []
    for _ in range(runs):
        world.run()
        found.append(wait(world) / MINUTE)
        world.clock.move(wait(world).total_seconds())
    return found


def test_an_outage_is_asked_about_later_and_later_and_at_least_hourly(world):
    world.steps.at("newest_good_build", REFUSED)
    found = waits(world, 9)
    expected = [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert all(
        0.75 * middle <= minutes <= 1.25 * middle
        for minutes, middle in zip(found, expected, strict=True)
    )
    assert len({minutes / middle for minutes, middle in zip(found, expected, strict=True)}) > 1


def test_an_outage_that_shows_itself_in_several_ways_is_one(world):
    world.steps.at("newest_good_build", REFUSED)
    waits(world, 2)
    world.steps.at("newest_good_build", HydraError(Kind.HYDRA_TIMEOUT, "slow"))
    (third,) = waits(world, 1)
    assert 6 <= third <= 10


def test_an_outage_of_another_day_does_not_count(world):
    world.steps.at("newest_good_build", REFUSED)
    waits(world, 5)
    world.clock.move(timedelta(hours=3).total_seconds())
    (first,) = waits(world, 1)
    assert first <= 2.5


def test_what_has_ended_otherwise_in_between_ends_the_count(world):
    world.steps.at("newest_good_build", REFUSED)
    waits(world, 5)
    world.journal.record(a_run(77, outcome="held", finished_at=world.clock.now()))
    (first,) = waits(world, 1)
    assert first <= 2.5


def test_a_server_that_asks_for_more_time_has_it(world):
    for wish, minutes in ((900.0, 15), (1e300, 24 * 60)):
        fault = HydraError(Kind.HYDRA_RATE_LIMITED, "429", retry_after=wish)
        world.steps.at("newest_good_build", fault)
        world.run()
        assert wait(world) == minutes * MINUTE


def test_a_history_that_cannot_be_read_keeps_no_run_from_coming_again(world):
    world.run()
    world.publish(2, NEWER)

    def fail():
        world.journal.read_fault = JournalError(Kind.STATE_UNUSABLE, "lost")
        raise REFUSED

    world.steps.at("newest_good_build", fail)
    world.run()
    assert wait(world) <= 2.5 * MINUTE


# What does not pass by itself is held against the candidate


SUSPECTED = [
    ("evaluate_toplevel", NixError(Kind.EVALUATION_FAILED, "syntax error")),
    ("evaluate_toplevel", NixError(Kind.NIX_TIMEOUT, "2 h")),
    ("evaluate_toplevel", NixError(Kind.NIX_NONSENSE, "what")),
    ("substitute", NixError(Kind.SIGNATURE_UNTRUSTED, "no key")),
    ("substitute", NixError(Kind.FETCH_FAILED, "corrupt")),
    ("nixos-rebuild build", NixError(Kind.BUILD_ERROR, "assertion")),
    ("nixos-rebuild build", NixError(Kind.NIX_TIMEOUT, "2 h")),
]


@pytest.mark.parametrize(("step", "fault"), SUSPECTED)
def test_a_candidate_that_fails_before_anything_is_begun_is_tried_later_and_later(
    world, step, fault
):
    world.steps.at(step, fault)
    assert told(world.run().error) == told(fault)
    assert world.systemd.woken_at is None
    for minutes in (10, 20, 40):
        world.clock.move((minutes - 1) * 60)
        report = world.run()
        assert (report.outcome, reasons(report)) == (Outcome.HELD, ["suspect"])
        assert "evaluate_toplevel" not in world.steps
        world.clock.move(60)
        assert told(world.run().error) == told(fault)
    world.steps.calm()
    world.clock.move(timedelta(minutes=80).total_seconds())
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.journal.standing_of(NEW, world.clock.now()).suspicions == 0


def test_a_verification_that_fails_for_ever_is_evaluated_once_a_day_in_the_end(world):
    world.nix.evaluates[flake_of(1001), "h"] = OTHER
    evaluations = 0
    for _ in range(10 * 24):
        report = world.run()
        if report.outcome is Outcome.FAILED:
            assert report.error.kind is Kind.PATH_MISMATCH
            evaluations += 1
        world.clock.move(3600)
    assert 10 < evaluations < 20


def test_a_system_for_another_host_is_fetched_once_and_then_held(world):
    by_path = replace(WATCHFUL, strategy=Strategy.STORE_PATH)
    world.host.contents[NEW].hostname = "other"
    assert world.run(by_path).error.kind is Kind.HOST_MISMATCH
    assert reasons(world.run(by_path)) == ["suspect"]


def test_a_newer_build_is_not_held_for_what_the_last_one_did(world):
    world.nix.evaluates[flake_of(1001), "h"] = OTHER
    world.run()
    world.publish(2, NEWER)
    assert world.run().outcome is Outcome.CONFIRMED


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("evaluate_toplevel", NixError(Kind.STORE_FULL, "no room")),
        ("evaluate_toplevel", NixError(Kind.NIX_MISSING, "no nix")),
        ("substitute", NixError(Kind.CACHE_UNREACHABLE, "no route")),
        ("substitute", NixError(Kind.NIX_TIMEOUT, "a slow line")),
    ],
)
def test_what_is_the_hosts_or_the_networks_is_not_held_against_the_candidate(world, step, fault):
    world.steps.at(step, fault)
    assert told(world.run().error) == told(fault)
    world.steps.calm()
    assert world.run().outcome is Outcome.CONFIRMED


def test_failures_that_share_a_row_of_the_history_count_each(world):
    at = {"fault": "suspect", "toplevel": NEW, "error_kind": "path-mismatch"}
    for number in range(3):
        world.journal.record(a_run(number, outcome="failed", **at))
    assert len(world.journal.rows) == 1
    assert world.journal.standing_of(NEW, world.clock.now()).suspicions == 3


def test_a_timeout_is_the_candidates_but_while_it_is_fetched():
    assert fault_of_preparation(Kind.NIX_TIMEOUT, is_fetching=True) is None
    assert fault_of_preparation(Kind.NIX_TIMEOUT, is_fetching=False) is Fault.SUSPECT
    assert fault_of_preparation(Kind.SIGNATURE_UNTRUSTED, is_fetching=True) is Fault.SUSPECT


@pytest.mark.parametrize(
    "kind", [Kind.FLAKE_INSECURE, Kind.FLAKE_HAS_LOGIN, Kind.PATH_NOT_CACHED, Kind.PATH_MISMATCH]
)
def test_what_would_refuse_the_candidate_each_time_makes_it_suspect(kind):
    assert fault_of_preparation(kind, is_fetching=True) is Fault.SUSPECT
    assert fault_of_preparation(kind, is_fetching=False) is Fault.SUSPECT
