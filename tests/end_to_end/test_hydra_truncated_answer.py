"""Hydra loses its database while it writes an answer: whole runs ask again, and quote none of it."""

from __future__ import annotations

import re

import pytest

from end_to_end.machine import LATEST, assert_fault

JOBSET_PAGES = ("/job/nix-config/main/web-1/shield", "/jobset/nix-config/main/errors")


def break_off_at(machine, path, times=1):
    """Break the next answers to a path off."""
    left = iter(range(times))

    def answer(request):
        if next(left, None) is None:
            machine.hydra.overrides.pop(path, None)
        else:
            machine.world.breaks_off = 1
        return machine.hydra.answer(request)

    machine.on(path, answer)


def assert_quotes_nothing(machine, *runs):
    kept = str(machine.rows())
    for run in runs:
        kept += run.stdout + run.stderr
    assert not re.search(r"DBI|dbname|had a problem with|\*\*\*ERROR", kept)


@pytest.mark.parametrize("path", ["/build/2", "/eval/2"])
def test_an_answer_that_breaks_off_is_asked_for_again(offered, path):
    break_off_at(offered, path)
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    (retried,) = run.named("hydra.request_retried")
    assert (retried["path"], retried["error.kind"]) == (path, "hydra-server-error")
    assert_quotes_nothing(offered, run)


def test_answers_that_go_on_breaking_off_are_a_server_out_of_reach(offered):
    break_off_at(offered, "/build/2", times=9)
    run = offered.upgrade()
    assert_fault(run, "hydra-server-error", 69)
    status = offered.run("status")
    assert status.exit_code == 69
    assert "[hydra-server-error]" in status.stdout
    assert_quotes_nothing(offered, run, status)


def test_what_is_asked_besides_does_not_fail_a_run(offered):
    assert offered.upgrade().outcome == (0, "confirmed")
    for path in JOBSET_PAGES:
        break_off_at(offered, path)
    offered.configure(log={"level": "debug"})
    run = offered.upgrade()
    assert run.outcome == (0, "nothing-to-do")
    assert {path for _, path in offered.questions()} >= {LATEST, *JOBSET_PAGES}
    (unknown,) = run.named("hydra.outlook_unknown")
    assert unknown["error.kind"] == "hydra-server-error"
    assert_quotes_nothing(offered, run)
