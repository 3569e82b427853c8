from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.domain.build import Build, admit
from agent.domain.errors import ExitCode, HydraError, Kind
from agent.domain.job import Job, default_job_name

PATH = "/nix/store/1w67kssi27khscpn529avnivzpa5xwcc-nixos-system-alpha-26.05"
ASKED = Job("https://hydra.example.org", "nix-config", "main", "alpha")
GOOD = Build(
    id=32,
    project="nix-config",
    jobset="main",
    job="alpha",
    system="x86_64-linux",
    is_finished=True,
    status=0,
    outputs={"out": PATH},
    evals=(17, 18, 15, 14, 11),
    finished_at=datetime(2026, 11, 20, tzinfo=UTC),
)


def admitted(build, system="x86_64-linux"):
    return admit(build, ASKED, store_dir="/nix/store", system=system)


def test_a_good_build_of_the_job_gives_its_output():
    assert admitted(GOOD) == PATH


def test_the_platform_is_not_compared_where_the_host_does_not_know_its_own():
    assert admitted(replace(GOOD, system="aarch64-linux"), system=None) == PATH


@pytest.mark.parametrize(
    ("change", "kind", "code", "told"),
    [
        ({"job": "beta"}, Kind.BUILD_OTHER_JOB, ExitCode.BAD_ANSWER, "nix-config:main:beta"),
        ({"jobset": "next"}, Kind.BUILD_OTHER_JOB, ExitCode.BAD_ANSWER, "nix-config:next:alpha"),
        ({"project": "x"}, Kind.BUILD_OTHER_JOB, ExitCode.BAD_ANSWER, "x:main:alpha"),
        ({"is_finished": False}, Kind.BUILD_UNFINISHED, ExitCode.HELD, "being built again"),
        (
            {"is_finished": False, "status": None},
            Kind.BUILD_UNFINISHED,
            ExitCode.HELD,
            "being built again",
        ),
        ({"status": 7}, Kind.BUILD_FAILED, ExitCode.BAD_ANSWER, "timed out"),
        ({"status": 99}, Kind.BUILD_FAILED, ExitCode.BAD_ANSWER, "failed"),
        ({"status": None}, Kind.BUILD_FAILED, ExitCode.BAD_ANSWER, "failed"),
        (
            {"system": "aarch64-linux"},
            Kind.BUILD_OTHER_SYSTEM,
            ExitCode.BAD_ANSWER,
            "this host is x86_64-linux",
        ),
        ({"outputs": {}}, Kind.BUILD_WITHOUT_OUTPUT, ExitCode.BAD_ANSWER, "no output 'out'"),
        ({"outputs": {"dev": PATH}}, Kind.BUILD_WITHOUT_OUTPUT, ExitCode.BAD_ANSWER, "'out'"),
        ({"outputs": {"out": None}}, Kind.BUILD_WITHOUT_OUTPUT, ExitCode.BAD_ANSWER, "'out'"),
        ({"outputs": {"out": "/etc"}}, Kind.BUILD_OUTPUT_INVALID, ExitCode.BAD_ANSWER, "/etc"),
    ],
)
def test_any_other_build_is_refused_with_its_reason(change, kind, code, told):
    with pytest.raises(HydraError) as caught:
        admitted(replace(GOOD, **change))
    assert caught.value.kind is kind
    assert caught.value.exit_code is code
    assert told in caught.value.message


def test_the_newest_eval_is_the_highest_not_the_first():
    assert GOOD.evals_newest_first == (18, 17, 15, 14, 11)


def test_a_restarted_build_is_not_good_although_its_status_says_so():
    assert GOOD.is_good
    assert not replace(GOOD, is_finished=False).is_good


def test_a_host_with_dots_has_a_job_in_quotes():
    assert default_job_name("web-1.example.org") == '"web-1.example.org"'
    assert default_job_name("web-1") == "web-1"


def test_jobs_of_two_instances_are_told_apart():
    assert str(ASKED) == "nix-config:main:alpha"
    assert ASKED.key != replace(ASKED, instance="https://other.example.org").key


@pytest.mark.parametrize(
    ("is_finished", "status", "state"),
    [
        (True, 0, "succeeded"),
        (True, 4, "was cancelled"),
        (True, 99, "failed"),
        (True, None, "failed"),
        (False, None, "is queued or being built"),
        (False, 1, "is queued or being built"),
        (False, 0, "is being built again"),
    ],
)
def test_how_a_build_stands_is_in_its_state(is_finished, status, state):
    assert replace(GOOD, is_finished=is_finished, status=status).state == state
