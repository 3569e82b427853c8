"""A build that is not Hydra's newest is taken where the newer ones may not be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.application import events
from agent.application.run import RunSettings
from agent.application.status import take_status
from agent.domain.errors import HydraError, Kind
from agent.domain.facts import FreeSpace
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.pause import Pause
from agent.domain.policy import Action, RebootMode, Strategy
from fakes.runs import an_arrival
from fakes.samples import OLD
from fakes.world import CLOSURE, STORE, WATCHFUL, World, flake_of, system

BOOT = replace(WATCHFUL, action=Action.BOOT)
TWO_CHECKS = replace(WATCHFUL, checks=(*WATCHFUL.checks, replace(WATCHFUL.checks[0], name="other")))
REBOOTS = replace(BOOT, reboot_mode=RebootMode.WHEN_NEEDED)


def deny(world, number, **facts):
    world.journal.deny(Denial(system(number), "it broke sshd", world.clock.now(), "eve", **facts))


def see(world, *numbers):
    """Let the host see builds good, each as Hydra's newest, without taking one."""
    world.journal.set_pause(Pause("audit", "eve", world.clock.now()))
    for number in numbers:
        world.publish(number, system(number))
        assert world.run().outcome is Outcome.HELD
    world.journal.set_pause(None)


@pytest.fixture
def world():
    """A host on `OLD` that has seen the builds 1 and 2; the newest, 3, is denied."""
    world = World()
    see(world, 1, 2)
    world.publish(3, system(3))
    deny(world, 3)
    return world


def known(world):
    return [one.build_id for one in world.good_builds.builds]


def test_the_newest_build_that_is_not_held_is_taken(world):
    report = world.run()
    assert (report.outcome, report.candidate.build_id) == (Outcome.CONFIRMED, 2)
    assert world.links() == (system(2), OLD, system(2))
    row = world.last_row()
    assert (row.build_id, row.eval_id, row.flake) == (2, 1002, flake_of(1002))


def test_it_costs_one_question_more(world):
    world.run()
    assert world.steps.among("newest_good_build", "build", "locked_flake") == [
        "newest_good_build", "build", "locked_flake", "build"
    ]  # fmt: skip


def test_the_log_says_which_is_taken_and_why_not_the_newer_one(world):
    world.run()
    said = world.told.fields_of(events.OLDER_BUILD_CHOSEN)
    assert (said["build_id"], said["toplevel"]) == (2, system(2))
    ((newer),) = said["newer"]
    assert (newer["build_id"], newer["opens_at"]) == (3, None)
    assert newer["reasons"][0]["name"] == "denied"


def test_what_was_held_is_taken_once_it_may_be(world):
    world.run()
    world.journal.allow(system(3), "fixed", "eve", world.clock.now())
    assert world.run().candidate.build_id == 3
    assert world.host.running == system(3)


def test_a_host_stays_on_the_older_build_while_the_newer_one_is_held(world):
    world.run()
    for _ in range(3):
        report = world.run()
        assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "denied")
        assert world.host.running == system(2)
        assert world.idle_note.build_id is None


def test_a_host_that_is_rolled_back_from_the_newest_tries_the_one_before_it_and_no_older_one():
    world = World()
    see(world, 1, 2)
    world.steps.at("activate-flake", world.service_breaks)
    for tried in (2, 1):
        assert world.run().outcome is Outcome.ROLLED_BACK
        assert world.last_row().build_id == tried
        world.all_is_well()
    assert world.run().outcome is Outcome.HELD
    assert world.links() == (OLD, OLD, OLD)


def test_nothing_older_than_what_was_taken_is_taken(world):
    world.journal.record(an_arrival(2, system(9)))
    report = world.run()
    assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "denied")
    assert world.host.running == OLD
    assert known(world) == [3, 2]


def test_a_host_that_somebody_has_brought_to_an_older_build_is_not_taken_past_it(world):
    see(world, 4)
    deny(world, 4)
    world.host.activate(Action.SWITCH, system(2))
    world.clock.move(WATCHFUL.foreign_hold.total_seconds() * 2)
    assert world.run().outcome is Outcome.HELD
    assert world.host.running == system(2)


