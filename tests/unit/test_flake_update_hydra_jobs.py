from __future__ import annotations

import pytest

from agent.domain.build import Build
from agent.domain.flake_update.hydra_proof import HostJob, JobState, format_red_jobs, job_of_build

LINK = "https://hydra.example.org/build/7"
OUT = f"/nix/store/{'a' * 32}-nixos"


def build(*, finished=True, status=0):
    return Build(7, "p", "j", "web", "x86_64-linux", finished, status, {"out": OUT}, (1,), None)


@pytest.mark.parametrize(
    ("found", "state", "reason"),
    [
        (build(), JobState.GREEN, ""),
        (build(finished=False, status=None), JobState.WAITING, ""),
        (build(finished=False), JobState.WAITING, ""),
        (build(status=2), JobState.RED, "failed because a dependency failed"),
        (build(status=99), JobState.RED, "failed"),
        (build(status=None), JobState.RED, "failed"),
    ],
)
def test_a_job_stands_as_its_build_does(found, state, reason):
    assert job_of_build("web", found, LINK) == HostJob("web", state, LINK, reason, OUT)


def test_red_jobs_are_told_with_their_links():
    red = HostJob("web", JobState.RED, LINK, "failed")
    green = HostJob("db", JobState.GREEN, LINK)
    assert format_red_jobs([green, red, red]) == f"web failed: {LINK}; web failed: {LINK}"
    assert format_red_jobs([green]) == ""
