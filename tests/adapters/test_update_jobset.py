"""How far Hydra has come with an update's branch, asked of the embedded Hydra."""

from __future__ import annotations

import asyncio

import pytest

from agent.adapters.http.retries import Retries
from agent.adapters.hydra.update_jobset import HydraUpdateJobset
from agent.application.flake_update.ports import JobsetState
from agent.demo.hydra import EmbeddedHydra
from agent.domain.errors import HydraError, Kind
from agent.domain.flake_update.hydra_proof import HostJob, JobState
from agent.domain.job import Job
from demo.hydra_changes import disable_jobset, disable_project, fail_evaluation, rename_jobset
from fakes.events import RememberedEvents, SteppedClock

HOSTS = ("web-1", "db.example.org")
REVISION = "1" * 40
PATH = "/nix/store/0000000000000000000000000000000a-nixos-system"


@pytest.fixture
def hydra():
    with EmbeddedHydra() as server:
        server.world.add_jobset("nix-config", "flake-update")
        yield server


def jobset(hydra, name="flake-update", job="{host}", retries=None):
    return HydraUpdateJobset(
        Job(hydra.url, "nix-config", name, job),
        timeout=5.0,
        deadline=5.0,
        sink=RememberedEvents(),
        clock=SteppedClock(),
        retries=retries or Retries(attempts=1),
    )


def evaluate(hydra, revision=REVISION, form="git+file:///srv/nix?ref=flake-update&rev={}", **more):
    flake = form.format(revision)
    return hydra.world.add_eval("nix-config", "flake-update", flake=flake, **more)


def test_a_jobset_that_was_never_evaluated_has_no_error(hydra):
    assert asyncio.run(jobset(hydra).state(HOSTS)) == JobsetState("", None, check_interval=0)


def test_a_jobset_that_is_not_there_yet_has_no_state_and_no_evals(hydra):
    missing = jobset(hydra, "flake-update-20261219")
    assert asyncio.run(missing.state(HOSTS)) is None
    with pytest.raises(HydraError) as caught:
        asyncio.run(missing.find_eval(REVISION))
    assert caught.value.kind is Kind.JOBSET_MISSING


def test_an_evaluation_error_has_its_innermost_line_and_its_time(hydra):
    hydra.world.now = lambda: 1_795_000_000
    fail_evaluation(
        hydra.world,
        "nix-config",
        "flake-update",
        "\nerror:\n  … while\n  error: no such option\n at x",
    )
    assert asyncio.run(jobset(hydra).state(HOSTS)) == JobsetState(
        "error: no such option", 1_795_000_000, 1_795_000_000, check_interval=0
    )


@pytest.mark.parametrize(
    "form",
    [
        "git+file:///srv/nix?ref=flake-update&rev={}",
        "git+https://forge/x.git?rev={}&submodules=1",
        "github:owner/repo/{}?narHash=sha256-x",
    ],
)
def test_the_eval_of_a_revision_is_found_however_its_flake_is_written(hydra, form):
    evaluate(hydra, "2" * 40, form)
    assert asyncio.run(jobset(hydra).find_eval(REVISION)) is None
    evaluate(hydra, REVISION, form)
    newest = evaluate(hydra, REVISION, form)
    evaluate(hydra, "3" * 40, form)
    assert asyncio.run(jobset(hydra).find_eval(REVISION)) == newest


def test_what_changes_nothing_is_seen_by_the_check_and_not_among_the_evals(hydra):
    hydra.world.now = lambda: 1_795_000_000
    known = evaluate(hydra, "2" * 40)
    build_id = hydra.world.add_build("web-1", PATH, eval_id=known)
    hydra.world.now = lambda: 1_795_000_300
    evaluate(hydra, is_cached=True)
    asked = jobset(hydra)
    assert asyncio.run(asked.state(HOSTS)).checked_at == 1_795_000_300
    assert asyncio.run(asked.find_eval(REVISION)) is None
    assert asyncio.run(asked.newest_eval()) == known
    assert asyncio.run(asked.job_of(known, "web-1")) == HostJob(
        "web-1", JobState.GREEN, f"{hydra.url}/build/{build_id}", output=PATH
    )


def test_a_jobset_without_evals_has_no_newest(hydra):
    assert asyncio.run(jobset(hydra).newest_eval()) is None


@pytest.mark.parametrize("flake", [None, "git+https://[x", "git+https://x?rev=11111"])
def test_other_flakes_are_not_taken_for_it(hydra, flake):
    hydra.world.add_eval("nix-config", "flake-update", flake=flake)
    assert asyncio.run(jobset(hydra).find_eval(REVISION)) is None


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (0, JobState.GREEN, ""),
        (None, JobState.WAITING, ""),
        (1, JobState.RED, "failed"),
        (9, JobState.RED, "is for a system that no builder supports"),
    ],
)
def test_a_hosts_job_stands_as_its_build_in_the_eval(hydra, status, state, reason):
    eval_id = evaluate(hydra)
    build_id = hydra.world.add_build("web-1", PATH, eval_id=eval_id, status=status)
    link = f"{hydra.url}/build/{build_id}"
    found = asyncio.run(jobset(hydra).job_of(eval_id, "web-1"))
    assert found == HostJob("web-1", state, link, reason, PATH)


