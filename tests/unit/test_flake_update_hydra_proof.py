from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agent.application.flake_update.hydra_proof import HydraProof
from agent.application.flake_update.ports import JobsetState
from agent.domain.errors import FlakeError, HydraError, Kind
from agent.domain.flake_update.hydra_proof import JobState
from fakes.flake_update import system
from fakes.flake_update_world import UpdateWorld

REVISION = "d" * 40
BEFORE = JobsetState("", 100, 100)
WAITING, GREEN, RED = JobState.WAITING, JobState.GREEN, JobState.RED
UNREACHABLE = HydraError(Kind.HYDRA_REFUSED, "refused")


@pytest.fixture
def world():
    world = UpdateWorld()
    world.change(hydra_deadline=timedelta(minutes=10), hydra_poll=timedelta(seconds=30))
    world.asks_hydra()
    world.jobset.states = [BEFORE]
    world.evaluated = {"db": system("db"), "web": system("web")}
    return world


def wait(world, before=BEFORE):
    proof = HydraProof(world.ports, world.jobset, world.policy, before, world.evaluated)
    return asyncio.run(proof.wait(REVISION))


def test_it_waits_for_the_eval_and_then_for_every_job(world):
    world.jobset.evals = [None, None, 9]
    world.jobset.jobs = {"db": [GREEN, RED], "web": [WAITING, WAITING, GREEN]}
    jobs = wait(world)
    assert [(one.host, one.state) for one in jobs] == [("db", GREEN), ("web", GREEN)]
    assert world.jobset.asked == [REVISION] * 3
    assert world.clock.seconds == 4 * 30
    counted = [f for e, f in world.sink.said if e.name.endswith("jobs_counted")]
    assert [(one["green"], one["red"], one["waiting"]) for one in counted] == [(1, 0, 1), (2, 0, 0)]


def test_red_jobs_are_told_with_their_links_when_all_have_ended(world):
    world.jobset.jobs = {"db": [RED], "web": [WAITING, GREEN]}
    with pytest.raises(FlakeError, match=r"db failed: https://hydra\.test/db$") as caught:
        wait(world)
    assert caught.value.kind is Kind.JOBS_RED
    assert world.clock.seconds == 30


def test_an_evaluation_error_of_after_the_push_ends_the_wait(world):
    world.jobset.evals = [None]
    world.jobset.states = [
        BEFORE,
        JobsetState("no such option", 200, 200),
        JobsetState("no such option", 200, 200),
        JobsetState("no such option", 200, 500),
    ]
    with pytest.raises(FlakeError, match="cannot evaluate dddddddddddd: no such option") as caught:
        wait(world)
    assert caught.value.kind is Kind.EVALUATION_RED
    assert world.clock.seconds == 90


def test_the_first_check_after_the_push_may_have_begun_before_it(world):
    world.jobset.states = [JobsetState("no such branch", 130, 130), JobsetState("", 160, 160)]
    world.jobset.evals = [None, None, None, None, 9]
    assert len(wait(world)) == 2


def test_an_error_that_the_next_check_does_not_tell_is_forgotten(world):
    gone = "no such branch"
    world.jobset.states = [JobsetState(gone, 130, 130), JobsetState("", 160, 160)]
    world.jobset.states += [JobsetState(gone, 190, 190)]
    world.jobset.evals = [None] * 7 + [9]
    assert len(wait(world)) == 2


def test_an_error_that_no_second_check_tells_is_in_what_is_told_in_the_end(world):
    world.jobset.evals = [None]
    world.jobset.states = [JobsetState("no such option", 200, 200)]
    with pytest.raises(
        FlakeError, match="has not evaluated dddddddddddd: no such option"
    ) as caught:
        wait(world)
    assert caught.value.kind is Kind.PROOF_OVERDUE


def test_an_eval_that_comes_between_two_questions_is_found(world):
    world.jobset.evals = [None, 9]
    world.jobset.states = [JobsetState("another job fails", 130, 130)]
    assert len(wait(world)) == 2
    assert world.clock.seconds == 0


