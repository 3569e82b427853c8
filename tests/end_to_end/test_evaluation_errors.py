"""What a run and `agent status` make of the text of a failed evaluation."""

# ruff: noqa: RUF001 - Hydra's and nix's own quotation marks

from __future__ import annotations

import json

import pytest

from demo.hydra_changes import fail_evaluation
from end_to_end.machine import HOST, JOBSET, PROJECT, assert_fault

TRACE = """\
error:
       … while calling the 'derivationStrict' builtin
         at <nix/derivation-internal.nix>:37:12:
           36|
           37|   strict = derivationStrict drvAttrs;
             |            ^

       … while evaluating the option `services.nginx.enable':

       error: attribute 'ngnix' missing
       at /nix/store/abc-source/web.nix:3:5:
"""
INNERMOST = "error: attribute 'ngnix' missing"
OTHERS = "in job ‘db-1’:\nerror: something of another job\n"
OWN = f"in job ‘{HOST}’:\n{TRACE}"
WHOLE = "'nix flake metadata' returned exit code 1:\nerror: unable to download 'https://f/x': HTTP error 404\n"


def fail(machine, text):
    fail_evaluation(machine.world, PROJECT, JOBSET, text)


def told_by(machine):
    run = machine.run("status", "--json")
    assert run.exit_code == 0
    return json.loads(run.stdout)


@pytest.fixture(name="done")
def _done(offered):
    """A host that has what Hydra offers: nothing but a new build brings a change."""
    assert offered.upgrade().outcome == (0, "confirmed")
    return offered


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(f"{OTHERS}\n{OWN}", INNERMOST, id="own"),
        pytest.param(
            WHOLE,
            "error: unable to download 'https://f/x': HTTP error 404",
            marks=pytest.mark.long,
            id="whole",
        ),
        pytest.param(OTHERS, "", marks=pytest.mark.long, id="another job"),
    ],
)
def test_the_innermost_error_of_the_hosts_own_job_is_told(done, text, error):
    fail(done, text)
    run = done.upgrade()
    assert run.outcome == (0, "nothing-to-do")
    told = [one["message"] for one in run.named("hydra.evaluation_failed")]
    assert told == ([error] if error else [])
    assert told_by(done)["evaluation_error"] == error
    assert "another job" not in run.stdout


def test_a_job_that_does_not_evaluate_is_not_gone(done):
    evaluation = done.world.add_eval(PROJECT, JOBSET, flake=done.world.evals[2].flake)
    done.world.add_build("db-1", "/nix/store/x-db", eval_id=evaluation)
    fail(done, OWN)
    run = done.upgrade()
    assert (run.named("hydra.job_gone"), len(run.named("hydra.evaluation_failed"))) == ([], 1)
    fail(done, OTHERS)
    (done.layout.state_dir / "idle.json").unlink()
    (gone,) = done.upgrade().named("hydra.job_gone")
    assert gone["eval_id"] == evaluation


@pytest.mark.parametrize("text", [f"{OTHERS}\n{OWN}", OTHERS], ids=["own", "another job"])
def test_a_job_without_any_build_is_missing_or_does_not_evaluate(machine, text):
    machine.offer("/nix/store/x-db", job="db-1")
    fail(machine, text)
    is_own = OWN in text
    told = assert_fault(machine.upgrade(), "job-not-evaluated" if is_own else "job-missing", 66)
    assert (INNERMOST in told["error.message"]) == is_own
    assert "another job" not in told["error.message"]