GONE = [
    ({"is_finished": False}, "build-unfinished"),
    ({"status": 1}, "build-failed"),
    ({"job": "other"}, "build-other-job"),
    ({"system": "aarch64-linux"}, "build-other-system"),
    ({"outputs": {"out": system(8)}}, "path-mismatch"),
    ({"outputs": {}}, "build-without-output"),
]


@pytest.mark.parametrize(("change", "name"), GONE)
def test_a_build_that_is_no_longer_what_it_was_is_forgotten_and_the_next_one_taken(
    world, change, name
):
    world.change(2, **change)
    assert world.run(dry_run=True).candidate.build_id == 1
    assert world.run().candidate.build_id == 1
    held = world.told.fields_of(events.OLDER_BUILD_CHOSEN)["newer"]
    assert [one["reasons"][0]["name"] for one in held] == ["denied", name]
    assert world.host.running == system(1)
    assert known(world) == [3, 1]


def test_a_build_that_is_deleted_is_forgotten_and_nothing_happens(world):
    del world.hydra.builds[1], world.hydra.builds[2]
    report = world.run()
    assert [name for name, _ in report.reasons] == ["denied", "build-missing"]
    assert (report.outcome, known(world)) == (Outcome.HELD, [3])
    assert world.is_untouched()


def silent_about_older_ones(world):
    """Let Hydra answer once about a build in each run, and then no more."""

    def answer():
        if world.steps.count("build") > 1:
            raise HydraError(Kind.HYDRA_TIMEOUT, "no answer")

    world.steps.at("build", answer)


def test_where_hydra_does_not_answer_nothing_happens_and_nothing_is_forgotten(world):
    silent_about_older_ones(world)
    report = world.run()
    assert [name for name, _ in report.reasons] == ["denied", "hydra-timeout"]
    assert (report.outcome, known(world)) == (Outcome.HELD, [3, 2, 1])
    assert world.is_untouched()
    world.steps.calm()
    assert world.run().candidate.build_id == 2


def test_what_is_in_no_cache_any_more_is_passed_over(world):
    del world.nix.cached[system(2)]
    assert world.run().candidate.build_id == 1
    held = world.told.fields_of(events.OLDER_BUILD_CHOSEN)["newer"]
    assert held[1]["reasons"][0]["name"] == "store-space"
    assert known(world) == [3, 2, 1]


def test_a_smaller_build_is_taken_where_the_newest_has_no_room(world):
    world.journal.allow(system(3), "fixed", "eve", world.clock.now())
    world.host.space = FreeSpace(store=(1 << 30) + (400 << 20), boot=None)
    world.nix.cached[system(3)] = replace(CLOSURE, unpacked_bytes=600 << 20)
    assert world.run().candidate.build_id == 2


def test_one_run_asks_about_few_builds(world):
    see(world, *range(4, 10))
    for number in range(4, 10):
        world.nix.cached.pop(system(number))
    deny(world, 9)
    report = world.run()
    assert report.outcome is Outcome.HELD
    assert world.steps.count("build") == 1 + 3
    assert world.is_untouched()


def test_a_gate_about_the_host_holds_every_build_and_is_asked_once(world):
    world.canary_dies()
    report = world.run()
    assert [name for name, _ in report.reasons] == ["denied", "health"]
    assert world.steps.among("probe canary") == ["probe canary"]
    assert world.is_untouched()


def test_an_older_build_may_be_fetched_although_health_holds_it(world):
    world.canary_dies()
    world.run(TWO_CHECKS)
    assert "substitute" in world.steps
    assert world.last_row().build_id == 2


def test_what_is_held_by_more_than_health_is_not_fetched(world):
    world.canary_dies()
    for number in (1, 2):
        deny(world, number)
    assert world.run(TWO_CHECKS).outcome is Outcome.HELD
    assert "substitute" not in world.steps


def test_no_older_build_is_taken_without_what_was_remembered(world):
    world.good_builds.is_unreadable = True
    assert world.run().outcome is Outcome.HELD
    assert world.steps.count("build") == 1
    assert world.is_untouched()