def test_a_job_has_the_name_that_the_jobset_gives_to_hosts(hydra):
    eval_id = evaluate(hydra)
    hydra.world.add_build('nixos."db.example.org"', PATH, eval_id=eval_id)
    found = asyncio.run(jobset(hydra, job="nixos.{host}").job_of(eval_id, "db.example.org"))
    assert found.state is JobState.GREEN


def test_a_host_without_a_job_in_the_eval_is_red(hydra):
    eval_id = evaluate(hydra)
    found = asyncio.run(jobset(hydra).job_of(eval_id, "web-1"))
    link = f"{hydra.url}/eval/{eval_id}"
    assert found == HostJob("web-1", JobState.RED, link, "has no job web-1")


def test_a_host_whose_job_does_not_evaluate_says_so(hydra):
    eval_id = evaluate(hydra)
    text = "in job 'db':\nerror: of db\n\nin job 'web-1':\nerror:\n  … while\n  error: of web\n"
    fail_evaluation(hydra.world, "nix-config", "flake-update", text)
    found = asyncio.run(jobset(hydra).job_of(eval_id, "web-1"))
    assert found.reason == "does not evaluate: error: of web"
    found = asyncio.run(jobset(hydra).job_of(eval_id, "mail"))
    assert found.reason == "has no job mail"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("in job 'nixos.web-1':\nerror: x", "web-1 does not evaluate: error: x"),
        ("in job 'nixos.\"db.example.org\"':\nerror: x", "db.example.org does not evaluate: error: x"),
        ("in job 'nixos.mail':\nerror: x", ""),
        ("nix-eval-jobs returned exit code 1", "nix-eval-jobs returned exit code 1"),
    ],
)  # fmt: skip
def test_only_errors_of_the_hosts_or_of_the_whole_evaluation_count(hydra, text, error):
    fail_evaluation(hydra.world, "nix-config", "flake-update", text)
    assert asyncio.run(jobset(hydra, job="nixos.{host}").state(HOSTS)).error == error


def test_when_a_jobset_is_evaluated_again_is_in_its_state(hydra):
    row = hydra.world.jobset("nix-config", "flake-update")
    row.checkinterval, row.enabled = 300, 0
    state = asyncio.run(jobset(hydra).state(HOSTS))
    assert (state.check_interval, state.is_under_way, state.is_enabled) == (300, False, False)
    row.triggertime = 1
    assert asyncio.run(jobset(hydra).state(HOSTS)).is_under_way


def refusal(hydra, name="flake-update"):
    with pytest.raises(HydraError) as caught:
        asyncio.run(jobset(hydra, name).require())
    return caught.value


def test_a_jobset_that_is_evaluated_is_not_refused(hydra):
    asyncio.run(jobset(hydra).require())


def test_a_missing_jobset_is_refused_unless_it_may_be_declared(hydra):
    error = refusal(hydra, "other")
    assert error.kind is Kind.JOBSET_MISSING
    assert "'other' of the project 'nix-config'" in error.message
    hydra.world.declarative_projects.add("nix-config")
    asyncio.run(jobset(hydra, "other").require())
    disable_project(hydra.world, "nix-config")
    assert refusal(hydra, "other").kind is Kind.JOBSET_DISABLED


def test_a_missing_project_is_refused(hydra):
    hydra.world.projects.clear()
    hydra.world.jobsets.clear()
    assert refusal(hydra).kind is Kind.JOBSET_MISSING


@pytest.mark.parametrize("what", ["jobset", "project"])
def test_a_disabled_jobset_or_project_is_refused(hydra, what):
    if what == "jobset":
        disable_jobset(hydra.world, "nix-config", "flake-update")
    else:
        disable_project(hydra.world, "nix-config")
    error = refusal(hydra)
    assert error.kind is Kind.JOBSET_DISABLED
    assert f"the {what} is disabled" in error.message


def test_a_renamed_jobset_is_told(hydra):
    rename_jobset(hydra.world, "nix-config", "flake-update", "updates")
    with pytest.raises(HydraError) as caught:
        asyncio.run(jobset(hydra).state(HOSTS))
    assert caught.value.kind is Kind.HYDRA_REDIRECT


def test_a_database_that_goes_away_within_an_answer_is_asked_once_more(hydra):
    eval_id = evaluate(hydra)
    hydra.world.breaks_off = 1
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    asked = jobset(hydra, retries=Retries(attempts=2, sleep=sleep))
    assert asyncio.run(asked.find_eval(REVISION)) == eval_id
    assert len(waits) == 1


def test_all_questions_of_a_run_are_of_one_session(hydra):
    evaluate(hydra)
    one = jobset(hydra)
    asyncio.run(one.state(HOSTS))
    asyncio.run(one.find_eval(REVISION))
    asyncio.run(one.newest_eval())
    first, *others = [request.headers.get("cookie") for request in hydra.requests]
    assert first is None
    assert len(others) >= 2
    assert len(set(others)) == 1
    assert others[0].startswith("hydra_session=")
