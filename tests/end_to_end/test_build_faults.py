"""Builds and evals that may not become this host's system, through the whole command line."""

from __future__ import annotations

import json

import pytest

from end_to_end.machine import HOST, SYSTEM, assert_fault


def change(**facts):
    return lambda build: build.update(facts)


BUILDS = {
    "unfinished": (change(finished=0, buildstatus=None), "build-unfinished", 75, "built again"),
    "restarted": (change(finished=0, buildstatus=0), "build-unfinished", 75, "built again"),
    "failed": (change(buildstatus=1), "build-failed", 65, "failed"),
    "other job": (change(job="web-2"), "build-other-job", 65, "nix-config:main:web-2"),
    "other system": (change(system="riscv64-linux"), "build-other-system", 65, SYSTEM),
    "no eval": (change(jobsetevals=[]), "build-without-eval", 65, "no eval"),
    "no output": (change(buildoutputs={}), "build-without-output", 65, "'out'"),
    "output not known": (
        change(buildoutputs={"out": {"path": None}}),
        "build-without-output",
        65,
        "'out'",
    ),
}


@pytest.mark.parametrize("case", BUILDS)
def test_a_build_that_may_not_come_here(offered, case):
    alter, kind, code, said = BUILDS[case]
    offered.alter("/build/2", alter)
    run = offered.upgrade()
    told = assert_fault(run, kind, code)
    assert said in told["error.message"]
    assert "build 2" in told["error.message"]
    (row,) = offered.rows()
    assert (row["error_kind"], row["exit_code"]) == (kind, code)
    assert row["outcome"] == run.summary["outcome"]
    assert row["previous"] is None


OUTPUTS = {
    "of another store": "/nix/other/0123456789abcdfghijklmnpqrsvwxyz-nixos",
    "an option": "--option",
    "with a shell in it": "{store}/0123456789abcdfghijklmnpqrsvwxyz-$(reboot)",
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_an_output_that_is_no_store_path(offered, case):
    path = OUTPUTS[case].format(store=offered.farm.store_dir)
    offered.alter("/build/2", change(buildoutputs={"out": {"path": path}}))
    assert_fault(offered.upgrade(), "build-output-invalid", 65)


REVISION = "0" * 40
FLAKES = {
    "null": (None, "eval-without-flake"),
    "a branch": ("git+https://git.example.org/hosts?ref=main", "flake-unlocked"),
    "an option": (f"--override-input?rev={REVISION}", "flake-looks-like-option"),
    "a shell": (f"git+file:///h?rev={REVISION}$(reboot)", "flake-unsafe-characters"),
    "a second line": (f"git+file:///h?rev={REVISION}\n--impure", "flake-unsafe-characters"),
    "a type nobody knows": (f"fossil:///h?rev={REVISION}", "flake-unsupported"),
}


@pytest.mark.parametrize("case", FLAKES)
def test_a_flake_reference_that_is_refused(offered, case):
    flake, kind = FLAKES[case]
    offered.alter("/eval/2", change(flake=flake))
    assert_fault(offered.upgrade(), kind, 65)
    assert offered.activations() == []


def gone(machine, eval_id):
    machine.answer(
        f"/eval/{eval_id}", 404, json.dumps({"error": f"Evaluation {eval_id} doesn't exist."})
    )


def test_of_a_deleted_eval_the_next_older_one_serves(offered):
    offered.world.add_eval("nix-config", "main", flake="git+https://gone.invalid/", builds=[2])
    gone(offered, 3)
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    assert (run.summary["build_id"], run.summary["eval_id"]) == (2, 2)
    assert run.after.running == offered.farm.second


def test_a_build_whose_evals_are_all_deleted(offered):
    gone(offered, 2)
    told = assert_fault(offered.upgrade(), "eval-missing", 65)
    assert "build 2" in told["error.message"]


def test_the_newest_of_a_builds_evals_is_asked_for_its_flake(offered):
    flake = offered.world.evals[2].flake
    for _ in range(3):
        offered.world.add_eval("nix-config", "main", flake=flake, builds=[2])
    offered.alter("/build/2", change(jobsetevals=[3, 5, 4, 2]))
    assert offered.upgrade().summary["eval_id"] == 5


def test_a_build_that_vanished_after_it_was_named(offered):
    offered.latest_is(7)
    assert_fault(offered.upgrade(), "build-missing", 65)


def test_a_newer_failed_build_is_not_selected(offered):
    offered.offer(offered.farm.second, status=1)
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.summary["build_id"] == 2
    assert offered.ask(f"/job/nix-config/main/{HOST}/shield")["message"] == "failing"
