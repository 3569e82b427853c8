"""A build that is not Hydra's newest is taken where the newer ones may not be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.application import events
from agent.application.manual import verdicts
from agent.application.run import RunSettings
from agent.application.status import take_status
from agent.domain.errors import ExitCode, HydraError, Kind, NixError
from agent.domain.facts import FreeSpace
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.pause import Pause
from agent.domain.policy import Action, RebootMode, Strategy
from agent.domain.window import Schedule, Window
from fakes.runs import an_arrival
from fakes.samples import OLD
from fakes.stepwise import system_with
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


def test_a_host_that_someone_has_brought_to_an_older_build_is_not_taken_past_it(world):
    see(world, 4)
    deny(world, 4)
    world.somebody_switches(system(2))
    wait_out_foreign_hold(world)
    for _ in range(2):
        assert world.run().outcome is Outcome.HELD
        assert world.host.running == system(2)


def wait_out_foreign_hold(world):
    """Let the agent leave alone what someone has brought here, until it would no more."""
    assert "foreign-system" in [name for name, _ in world.run().reasons]
    world.clock.move(WATCHFUL.foreign_hold.total_seconds() * 2)


def bring(world, how, path):
    """Let someone else bring a system here, as far as `how` goes."""
    match how:
        case "test":
            world.host.activate(Action.TEST, path)
        case "boot":
            world.host.activate(Action.BOOT, path)
        case "switch":
            world.host.activate(Action.SWITCH, path)
        case _:
            world.host.booted = path
    world.host.changed = world.clock.now()


@pytest.fixture
def visited():
    """A host on `OLD` that has seen the builds 1 to 3, on which someone may bring things about."""
    world = World()
    see(world, 1, 2, 3)
    world.publish(4, system(4))
    deny(world, 4)
    return world


@pytest.mark.parametrize("how", ["test", "boot", "switch", "booted"])
def test_nothing_older_than_what_someone_has_brought_here_is_taken(visited, how):
    bring(visited, how, system(3))
    links = visited.links()
    if how != "booted":
        wait_out_foreign_hold(visited)
    for _ in range(2):
        assert visited.run(dry_run=True).decision == "hold"
        assert status_of(visited).verdict == "hold"
        assert visited.run().outcome is Outcome.HELD
        assert visited.links() == links
    visited.journal.allow(system(4), "fixed", "eve", visited.clock.now())
    assert visited.run().candidate.build_id == 4


@pytest.mark.parametrize("how", ["test", "boot", "switch"])
def test_what_is_newer_than_what_someone_has_brought_here_is_taken(visited, how):
    bring(visited, how, system(1))
    wait_out_foreign_hold(visited)
    assert visited.run(dry_run=True).candidate.build_id == 3
    assert visited.run().candidate.build_id == 3
    assert visited.host.running == system(3)


@pytest.mark.parametrize("how", ["test", "boot", "switch"])
def test_a_hydra_that_goes_back_past_what_someone_has_brought_here_is_a_downgrade(visited, how):
    bring(visited, how, system(3))
    for number in (3, 4):
        visited.change(number, is_finished=False)  # an administrator restarts them
    links = visited.links()
    wait_out_foreign_hold(visited)
    for _ in range(2):
        dry, status, report = visited.run(dry_run=True), status_of(visited), visited.run()
        assert dry.reasons == status.decision.reasons == report.reasons
        assert [name for name, _ in report.reasons] == ["downgrade"]
        assert visited.links() == links
    by_ann = RunSettings("by-hand", STORE, by="ann")
    taken = asyncio.run(verdicts.allow_downgrade(visited.ports, WATCHFUL, by_ann, "a revert"))
    assert (taken.build_id, known(visited)) == (3, [])
    assert visited.run().candidate.build_id == 2


@pytest.mark.parametrize("how", ["test", "boot", "switch"])
def test_where_the_agent_does_not_know_what_is_here_only_the_newest_build_is_taken(visited, how):
    visited.host.contents[system(9)] = system_with("k1")
    bring(visited, how, system(9))
    links = visited.links()
    wait_out_foreign_hold(visited)
    for _ in range(2):
        assert visited.run(dry_run=True).decision == "hold"
        assert visited.run().outcome is Outcome.HELD
        assert visited.links() == links
    visited.publish(5, system(5))
    assert visited.run().candidate.build_id == 5
    assert visited.links()[::2] == (system(5), system(5))


def test_once_what_was_unknown_is_gone_older_builds_are_taken_again(visited):
    visited.host.contents[system(9)] = system_with("k1")
    bring(visited, "test", system(9))
    wait_out_foreign_hold(visited)
    assert visited.run().outcome is Outcome.HELD
    visited.host.activate(Action.SWITCH, OLD)
    assert visited.run().candidate.build_id == 3


def test_what_is_adopted_anew_once_the_marks_are_lost_is_unknown():
    world = World()
    world.publish(1, system(1))
    world.run()
    see(world, 2, 3)
    world.publish(4, system(4))
    deny(world, 4)
    world.somebody_switches(system(9))
    for mark in Mark:
        world.marks.remove(mark)
    assert world.run().outcome is Outcome.HELD
    assert (world.marks.read().confirmed, world.host.running) == (system(9), system(9))


def test_what_someone_has_brought_and_the_agent_has_adopted_is_known():
    world = World()
    world.publish(1, system(1))
    world.run()
    world.publish(2, system(2))
    world.somebody_switches(system(2))
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    see(world, 3)
    world.publish(4, system(4))
    deny(world, 4)
    assert world.run().candidate.build_id == 3


def test_a_link_that_cannot_be_read_is_unknown(visited):
    visited.host.profile = None
    assert visited.run().outcome is Outcome.HELD
    assert visited.host.running == OLD


def test_a_kernel_that_is_left_of_what_was_rolled_back_from_is_no_measure(visited):
    deny(visited, 3)
    visited.host.booted = system(3)
    assert visited.run().candidate.build_id == 2


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
    assert held[1]["reasons"][0]["name"] == "path-not-cached"
    assert known(world) == [3, 2, 1]


def test_a_smaller_build_is_taken_where_the_newest_has_no_room(world):
    world.journal.allow(system(3), "fixed", "eve", world.clock.now())
    world.host.space = FreeSpace(store=(1 << 30) + (400 << 20), boot=None)
    world.nix.cached[system(3)] = replace(CLOSURE, unpacked_bytes=600 << 20)
    assert world.run().candidate.build_id == 2


def test_one_run_asks_hydra_about_few_builds_and_the_next_one_about_others(world):
    see(world, *range(4, 10))
    deny(world, 9)
    for number in range(2, 9):
        world.change(number, is_finished=False)
    assert world.run().outcome is Outcome.HELD
    assert world.steps.count("build") == 1 + 3
    assert world.is_untouched()
    world.run()
    assert world.run().candidate.build_id == 1
    assert world.host.running == system(1)


def test_however_many_builds_are_in_no_cache_an_older_one_that_is_in_one_is_taken(world):
    see(world, *range(4, 12))
    for number in range(2, 12):
        world.nix.cached.pop(system(number), None)
    assert world.run(dry_run=True).candidate.build_id == 1
    report = world.run()
    assert (report.outcome, report.candidate.build_id) == (Outcome.CONFIRMED, 1)
    assert world.steps.count("build") == 1 + 1


def test_new_builds_that_are_in_no_cache_in_time_do_not_starve_a_host():
    world, hour = World(), 3600.0
    for number in range(1, 30):
        world.publish(number, system(number), is_cached=False)
        if number > 4:
            world.nix.cached[system(number - 4)] = CLOSURE  # the upload takes four builds
        report = world.run()
        if number > 4:
            assert (report.outcome, report.candidate.build_id) == (Outcome.CONFIRMED, number - 4)
            assert world.host.running == system(number - 4)
        else:
            assert report.error.kind is Kind.PATH_NOT_CACHED
            assert world.is_untouched()
        world.clock.move(hour)


def test_new_builds_that_cannot_be_evaluated_do_not_starve_a_host():
    world = World()
    see(world, 1)
    world.publish(2, system(2))
    del world.nix.evaluates[flake_of(1002), WATCHFUL.host]
    assert world.run().error.kind is Kind.EVALUATION_FAILED
    soon = world.systemd.woken_at - world.clock.now()
    assert timedelta(minutes=1) < soon < timedelta(minutes=3)
    world.clock.move(soon.total_seconds())
    assert world.run().candidate.build_id == 1
    assert [name for name, _ in reasons_of_newer(world)] == ["suspect"]
    assert world.host.running == system(1)


@pytest.mark.parametrize("is_known", [False, True])
def test_where_no_older_build_may_be_taken_the_next_run_is_not_hurried(visited, is_known):
    visited.publish(5, system(5))
    del visited.nix.evaluates[flake_of(1005), WATCHFUL.host]
    path = system(4 if is_known else 9)
    visited.host.contents[path] = system_with("k1")
    bring(visited, "switch", path)
    wait_out_foreign_hold(visited)
    visited.systemd.woken_at = None
    assert visited.run().error.kind is Kind.EVALUATION_FAILED
    assert visited.systemd.woken_at is None


def test_where_no_older_build_is_known_a_run_that_cannot_be_evaluated_is_not_hurried():
    world = World()
    world.publish(1, system(1))
    del world.nix.evaluates[flake_of(1001), WATCHFUL.host]
    assert world.run().error.kind is Kind.EVALUATION_FAILED
    assert world.systemd.woken_at is None


def no_eval(world):
    world.steps.at("locked_flake", HydraError(Kind.EVAL_MISSING, "deleted"))


def no_flake(world):
    world.steps.at("locked_flake", HydraError(Kind.EVAL_WITHOUT_FLAKE, "an expression"))


def unlocked(world):
    world.jobset.evals[1003] = "git+https://git.example.org/hosts?ref=main"


def changed(**changes):
    """Let the newest build change once Hydra has named it as good."""
    return lambda world: world.steps.at("build", lambda: world.change(3, **changes))


REFUSALS = [
    (changed(system="aarch64-linux"), "build-other-system", ExitCode.BAD_ANSWER),
    (changed(outputs={}), "build-without-output", ExitCode.BAD_ANSWER),
    (changed(outputs={"out": "/etc/passwd"}), "build-output-invalid", ExitCode.BAD_ANSWER),
    (changed(is_finished=False), "build-unfinished", ExitCode.HELD),
    (changed(status=1), "build-failed", ExitCode.BAD_ANSWER),
    (changed(evals=()), "build-without-eval", ExitCode.BAD_ANSWER),
    (no_eval, "eval-missing", ExitCode.BAD_ANSWER),
    (no_flake, "eval-without-flake", ExitCode.BAD_ANSWER),
    (unlocked, "flake-unlocked", ExitCode.BAD_ANSWER),
]


@pytest.mark.parametrize(("refuse", "name", "code"), REFUSALS)
def test_a_newest_build_that_can_be_no_candidate_is_passed_over(world, refuse, name, code):
    del code
    world.journal.allow(system(3), "fixed", "eve", world.clock.now())
    refuse(world)
    dry = world.run(dry_run=True)
    assert (dry.decision, dry.candidate.build_id) == ("upgrade", 2)
    world.publish(3, system(3))
    refuse(world)
    status = status_of(world)
    assert (status.error, status.candidate.build_id) == (None, 2)
    world.publish(3, system(3))
    refuse(world)
    report = world.run()
    assert (report.outcome, report.candidate.build_id) == (Outcome.CONFIRMED, 2)
    (held,) = report.held
    assert (held.candidate.build_id, held.reasons[0][0]) == (3, name)
    assert status.held[0].reasons == dry.held[0].reasons == held.reasons
    assert known(world) == [2, 1]


@pytest.mark.parametrize(("refuse", "name", "code"), REFUSALS)
def test_where_nothing_else_may_be_taken_a_run_ends_with_what_is_wrong_with_the_newest(
    refuse, name, code
):
    world = World()
    world.publish(3, system(3))
    refuse(world)
    report = world.run()
    assert (report.error.kind, report.exit_code, report.decision) == (name, code, "hold")
    assert world.is_untouched()
    world.publish(3, system(3))
    refuse(world)
    assert world.run(dry_run=True).error.kind == name
    world.publish(3, system(3))
    refuse(world)
    status = status_of(world)
    assert (status.error.kind, status.candidate) == (name, None)
    assert [one.candidate.build_id for one in status.held] == [3]
    assert (status.pending.newest, status.verdict) == (None, "hold")


def test_a_newest_build_that_is_deleted_meanwhile_is_passed_over(world):
    def delete():
        world.hydra.builds.pop(3, None)

    world.steps.at("build", delete)
    world.publish(3, system(3))
    assert status_of(world).candidate.build_id == 2
    world.publish(3, system(3))
    assert world.run().candidate.build_id == 2


def test_a_refused_newest_build_does_not_bring_a_host_back_to_an_older_one(world):
    world.journal.allow(system(3), "fixed", "eve", world.clock.now())
    assert world.run().candidate.build_id == 3
    unlocked(world)
    for _ in range(2):
        assert world.run().error.kind is Kind.FLAKE_UNLOCKED
        assert world.host.running == system(3)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("newest_good_build", HydraError(Kind.HYDRA_TIMEOUT, "late")),
        ("build", HydraError(Kind.HYDRA_SERVER_ERROR, "down")),
        ("locked_flake", HydraError(Kind.HYDRA_REFUSED, "down")),
        ("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route")),
    ],
)
def test_an_outage_takes_no_older_build(world, step, fault):
    world.journal.allow(system(3), "fixed", "eve", world.clock.now())
    world.steps.at(step, fault)
    report = world.run()
    assert (report.error.kind, report.exit_code) == (fault.kind, ExitCode.UNREACHABLE)
    assert world.is_untouched()
    assert known(world)[-2:] == [2, 1]


def test_a_cache_that_is_out_of_reach_for_an_older_build_takes_no_older_one(world):
    def refuse():
        if world.steps.count("plan_fetch") == 1:
            raise NixError(Kind.CACHE_UNREACHABLE, "no route")

    world.steps.at("plan_fetch", refuse)
    report = world.run()
    assert [name for name, _ in report.reasons] == ["denied", "cache-unreachable"]
    assert world.is_untouched()


def reasons_of_newer(world):
    ((held),) = world.told.fields_of(events.OLDER_BUILD_CHOSEN)["newer"]
    return [(reason["name"], reason["reason"]) for reason in held["reasons"]]


def test_the_summary_names_the_builds_that_are_held(world):
    for dry_run in (True, False):
        world.run(dry_run=dry_run)
        ((held),) = world.summary()["held"]
        assert (held["build_id"], held["reasons"][0]["name"]) == (3, "denied")
    world.run()
    assert [one["build_id"] for one in world.summary()["held"]] == [3]
    world.publish(4, system(4))
    world.run()
    assert "held" not in world.summary()


def test_the_summary_also_names_a_build_that_is_held_once_it_was_fetched(world):
    world.steps.at("substitute", world.canary_dies)
    assert world.run().outcome is Outcome.HELD
    named = [(one["build_id"], one["reasons"][0]["name"]) for one in world.summary()["held"]]
    assert named == [(3, "denied"), (2, "health")]


def test_the_summary_also_names_a_build_that_is_held_before_its_reboot():
    world = World()
    world.publish(1, system(1), kernel="k2")
    world.run(BOOT)
    world.canary_dies()
    assert world.run(REBOOTS).outcome is Outcome.HELD
    ((held),) = world.summary()["held"]
    assert (held["build_id"], held["reasons"][0]["name"]) == (1, "health")


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


def test_an_older_build_that_hydra_calls_failed_is_not_fetched_although_only_health_holds_it(world):
    world.change(2, status=1)
    world.canary_dies()
    world.steps.at("substitute", world.canary_recovers)
    assert world.run(TWO_CHECKS).outcome is Outcome.HELD
    assert "substitute" not in world.steps
    assert world.is_untouched()


def test_a_refused_newest_build_does_not_hide_when_an_older_one_may_be_taken(world):
    opens = (world.clock.now() + timedelta(hours=3)).time()
    window = Window(frozenset(range(7)), opens, timedelta(hours=1), UTC)
    closed = replace(WATCHFUL, upgrade_schedule=Schedule((window,)))
    assert world.run(closed).outcome is Outcome.HELD
    alone = world.told.fields_of(events.RUN_SCHEDULED)
    world.change(3, system="aarch64-linux")
    assert world.run(closed).exit_code is ExitCode.BAD_ANSWER
    assert world.told.fields_of(events.RUN_SCHEDULED) == alone


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


@pytest.fixture
def half_back():
    """A host that was rolled back from build 2 to 1, but still has booted build 2."""
    world = World()
    world.publish(1, system(1))
    world.run()
    world.publish(2, system(2), kernel="k2")
    world.run(REBOOTS)
    world.service_breaks()
    world.host.boot()
    world.run(BOOT)
    world.all_is_well()
    assert (world.links(), world.host.reboots) == ((system(1), system(2), system(1)), 1)
    return world


def test_a_host_whose_services_alone_were_rolled_back_is_rebooted_once(half_back):
    assert half_back.run(BOOT).outcome is Outcome.HELD
    assert half_back.run(REBOOTS, dry_run=True).decision == "reboot"
    assert half_back.run(REBOOTS).outcome is Outcome.REBOOTING
    assert half_back.last_row().toplevel == system(1)
    half_back.host.boot()
    assert half_back.links() == (system(1), system(1), system(1))
    for _ in range(3):
        assert half_back.run(REBOOTS).outcome is Outcome.HELD
        assert half_back.host.reboots == 2


@pytest.mark.parametrize("running", [1, 2])
def test_that_reboot_is_not_repeated_where_the_loader_does_not_obey(half_back, running):
    half_back.run(REBOOTS)
    for _ in range(6):
        half_back.host.loader.once = None
        half_back.host.loader.installed = system(2)
        half_back.host.boot()
        half_back.host.running = system(running)
        for _ in range(2):
            half_back.run(REBOOTS)
            half_back.clock.move(WATCHFUL.foreign_hold.total_seconds())
    assert half_back.host.reboots == 2


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
    assert [one.reasons for one in status.held] == [one.reasons for one in dry.held]
    if run.error is not None:
        # Where nothing may be taken, what is in no cache yet is looked for again soon.
        assert run.error.kind is Kind.PATH_NOT_CACHED
        assert (dry.decision, run.candidate.build_id) == ("hold", 4)
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


STREAMS = st.lists(
    st.sampled_from(["publish", "publish uncached", "upload", "deny", "run", "run"]), max_size=14
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STREAMS)
def test_what_has_been_seen_may_be_taken_and_is_newer_than_what_runs_is_always_taken(stream):
    world, newest, seen_here, denied_here = World(), 0, set(), set()
    for what in stream:
        match what:
            case "publish" | "publish uncached":
                newest += 1
                world.publish(newest, system(newest), is_cached=what == "publish")
            case "upload":
                world.nix.cached |= {system(number): CLOSURE for number in range(1, newest)}
            case "deny" if newest and world.host.running != system(newest):
                deny(world, newest)
                denied_here.add(newest)
            case "run" if newest:
                world.run()
                seen_here.add(newest)
                running = number_of(world.host.running)
                left = seen_here - denied_here - set(range(running + 1))
                assert not [number for number in left if system(number) in world.nix.cached]
            case _:
                pass


def number_of(path):
    """Return the number of the build that a system is of, 0 for the one that a host begins with."""
    return 0 if path == OLD else next(n for n in range(1, 99) if path == system(n))


PEOPLE = st.lists(
    st.tuples(
        st.sampled_from(["publish", "deny", "revert", "test", "boot", "switch", "wait", "run"]),
        st.integers(1, 6),
    ),
    min_size=4,
    max_size=14,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PEOPLE)
def test_nothing_older_than_what_runs_is_taken_without_a_person(events_here):
    world, newest = World(), 1
    world.publish(1, system(1))
    for what, number in events_here:
        match what:
            case "publish":
                newest += 1
                world.publish(newest, system(newest))
            case "deny":
                deny(world, newest)
            case "revert" if world.hydra.builds[newest].is_good and newest > 1:
                world.run()  # so that what is good no longer has been seen
                world.change(newest, is_finished=False)
            case "test" | "boot" | "switch" if number <= newest:
                world.run()
                bring(world, what, system(number))
            case "wait":
                world.run()
                world.clock.move(WATCHFUL.foreign_hold.total_seconds() * 2)
            case _:
                pass
        before = [number_of(path) for path in world.links()]
        world.run()
        after = [number_of(path) for path in world.links()]
        assert after[0] >= before[0]
        assert after[2] >= before[2]