def test_what_changes_nothing_is_proven_although_another_job_fails(world):
    world.jobset.evals = [None]
    world.jobset.states = [JobsetState("another job fails", 130, 130)]
    world.jobset.newest = [UNREACHABLE, 7]
    world.jobset.outputs = {host: str(one.toplevel) for host, one in world.evaluated.items()}
    assert len(wait(world)) == 2
    assert world.clock.seconds == 30


def test_what_waiting_does_not_help_against_ends_the_second_look_too(world):
    world.jobset.evals = [None]
    world.jobset.states = [JobsetState("", 130, 130)]
    world.jobset.newest = [HydraError(Kind.HYDRA_UNAUTHORISED, "401")]
    with pytest.raises(HydraError):
        wait(world)


def test_an_evaluation_error_of_before_the_push_says_nothing(world):
    stale = JobsetState("an old error", 100)
    world.jobset.states = [stale]
    world.jobset.evals = [None, 9]
    assert len(wait(world, stale)) == 2


def test_a_check_that_was_on_its_way_may_tell_what_was_wrong_before_once_more(world):
    stale = JobsetState("no such branch", 100, 100)
    world.jobset.states = [JobsetState("no such branch", 130, 130)]
    world.jobset.evals = [None, None, 9]
    assert len(wait(world, stale)) == 2


def test_what_was_wrong_before_and_is_in_every_check_is_of_the_revision_too(world):
    stale = JobsetState("no such option", 100, 100)
    world.jobset.states = [JobsetState("no such option", time, time) for time in (130, 160)]
    world.jobset.evals = [None]
    with pytest.raises(FlakeError) as caught:
        wait(world, stale)
    assert caught.value.kind is Kind.EVALUATION_RED


def test_what_changes_no_derivation_is_proven_by_the_eval_that_has_the_same(world):
    world.jobset.evals = [None]
    world.jobset.states = [BEFORE, BEFORE, JobsetState("", 100, 130)]
    world.jobset.newest = [7]
    world.jobset.outputs = {host: str(one.toplevel) for host, one in world.evaluated.items()}
    assert len(wait(world)) == 2
    assert world.clock.seconds == 60


@pytest.mark.parametrize(
    ("newest", "web"), [([None], "web"), ([7], "another"), ([7], None), ([UNREACHABLE], "web")]
)
def test_an_eval_of_something_else_proves_nothing(world, newest, web):
    world.jobset.evals = [None, None, None, 9]
    world.jobset.states = [JobsetState("", 100, 130)]
    world.jobset.newest = newest
    world.jobset.outputs = {"db": str(system("db").toplevel)}
    if web:
        world.jobset.outputs["web"] = str(system(web).toplevel)
    assert len(wait(world)) == 2
    assert world.jobset.evals == [9]


def test_what_never_comes_ends_with_the_deadline(world):
    world.jobset.evals = [None]
    with pytest.raises(FlakeError, match=r"after 600 s the jobset has not evaluated") as caught:
        wait(world)
    assert caught.value.kind is Kind.PROOF_OVERDUE
    assert world.clock.seconds == 600


def test_what_is_never_built_is_told_with_what_is_red(world):
    world.jobset.jobs = {"db": [RED], "web": [WAITING]}
    with pytest.raises(FlakeError, match=r"not built: web; red: db failed: https") as caught:
        wait(world)
    assert caught.value.kind is Kind.PROOF_OVERDUE


def test_a_hydra_that_is_away_for_a_while_is_asked_again(world):
    world.jobset.evals = [UNREACHABLE, HydraError(Kind.JOBSET_MISSING, "not yet"), 9]
    world.jobset.states = [None, UNREACHABLE, BEFORE]
    world.jobset.jobs = {"web": [UNREACHABLE, HydraError(Kind.HYDRA_DEADLINE, "late"), GREEN]}
    assert len(wait(world, None)) == 2
    kinds = [f["error.kind"] for e, f in world.sink.said if e.name.endswith("unanswered")]
    assert kinds == [
        "hydra-refused",
        "jobset-missing",
        "hydra-refused",
        *["hydra-refused", "hydra-deadline"],
    ]


def test_a_job_that_could_never_be_asked_about_is_named(world):
    world.jobset.jobs = {"web": [UNREACHABLE]}
    with pytest.raises(FlakeError, match=r"not built: web \(does"):
        wait(world)