def test_a_build_without_its_flake_is_taken_only_by_its_path(world):
    world.good_builds.builds = tuple(
        replace(one, flake=None, eval_id=None) for one in world.good_builds.builds
    )
    assert world.run().outcome is Outcome.HELD
    by_path = replace(WATCHFUL, strategy=Strategy.STORE_PATH, verify=False)
    assert world.run(by_path).candidate.build_id == 2


def test_a_staged_build_is_rebooted_into_while_a_newer_one_is_held():
    world = World()
    world.publish(1, system(1), kernel="k2")
    world.run(BOOT)
    assert world.marks.read().staged == system(1)
    world.publish(2, system(2))
    deny(world, 2)
    assert world.run(REBOOTS, dry_run=True).decision == "reboot"
    assert world.run(BOOT).outcome is Outcome.HELD
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert world.last_row().toplevel == system(1)


def test_a_host_that_has_nothing_to_do_remembers_nothing(world):
    world.publish(4, system(4))
    world.run()
    world.run()
    assert known(world) == []
    assert world.idle_note.build_id == 4


def test_a_dry_run_and_a_status_remember_nothing():
    world = World()
    world.publish(1, system(1))
    world.run(dry_run=True)
    status_of(world)
    assert known(world) == []


def status_of(world, policy=WATCHFUL):
    return asyncio.run(take_status(world.ports, policy, RunSettings("status", STORE)))


def test_the_status_says_which_build_would_be_taken_and_why_not_the_newer_one(world):
    deny(world, 3, until=world.clock.now() + timedelta(days=1))
    fields = status_of(world).fields()
    assert (fields["decision"], fields["candidate"]["build_id"]) == ("upgrade", 2)
    ((held),) = fields["held"]
    assert (held["build_id"], held["reasons"][0]["name"]) == (3, "denied")
    assert held["opens_at"] == (world.clock.now() + timedelta(days=1)).isoformat()
    world.canary_dies()
    fields = status_of(world).fields()
    assert (fields["decision"], fields["candidate"]["build_id"]) == ("hold", 3)
    assert [one["build_id"] for one in fields["held"]] == [3, 2, 1]


def test_the_status_of_a_host_with_nothing_to_do_names_no_held_build(world):
    world.publish(4, system(4))
    world.run()
    assert status_of(world).fields()["held"] == []


CONDITIONS = st.fixed_dictionaries(
    {
        "denied": st.sets(st.integers(1, 4)),
        "uncached": st.sets(st.integers(1, 4)),
        "gone": st.sets(st.integers(1, 3)),
        "taken": st.integers(0, 4),
        "dead": st.booleans(),
        "full": st.booleans(),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONDITIONS)
def test_status_dry_run_and_upgrade_agree(conditions):
    world = World()
    see(world, 1, 2, 3, 4)
    world.marks.set(Mark.CONFIRMED, OLD)
    for number in conditions["denied"]:
        deny(world, number)
    for number in conditions["uncached"]:
        world.nix.cached.pop(system(number))
    for number in conditions["gone"]:
        world.change(number, is_finished=False)
    if conditions["taken"]:
        world.journal.record(an_arrival(conditions["taken"], system(9)))
    if conditions["dead"]:
        world.canary_dies()
    if conditions["full"]:
        world.host.space = FreeSpace(store=0, boot=None)
    status = status_of(world)
    dry = world.run(dry_run=True)
    assert (dry.decision, dry.candidate) == (status.decision.name, status.candidate)
    run = world.run()
    if run.error is not None:
        # What is in no cache ends a run at once; the others say what is in the way.
        assert run.error.kind is Kind.PATH_NOT_CACHED
        assert run.candidate.build_id == 4 or dry.decision == "hold"
    elif dry.decision == "upgrade":
        assert (run.outcome, run.candidate) == (Outcome.CONFIRMED, dry.candidate)
        assert run.candidate.build_id > conditions["taken"] or run.candidate.build_id == 4
        assert run.candidate.build_id not in conditions["denied"] | conditions["uncached"]
    else:
        assert (run.decision, run.outcome) == ("hold", Outcome.HELD)
        assert world.links() == (OLD, OLD, OLD)


def test_what_is_not_in_a_cache_yet_is_remembered_all_the_same():
    world = World()
    world.publish(1, system(1), is_cached=False)
    assert world.run().error.kind is Kind.PATH_NOT_CACHED
    assert known(world) == [1]
