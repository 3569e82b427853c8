from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.application import events
from agent.application.facts.not_cached import aged
from agent.application.ports import Outlook
from agent.application.watch.observe import (
    find_newest,
    log_candidate,
    log_upcoming_builds,
    look_at_host,
)
from agent.domain.candidate import RefusedBuild
from agent.domain.errors import HydraError, Kind, NixError
from agent.domain.policy import Strategy
from agent.domain.systems import Systems
from fakes.events import RememberedEvents
from fakes.samples import OLD, POLICY
from fakes.world import STORE, World, candidate_of, flake_of, system

NEW = system(1)


@pytest.fixture
def world():
    """A host on OLD, and a good build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def find(world, policy=POLICY):
    return asyncio.run(find_newest(world.hydra, world.host, policy, STORE))


# The candidate


def test_the_candidate_is_the_newest_good_build_and_the_flake_of_its_eval(world):
    build = world.publish(2, system(2))
    found = find(world)
    assert found.build == build
    assert found.newest == candidate_of(build)
    assert found.newest.flake == flake_of(1002)


def test_the_flake_is_that_of_the_newest_eval_that_still_exists(world):
    world.change(1, evals=(1001, 3000, 2000))
    world.jobset.evals[2000] = flake_of(2000)
    assert find(world).newest.eval_id == 2000


def test_by_store_path_no_eval_is_asked_for(world):
    world.jobset.evals.clear()
    candidate = find(world, replace(POLICY, strategy=Strategy.STORE_PATH)).newest
    assert (candidate.toplevel, candidate.eval_id, candidate.flake) == (NEW, None, None)
    assert "locked_flake" not in world.steps


REFUSED = [
    ({"system": "aarch64-linux"}, Kind.BUILD_OTHER_SYSTEM),
    ({"outputs": {"out": "/etc/passwd"}}, Kind.BUILD_OUTPUT_INVALID),
    ({"outputs": {}}, Kind.BUILD_WITHOUT_OUTPUT),
    ({"is_finished": False}, Kind.BUILD_UNFINISHED),
    ({"status": 1}, Kind.BUILD_FAILED),
]


@pytest.mark.parametrize(("change", "kind"), REFUSED)
def test_what_cannot_be_this_hosts_is_no_candidate(world, change, kind):
    world.steps.at("build", lambda: world.change(1, **change))
    found = find(world)
    assert isinstance(found.newest, RefusedBuild)
    assert (found.newest.build_id, found.newest.fault.kind, found.newest.toplevel) == (
        1,
        kind,
        None,
    )
    assert found.build == world.hydra.builds[1]
    assert "locked_flake" not in world.steps


def test_an_unlocked_flake_is_no_candidate_and_its_system_is_named(world):
    world.jobset.evals[1001] = "git+https://git.example.org/hosts?ref=main"
    refused = find(world).newest
    assert (refused.fault.kind, refused.toplevel) == (Kind.FLAKE_UNLOCKED, NEW)


def test_a_build_that_does_not_exist_is_no_candidate(world):
    world.steps.at("build", HydraError(Kind.BUILD_MISSING, "deleted"))
    found = find(world)
    assert (found.newest.fault.kind, found.build) == (Kind.BUILD_MISSING, None)


def test_a_build_of_another_job_is_no_answer_about_this_one(world):
    world.steps.at("build", lambda: world.change(1, job="other"))
    with pytest.raises(HydraError, match="named build 1 of"):
        find(world)


@pytest.mark.parametrize("step", ["newest_good_build", "build", "locked_flake"])
def test_a_hydra_that_does_not_answer_says_nothing_of_its_newest_build(world, step):
    world.steps.at(step, HydraError(Kind.HYDRA_TIMEOUT, "no answer"))
    with pytest.raises(HydraError, match="no answer"):
        find(world)


# The host


def look(world):
    return look_at_host(world.host)


def test_the_host_is_seen_with_its_three_systems(world):
    world.host.running, world.host.profile = system(3), system(4)
    assert look(world).systems == Systems(system(3), OLD, system(4), boot_id="boot-0")


def test_the_need_for_a_reboot_is_between_the_booted_system_and_the_profile(world):
    world.publish(1, NEW, kernel="k2")
    assert look(world).need == ()
    world.host.profile = NEW
    assert look(world).need == ("kernel",)


def test_the_profiles_counterpart_of_a_booted_specialisation_is_compared(world):
    world.publish(1, NEW, kernel="k2")
    special = {OLD: system(8), NEW: system(9)}
    for path, variant in special.items():
        world.host.specialise(path, "gaming", variant, "k3")
    world.host.booted, world.host.profile = special[OLD], NEW
    assert look(world).need == ()


@pytest.mark.parametrize("link", ["booted", "profile"])
def test_no_need_for_a_reboot_is_seen_where_a_link_is_missing(world, link):
    world.publish(1, NEW, kernel="k2")
    world.host.profile = NEW
    setattr(world.host, link, None)
    assert look(world).need == ()


# What is told


def test_a_candidate_without_a_finish_time_is_told_without_one(world):
    sink = RememberedEvents()
    log_candidate(sink, replace(candidate_of(world.hydra.builds[1]), finished_at=None))
    assert sink.fields_of(events.BUILD_SELECTED)["finished_at"] is None
    assert sink.bound == {"build_id": 1}


@pytest.mark.parametrize(
    ("outlook", "names"),
    [
        (Outlook(), []),
        (Outlook(newer_build_failed=False, is_jobset_disabled=False, evaluation_error=""), []),
        (Outlook(newer_build_failed=True), ["hydra.newer_build_failed"]),
        (Outlook(gone_since_eval=7), ["hydra.job_gone"]),
        (Outlook(is_jobset_disabled=True), ["hydra.jobset_disabled"]),
        (Outlook(is_project_disabled=False), []),
        (Outlook(is_project_disabled=True), ["hydra.project_disabled"]),
        (Outlook(evaluation_error="error: x"), ["hydra.evaluation_failed"]),
        (Outlook(fault=HydraError(Kind.HYDRA_TIMEOUT, "slow")), ["hydra.outlook_unknown"]),
        (
            Outlook(newer_build_failed=True, is_jobset_disabled=True),
            ["hydra.newer_build_failed", "hydra.jobset_disabled"],
        ),
    ],
)
def test_an_outlook_is_told_as_far_as_it_is_bleak(outlook, names):
    sink = RememberedEvents()
    log_upcoming_builds(sink, outlook)
    assert sink.names() == names


# A path that is in no cache

NOW = datetime(2026, 11, 30, tzinfo=UTC)
NOT_CACHED = NixError(Kind.PATH_NOT_CACHED, "/nix/store/x is in no substituter", hint="wait")


def finished(**age):
    return replace(candidate_of(World().publish(1, NEW)), finished_at=NOW - timedelta(**age))


@pytest.mark.parametrize("age", [{"minutes": 5}, {"hours": 24}, {"hours": -2}])
def test_what_was_built_lately_may_be_on_its_way_to_the_cache(age):
    assert aged(NOT_CACHED, finished(**age), NOW) is NOT_CACHED


def test_what_was_built_long_ago_may_have_been_collected():
    error = aged(NOT_CACHED, finished(days=40, hours=3), NOW)
    assert error.kind is Kind.PATH_NOT_CACHED
    assert error.message.endswith("build 1 was finished 40 day(s) ago, on 2026-10-20")
    assert "garbage" in error.hint


def test_an_age_that_is_not_known_or_of_no_interest_changes_nothing():
    found = finished(days=40)
    other = NixError(Kind.CACHE_UNREACHABLE, "no route")
    assert aged(other, found, NOW) is other
    assert aged(NOT_CACHED, None, NOW) is NOT_CACHED
    assert aged(NOT_CACHED, replace(found, finished_at=None), NOW) is NOT_CACHED