def test_what_waiting_does_not_help_against_ends_it_at_once(world):
    world.jobset.evals = [HydraError(Kind.HYDRA_UNAUTHORISED, "401")]
    with pytest.raises(HydraError) as caught:
        wait(world)
    assert caught.value.kind is Kind.HYDRA_UNAUTHORISED
    assert world.clock.seconds == 0


def test_a_jobset_that_is_removed_meanwhile_ends_the_wait(world):
    world.jobset.evals = [HydraError(Kind.JOBSET_MISSING, "removed")]
    with pytest.raises(HydraError) as caught:
        wait(world)
    assert (caught.value.kind, world.clock.seconds) == (Kind.JOBSET_MISSING, 0)


# What is never looked at again


def failed(**more):
    return JobsetState("no such option", 200, 200, **more)


def checked(world, seconds):
    """A time of a check, so many seconds after now."""
    return int(world.clock.now().timestamp()) + seconds


def test_a_failed_check_that_is_the_last_one_ends_the_wait(world):
    world.jobset.evals = [None]
    world.jobset.states = [failed(check_interval=0)]
    with pytest.raises(FlakeError, match="cannot evaluate dddddddddddd: no such option") as caught:
        wait(world)
    assert (caught.value.kind, world.clock.seconds) == (Kind.EVALUATION_RED, 30)


@pytest.mark.parametrize("state", [failed(check_interval=0, is_under_way=True), failed()])
def test_a_check_that_comes_or_may_come_is_waited_for(world, state):
    world.jobset.evals = [None]
    world.jobset.states = [state]
    with pytest.raises(FlakeError) as caught:
        wait(world)
    assert caught.value.kind is Kind.PROOF_OVERDUE


@pytest.mark.parametrize(("interval", "seconds"), [(590, 600), (610, 30)])
def test_a_check_that_is_due_after_the_deadline_is_none(world, interval, seconds):
    world.jobset.evals = [None]
    at = checked(world, 0)
    world.jobset.states = [JobsetState("no such option", at, at, check_interval=interval)]
    with pytest.raises(FlakeError) as caught:
        wait(world)
    assert world.clock.seconds == seconds
    is_overdue = seconds == 600
    assert caught.value.kind is (Kind.PROOF_OVERDUE if is_overdue else Kind.EVALUATION_RED)


def test_an_eval_that_comes_of_a_late_trigger_is_found(world):
    world.jobset.evals = [None, None, None, 9]
    world.jobset.states = [failed(check_interval=0), failed(check_interval=0, is_under_way=True)]
    assert len(wait(world)) == 2


def test_a_jobset_that_is_never_looked_at_is_named_as_such_in_the_end(world):
    world.jobset.evals = [None]
    world.jobset.states = [JobsetState("", 100, 100, check_interval=0)]
    with pytest.raises(FlakeError) as caught:
        wait(world)
    assert caught.value.kind is Kind.PROOF_OVERDUE
    assert "check interval" in caught.value.hint


# A disabled jobset

DISABLED = JobsetState("", 100, 100, is_enabled=False)


def test_a_jobset_that_is_disabled_meanwhile_ends_the_wait(world):
    world.jobset.evals = [None]
    world.jobset.states = [BEFORE, DISABLED]
    with pytest.raises(HydraError, match="disabled before it evaluated dddddddddddd") as caught:
        wait(world)
    assert (caught.value.kind, world.clock.seconds) == (Kind.JOBSET_DISABLED, 30)


def test_a_jobset_that_is_disabled_once_it_has_evaluated_has_its_eval(world):
    world.jobset.evals = [None, UNREACHABLE, None, 9]
    world.jobset.states = [DISABLED]
    assert len(wait(world)) == 2


def test_the_red_jobs_are_known_when_it_has_failed(world):
    world.jobset.jobs = {"db": [RED], "web": [GREEN]}
    proof = HydraProof(world.ports, world.jobset, world.policy, BEFORE, world.evaluated)
    assert proof.red == ()
    with pytest.raises(FlakeError):
        asyncio.run(proof.wait(REVISION))
    assert [one.host for one in proof.red] == ["db"]
