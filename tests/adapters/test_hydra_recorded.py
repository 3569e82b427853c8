"""What a real Hydra answered, and what the client makes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.replay import INSTANCE, Replay, ask, job
from agent.domain.build import Build
from agent.domain.errors import ExitCode, HydraError, Kind
from agent.domain.job import Job, Select

LATEST = Select.LATEST
FINISHED = Select.LATEST_FINISHED

# Choosing a build


def test_the_newest_good_build_is_read_from_the_redirect_which_is_not_followed():
    replay = Replay("job-alpha-latest")
    assert ask(replay, lambda hydra: hydra.newest_good_build(job(), LATEST)) == 32
    assert replay.paths == ["/job/nix-config/main/alpha/latest"]


def test_latest_finished_asks_the_other_redirect():
    replay = Replay("job-alpha-latest-finished")
    assert ask(replay, lambda hydra: hydra.newest_good_build(job(), FINISHED)) == 28


def test_latest_may_go_backwards_and_the_client_says_what_hydra_says():
    replay = Replay("restart-4-latest-regressed")
    assert ask(replay, lambda hydra: hydra.newest_good_build(job(), LATEST)) == 28


def test_a_build_is_told_in_the_words_of_the_domain():
    assert ask(Replay("build-success-latest-alpha"), lambda hydra: hydra.build(32)) == Build(
        id=32,
        project="nix-config",
        jobset="main",
        job="alpha",
        system="x86_64-linux",
        is_finished=True,
        status=0,
        outputs={"out": "/nix/store/vc5mmzcxri0id7279640wvk9jsv7ylqy-nixos-system-alpha-26.05"},
        evals=(17,),
        finished_at=datetime.fromtimestamp(1795214718, UTC),
    )


def test_a_restarted_build_is_unfinished_though_its_status_and_times_are_those_of_its_first_run():
    build = ask(Replay("restart-3-build-after"), lambda hydra: hydra.build(32))
    assert (build.is_finished, build.is_good) == (False, False)
    assert build.status == 0
    assert build.finished_at is None


def test_a_queued_build_has_no_status_but_an_output():
    build = ask(Replay("build-queued"), lambda hydra: hydra.build(28))
    assert (build.is_finished, build.status) == (False, None)
    assert build.outputs["out"] is not None


def test_a_build_rewritten_by_a_newer_eval_is_unfinished_again():
    build = ask(Replay("build-repointed-unfinished-again"), lambda hydra: hydra.build(25))
    assert not build.is_good


@pytest.mark.parametrize(
    ("name", "build_id", "status"),
    [
        ("build-failed-newer", 36, 1),
        ("build-depfailed-aggregate", 37, 2),
        ("build-cancelled", 41, 4),
        ("build-timed-out", 24, 7),
        ("build-failed-with-output", 22, 6),
    ],
)
def test_a_build_that_failed_is_not_good_whatever_its_status(name, build_id, status):
    build = ask(Replay(name), lambda hydra: hydra.build(build_id))
    assert (build.is_finished, build.is_good, build.status) == (True, False, status)


def test_all_outputs_of_a_build_are_told():
    build = ask(Replay("build-multi-output"), lambda hydra: hydra.build(18))
    assert set(build.outputs) == {"out", "dev"}


def test_an_output_whose_path_is_not_known_is_none():
    body = {
        "id": 9, "project": "p", "jobset": "j", "job": "x", "system": "s", "finished": True,
        "buildstatus": 0, "buildoutputs": {"out": {"path": None}, "doc": {}}, "jobsetevals": [],
    }  # fmt: skip
    build = ask(Replay().set("/build/9", 200, body), lambda hydra: hydra.build(9))
    assert build.outputs == {"out": None, "doc": None}
    assert build.is_finished
    assert build.finished_at is None


def test_a_build_that_is_no_more_is_missing():
    with pytest.raises(HydraError) as caught:
        ask(Replay("build-nosuch"), lambda hydra: hydra.build(99999999))
    assert caught.value.kind is Kind.BUILD_MISSING


# Choosing the eval and the flake


def some_build(*evals: int) -> Build:
    return Build(36, "nix-config", "main", "alpha", "s", True, 0, {}, evals, None)  # noqa: FBT003


def test_the_flake_is_that_of_the_highest_eval_though_hydra_lists_them_in_no_order():
    replay = Replay("eval-latest-unfinished")
    found = ask(replay, lambda hydra: hydra.locked_flake(some_build(17, 18, 15, 14, 11)))
    assert found == (
        18,
        "git+file:///srv/nix-config?ref=main&rev=2a33e3fd1edf5ddaa07e20505c4badfed241b488",
    )
    assert replay.paths == ["/eval/18"]


def test_of_a_deleted_eval_the_next_lower_one_is_taken():
    replay = Replay("eval-nosuch", "eval-normal-1")
    found, _ = ask(replay, lambda hydra: hydra.locked_flake(some_build(1, 999999)))
    assert found == 1
    assert replay.paths == ["/eval/999999", "/eval/1"]


def test_after_five_deleted_evals_nothing_more_is_asked():
    replay = Replay()
    for number in range(1, 20):
        replay.set(f"/eval/{number}", 404, {"error": f"Evaluation {number} doesn't exist."})
    with pytest.raises(HydraError, match="19, 18, 17, 16, 15") as caught:
        ask(replay, lambda hydra: hydra.locked_flake(some_build(*range(1, 20))))
    assert caught.value.kind is Kind.EVAL_MISSING
    assert len(replay.paths) == 5


def test_a_build_without_evals_has_no_flake_and_nothing_is_asked():
    replay = Replay()
    with pytest.raises(HydraError) as caught:
        ask(replay, lambda hydra: hydra.locked_flake(some_build()))
    assert caught.value.kind is Kind.BUILD_WITHOUT_EVAL
    assert replay.paths == []


def test_the_eval_of_a_jobset_that_is_no_flake_has_none():
    with pytest.raises(HydraError) as caught:
        ask(Replay("eval-legacy"), lambda hydra: hydra.locked_flake(some_build(22)))
    assert caught.value.kind is Kind.EVAL_WITHOUT_FLAKE


@pytest.mark.parametrize(
    ("name", "eval_id", "end"),
    [
        ("eval-cached-hasnewbuilds0", 2, "rev=6c4ba7b3fc170791d884e8eea4e22869a9bad66d"),
        ("eval-flake-pathflake", 3357, "narHash=sha256-UROs5vGHM90udW7p3yRQRMgg9ygUyTiJscJawWB2Gg4%3D"),
        ("eval-flake-subdir", 3358, "rev=15f7f3e6edbe2884b3a5785f9621366f7ade78a8"),
        ("eval-flake-tarball", 3359, "narHash=sha256-UROs5vGHM90udW7p3yRQRMgg9ygUyTiJscJawWB2Gg4%3D"),
    ],
)  # fmt: skip
def test_every_kind_of_locked_flake_comes_through_unchanged(name, eval_id, end):
    _, flake = ask(Replay(name), lambda hydra: hydra.locked_flake(some_build(eval_id)))
    assert flake.endswith(end)


# Why there is no build


def absence(replay, asked, select=LATEST, code=ExitCode.NOT_FOUND):
    if QUEUE not in replay:
        replay.set(QUEUE, 200, "[]")
    if PROJECT not in replay:
        replay.set(PROJECT, 200, {"enabled": True})
    with pytest.raises(HydraError) as caught:
        ask(replay, lambda hydra: hydra.newest_good_build(asked, select))
    assert caught.value.exit_code is code
    return caught.value


def a_build(number, job="alpha", *, status, finished=1):
    known = {"id": number, "project": "nix-config", "jobset": "main", "job": job, "system": "s"}
    return {
        **known,
        "finished": finished,
        "buildstatus": status,
        "buildoutputs": {},
        "jobsetevals": [],
    }


def queued(number, job="alpha", jobset="main"):
    return {"id": number, "project": "nix-config", "jobset": jobset, "job": job, "priority": 100}


HELD = ExitCode.HELD
QUEUE = "/api/queue?nr=200"
PROJECT = "/project/nix-config"
NO_BUILD = {"error": "There is no successful build to redirect to."}
NO_JOB = {"error": "This evaluation has no job with the specified name."}
EVALS = "/jobset/nix-config/main/evals"
LATEST_BUILDS = "/api/latestbuilds?nr=1&project=nix-config&jobset=main&job="
HEALTHY = {"enabled": 1, "errormsg": "", "fetcherrormsg": ""}
ERRORS = "/jobset/nix-config/main/errors"


def test_a_misspelt_jobset_is_missing():
    error = absence(Replay("job-latest-nosuch-jobset"), job(jobset="nosuch"))
    assert error.kind is Kind.JOBSET_MISSING
    assert "'nosuch'" in error.message


def test_a_misspelt_project_is_reported_as_a_missing_jobset_and_the_message_names_both():
    error = absence(Replay("job-latest-nosuch-project"), job(project="nosuch"))
    assert error.kind is Kind.JOBSET_MISSING
    assert "'main'" in error.message
    assert "'nosuch'" in error.message


def test_a_disabled_jobset_without_a_good_build_is_told():
    replay = Replay("job-latest-disabled-jobset").set(
        "/jobset/nix-config/disabled/errors", 200, {**HEALTHY, "enabled": 0}
    )
    replay.set("/jobset/nix-config/disabled/evals", 200, {"evals": []})
    assert absence(replay, job(jobset="disabled")).kind is Kind.JOBSET_DISABLED


def test_a_jobset_enabled_in_a_special_way_is_not_disabled():
    replay = Replay("job-latest-empty-jobset")
    replay.set("/jobset/nix-config/empty/errors", 200, {**HEALTHY, "enabled": 3})
    replay.set("/jobset/nix-config/empty/evals", 200, {"evals": []})
    assert absence(replay, job(jobset="empty")).kind is Kind.JOBSET_NEVER_EVALUATED


def test_a_jobset_that_never_evaluated_tells_the_first_line_of_hydras_error():
    replay = Replay("jobset-broken-errors")
    replay.set(
        "/job/nix-config/broken/alpha/latest",
        404,
        {"error": "There is no successful build to redirect to."},
    )
    replay.set("/jobset/nix-config/broken/evals", 200, {"evals": []})
    error = absence(replay, job(jobset="broken"))
    assert error.kind is Kind.JOBSET_NEVER_EVALUATED
    assert error.message.endswith(
        "process ended prematurely at /hydra/app/script/hydra-eval-jobset line 409."
    )


def without_job(errormsg):
    replay = Replay("job-nosuchjob-latest", "jobset-main-evals")
    replay.set(ERRORS, 200, {**HEALTHY, "errormsg": errormsg})
    return replay.set("/eval/18/job/nosuchjob", 404, NO_JOB)


def test_a_misspelt_job_is_missing_from_the_newest_eval():
    error = absence(without_job("\n in job 'alpha':\nerror: of alpha"), job("nosuchjob"))
    assert error.kind is Kind.JOB_MISSING
    assert "of alpha" not in error.message


def test_where_the_whole_evaluation_fails_that_is_reported_beside_the_missing_job():
    error = absence(without_job("nix-eval-jobs returned exit code 1"), job("nosuchjob"))
    assert error.kind is Kind.JOB_MISSING
    assert error.message.endswith("at present: nix-eval-jobs returned exit code 1")


def test_a_job_that_does_not_evaluate_is_not_missing():
    text = "in job 'alpha':\nerror: of alpha\n\nin job 'nosuchjob':\nerror:\n  error: no 'x'"
    error = absence(without_job(text), job("nosuchjob"))
    assert error.kind is Kind.JOB_NOT_EVALUATED
    assert error.message.endswith("cannot evaluate it: error: no 'x'")


def delta(answer, number=33):
    replay = Replay("job-delta-latest", "jobset-main-evals").set(ERRORS, 200, HEALTHY)
    replay.set("/eval/18/job/delta", 302, Location=f"{INSTANCE}/build/{number}")
    return replay.set(f"/build/{number}", 200, answer)


def test_a_job_whose_first_build_is_queued_in_an_unfinished_eval_is_not_built_yet():
    replay = delta(a_build(33, "delta", status=None, finished=0))
    error = absence(replay, job("delta"), code=HELD)
    assert error.kind is Kind.JOB_NOT_BUILT_YET
    assert error.passes
    assert "33 in eval 18" in error.message


def test_the_only_good_build_that_is_built_again_is_unfinished():
    replay = delta(a_build(33, "delta", status=0, finished=0)).set(ERRORS, 500)
    error = absence(replay, job("delta"), code=HELD)
    assert error.kind is Kind.BUILD_UNFINISHED
    assert "is being built again" in error.message


@pytest.mark.parametrize(
    ("status", "kind"), [(0, Kind.BUILD_UNFINISHED), (None, Kind.JOB_NOT_BUILT_YET)]
)
def test_a_build_of_an_older_eval_that_is_built_again_is_found_in_the_queue(status, kind):
    replay = delta(a_build(33, "delta", status=1))
    replay.set(QUEUE, 200, [queued(1), queued(20, "delta", "other"), queued(21, "delta")])
    replay.set("/build/21", 200, a_build(21, "delta", status=status, finished=0))
    assert absence(replay, job("delta"), code=HELD).kind is kind


def test_of_several_in_the_queue_the_one_that_was_good_is_told():
    replay = without_job("").set(QUEUE, 200, [queued(n, "nosuchjob") for n in (4, 5, 6)])
    replay.set("/build/4", 200, a_build(4, "nosuchjob", status=None, finished=0))
    replay.set("/build/5", 200, a_build(5, "nosuchjob", status=1))
    replay.set("/build/6", 200, a_build(6, "nosuchjob", status=0, finished=0))
    error = absence(replay, job("nosuchjob"), code=HELD)
    assert (error.kind, "build 6" in error.message) == (Kind.BUILD_UNFINISHED, True)


def test_a_job_that_always_failed_tells_what_its_newest_build_did():
    error = absence(delta(a_build(33, "delta", status=7)), job("delta"))
    assert error.kind is Kind.JOB_NEVER_GOOD
    assert "33, timed out" in error.message
    assert error.hint == f"see {INSTANCE}/build/33"


def test_a_newest_build_that_has_become_good_in_the_meantime_is_not_called_a_failure():
    error = absence(delta(a_build(33, "delta", status=0)), job("delta"), code=HELD)
    assert error.kind is Kind.BUILD_UNFINISHED
    assert "has just become good" in error.message


def test_where_the_evals_are_too_many_to_be_listed_the_newest_build_says_why():
    replay = Replay("job-delta-latest").set(ERRORS, 200, HEALTHY).set(EVALS, 200, "{}")
    replay.set(f"{LATEST_BUILDS}delta", 200, [{"id": 24, "buildstatus": 7}])
    assert "24, timed out" in absence(replay, job("delta")).message


def test_a_job_that_is_good_only_in_unfinished_evals_is_told_from_one_that_never_was():
    replay = Replay("job-alpha-latest").set(ERRORS, 200, HEALTHY)
    replay.set("/job/nix-config/main/alpha/latest-finished", 404, NO_BUILD)
    error = absence(replay, job(), FINISHED, code=HELD)
    assert error.kind is Kind.JOB_NOT_BUILT_YET
    assert "hydra.select" in error.hint


def test_a_disabled_project_is_the_reason_where_its_jobset_seems_enabled():
    replay = without_job("").set(PROJECT, 200, {"enabled": False})
    error = absence(replay, job("nosuchjob"))
    assert error.kind is Kind.JOBSET_DISABLED
    assert "the project of" in error.message


@pytest.mark.parametrize("what", ["starttime", "triggertime"])
def test_a_first_evaluation_that_is_under_way_is_waited_for(what):
    replay = Replay("job-delta-latest").set(ERRORS, 200, {**HEALTHY, what: 1})
    replay.set(EVALS, 200, {"evals": []})
    error = absence(replay, job("delta"), code=HELD)
    assert error.kind is Kind.JOB_NOT_BUILT_YET
    assert "for the first time" in error.message


def test_a_renamed_jobset_is_named_and_not_followed():
    replay = Replay("renamed-latest")
    error = absence(replay, job(jobset="oldname"))
    assert error.kind is Kind.JOBSET_RENAMED
    assert "'newname'" in error.message
    assert len(replay.paths) == 1


def test_when_hydra_does_not_say_why_the_kind_admits_it():
    replay = Replay("job-nosuchjob-latest").set(ERRORS, 200, "SQL")
    replay.set(f"{LATEST_BUILDS}nosuchjob", 200, "null").set(EVALS, 200, "{}")
    assert absence(replay, job("nosuchjob")).kind is Kind.JOB_WITHOUT_GOOD_BUILD


@pytest.mark.parametrize("path", [ERRORS, EVALS, QUEUE, "/eval/18/job/nosuchjob"])
@pytest.mark.parametrize("status", [500, 429])
def test_what_hydra_cannot_say_now_decides_nothing(path, status):
    replay = without_job("").set(path, status).set(f"{LATEST_BUILDS}nosuchjob", 200, "[]")
    error = absence(replay, job("nosuchjob"), code=ExitCode.UNREACHABLE)
    assert error.kind in (Kind.HYDRA_SERVER_ERROR, Kind.HYDRA_RATE_LIMITED)


def test_one_answer_of_many_may_be_enough_to_say_why():
    replay = delta(a_build(33, "delta", status=7)).set(ERRORS, 500).set(PROJECT, 500)
    assert absence(replay, job("delta")).kind is Kind.JOB_NEVER_GOOD


def test_a_404_of_the_newest_eval_that_is_not_hydras_proves_nothing():
    replay = without_job("").set("/eval/18/job/nosuchjob", 404, "<html>")
    assert absence(replay, job("nosuchjob")).kind is Kind.JOB_WITHOUT_GOOD_BUILD


@pytest.mark.parametrize("body", ["<html>Not here</html>", "", "not found", "[]", '{"message": 1}'])
def test_a_404_that_is_not_hydras_points_at_the_instance(body):
    replay = Replay().set("/job/nix-config/main/alpha/latest", 404, body)
    with pytest.raises(HydraError) as caught:
        ask(replay, lambda hydra: hydra.newest_good_build(job(), LATEST))
    assert caught.value.kind is Kind.HYDRA_STATUS
    assert "hydra.instance" in caught.value.hint


# HTTP


def test_every_request_asks_for_plain_json_and_says_who_asks():
    replay = Replay("job-alpha-latest")
    ask(replay, lambda hydra: hydra.newest_good_build(job(), LATEST))
    headers = replay.asked[0].headers
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("nixos-hydra-agent/")
    assert "authorization" not in headers


def test_html_with_status_200_is_not_a_build():
    with pytest.raises(HydraError) as caught:
        ask(Replay("accept-none"), lambda hydra: hydra.build(36))
    assert caught.value.kind is Kind.HYDRA_HTML


def test_the_session_that_hydra_opens_is_kept_for_the_next_request():
    replay = Replay("job-alpha-latest", "build-success-latest-alpha")
    replay.set(
        "/job/nix-config/main/alpha/latest",
        302,
        Location=f"{INSTANCE}/build/32",
        Set_Cookie="hydra_session=abc123; path=/; HttpOnly; SameSite=Lax",
    )

    async def twice(hydra):
        await hydra.build(await hydra.newest_good_build(job(), LATEST))

    ask(replay, twice)
    assert "cookie" not in replay.asked[0].headers
    assert replay.asked[1].headers["cookie"] == "hydra_session=abc123"


def test_a_proxy_that_gives_location_another_host_and_scheme_does_no_harm():
    replay = Replay("location-xff-nonlocal", "build-success-latest-alpha")

    async def both(hydra):
        return await hydra.build(await hydra.newest_good_build(job(), LATEST))

    assert ask(replay, both).id == 32
    assert {request.url.host for request in replay.asked} == {"127.0.0.1"}


@pytest.mark.parametrize("location", ["/build/7", "/hydra/build/7", "https://x.example/build/7/"])
def test_an_instance_below_a_path_is_asked_below_it(location):
    replay = Replay().set("/hydra/job/nix-config/main/alpha/latest", 302, Location=location)
    found = ask(
        replay,
        lambda hydra: hydra.newest_good_build(job(), LATEST),
        instance="https://hydra.example.org/hydra/",
    )
    assert found == 7


def test_a_dotted_name_is_asked_with_its_quotes_encoded():
    replay = Replay("job-Qweb-1.example.orgQ-latest")
    found = ask(replay, lambda hydra: hydra.newest_good_build(job('"web-1.example.org"'), LATEST))
    assert found == 21
    assert replay.paths == ["/job/nix-config/main/%22web-1.example.org%22/latest"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("..", "/job/p/j/%2E%2E/latest"),
        (".", "/job/p/j/%2E/latest"),
        ("a/../../b", "/job/p/j/a%2F..%2F..%2Fb/latest"),
        ("a\0b", "/job/p/j/a%00b/latest"),
        ("a?b#c", "/job/p/j/a%3Fb%23c/latest"),
        ("ä %22", "/job/p/j/%C3%A4%20%2522/latest"),
        ("a\r\nb", "/job/p/j/a%0D%0Ab/latest"),
    ],
)
def test_whatever_a_name_holds_it_stays_one_segment_of_the_path(name, path):
    replay = Replay().set(path, 302, Location="/build/1")
    asked = Job(INSTANCE, "p", "j", name)
    assert ask(replay, lambda hydra: hydra.newest_good_build(asked, LATEST)) == 1


def test_names_cannot_add_parameters_to_a_query():
    replay = Replay("job-nosuchjob-latest")
    replay.set("/job/a%26b/c%3Dd/e%23f/latest", 404, {"error": "There is no successful build …"})
    replay.set("/jobset/a%26b/c%3Dd/errors", 200, HEALTHY)
    replay.set("/jobset/a%26b/c%3Dd/evals", 200, "{}").set("/project/a%26b", 404, "{}")
    path = "/api/latestbuilds?nr=1&project=a%26b&jobset=c%3Dd&job=e%23f"
    replay.set(path, 200, [{"id": 3, "buildstatus": None}])
    error = absence(replay, job("e#f", "c=d", "a&b"))
    assert error.kind is Kind.JOB_NEVER_GOOD


@pytest.mark.parametrize("name", ["private-anon-build", "private-stale-cookie"])
def test_a_private_instance_says_unauthorised(name):
    with pytest.raises(HydraError) as caught:
        ask(Replay(name), lambda hydra: hydra.build(32))
    assert caught.value.kind is Kind.HYDRA_UNAUTHORISED
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


@pytest.mark.parametrize("name", ["dbdown-build", "dbdown-no-accept"])
def test_a_failing_database_is_a_server_error_and_its_text_is_never_quoted(name):
    with pytest.raises(HydraError) as caught:
        ask(Replay(name), lambda hydra: hydra.build(32))
    assert caught.value.kind is Kind.HYDRA_SERVER_ERROR
    told = str(caught.value)
    assert "/build/32" in told
    for secret in ("5442", "dbname", "DBI"):
        assert secret not in told


# What is to come

BUILD_32 = Build(32, "nix-config", "main", "alpha", "s", True, 0, {}, (17,), None)  # noqa: FBT003


def test_a_newer_red_build_is_told():
    replay = Replay("job-alpha-shield", "jobset-main-latest-eval").set(ERRORS, 200, HEALTHY)
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert outlook.newer_build_failed is True
    assert outlook.gone_since_eval is None
    assert outlook.is_jobset_disabled is False
    assert outlook.evaluation_error == ""
    assert outlook.fault is None


@pytest.mark.parametrize(
    ("message", "failed"),
    [("passing", False), ("failing", True), ("cancelled", False), ("unheard of", None)],
)
def test_the_badge_of_the_job_says_how_its_newest_build_ended(message, failed):
    replay = Replay("jobset-main-latest-eval").set(ERRORS, 200, HEALTHY)
    replay.set("/job/nix-config/main/alpha/shield", 200, {"message": message, "color": "x"})
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert (outlook.newer_build_failed, outlook.fault) == (failed, None)


def test_a_removed_job_is_told_though_latest_goes_on_answering():
    replay = Replay("job-removed-latest", "job-removed-eval-job").set(ERRORS, 200, HEALTHY)
    replay.set("/job/nix-config/main/metrics/shield", 404, {"error": "No latest build for job"})
    replay.set(
        "/jobset/nix-config/main/latest-eval", 302, Location=f"{INSTANCE}/eval/3356?name=main"
    )
    build = Build(17, "nix-config", "main", "metrics", "s", True, 0, {}, (18, 8), None)  # noqa: FBT003
    assert ask(replay, lambda hydra: hydra.newest_good_build(job("metrics"), LATEST)) == 17
    outlook = ask(replay, lambda hydra: hydra.outlook(job("metrics"), build))
    assert outlook.gone_since_eval == 3356
    assert outlook.newer_build_failed is None


def test_a_job_that_a_newer_eval_still_has_is_not_gone():
    replay = Replay("job-alpha-shield", "eval-18-job-alpha").set(ERRORS, 200, HEALTHY)
    replay.set("/jobset/nix-config/main/latest-eval", 302, Location=f"{INSTANCE}/eval/18?name=main")
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert outlook.gone_since_eval is None
    assert "/eval/18/job/alpha" in replay.paths


def test_broken_evaluation_and_a_disabled_jobset_are_told():
    replay = Replay("job-alpha-shield", "jobset-main-latest-eval")
    replay.set(ERRORS, 200, {"enabled": False, "errormsg": "\n  error: one\ntwo", "x": []})
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert outlook.is_jobset_disabled is True
    assert outlook.evaluation_error == "error: one"


def test_a_job_that_does_not_evaluate_is_not_called_gone():
    replay = Replay("job-alpha-shield")
    replay.set(ERRORS, 200, {"enabled": 1, "errormsg": "in job ‘alpha’:\nerror: own"})  # noqa: RUF001
    replay.set("/jobset/nix-config/main/latest-eval", 302, Location=f"{INSTANCE}/eval/18?name=main")
    replay.set("/eval/18/job/alpha", 404, NO_JOB)
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert (outlook.gone_since_eval, outlook.evaluation_error) == (None, "error: own")
    replay.set(ERRORS, 200, {"enabled": 1, "errormsg": "in job ‘beta’:\nerror: other"})  # noqa: RUF001
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert (outlook.gone_since_eval, outlook.evaluation_error) == (18, "")
    replay.set(ERRORS, 500)
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert (outlook.gone_since_eval, outlook.evaluation_error) == (None, None)


def test_an_error_of_fetching_the_flake_comes_first():
    replay = Replay("job-alpha-shield", "jobset-main-latest-eval")
    replay.set(ERRORS, 200, {"enabled": 1, "errormsg": "old", "fetcherrormsg": "no route"})
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert outlook.evaluation_error == "no route"


def test_an_outlook_never_raises_and_tells_what_it_could_learn():
    replay = Replay("job-alpha-shield").set(ERRORS, 403)
    replay.set("/jobset/nix-config/main/latest-eval", 404, {"error": "No evaluation found."})
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), BUILD_32))
    assert outlook.newer_build_failed is True
    assert outlook.is_jobset_disabled is None
    assert outlook.fault is not None
    assert outlook.fault.kind is Kind.HYDRA_UNAUTHORISED


def test_without_a_build_nothing_can_be_gone_since():
    replay = Replay("job-alpha-shield").set(ERRORS, 200, HEALTHY)
    outlook = ask(replay, lambda hydra: hydra.outlook(job(), None))
    assert outlook.gone_since_eval is None
    assert len(replay.paths) == 2
