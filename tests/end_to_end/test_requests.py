"""How often Hydra is asked, and in how many sessions: counted by the embedded one."""

from __future__ import annotations

import json

import pytest

from agent.demo.loopback import Answer
from demo.hydra_changes import disable_project, stay_silent_on
from end_to_end.machine import JOBSET, LATEST, PROJECT, settle

LIMITS = {"timeout": "1s", "deadline": "10s"}
POLL = ("HEAD", LATEST)
QUESTION = ("GET", LATEST)


@pytest.fixture(name="settled")
def _settled(machine):
    """A machine whose next run is an idle one."""
    machine.configure(hydra=LIMITS)
    settle(machine)
    machine.hydra.requests.clear()
    return machine


def asked(machine):
    """Return what has been asked since the last time, and the session of each request."""
    questions = machine.questions()
    cookies = [request.headers.get("cookie") for request in machine.hydra.requests]
    machine.hydra.requests.clear()
    return questions, cookies


def end_note(machine):
    (machine.layout.state_dir / "idle.json").unlink()


def test_what_a_run_asks_and_that_all_of_it_is_one_session(settled):
    settled.upgrade()
    questions, first = asked(settled)
    assert questions == [POLL]
    assert first != [None]

    end_note(settled)
    assert settled.upgrade().outcome == (0, "nothing-to-do")
    questions, cookies = asked(settled)
    assert questions[0] == QUESTION
    assert len(questions) == 6
    assert cookies == first * 6

    settled.upgrade()
    assert asked(settled) == ([POLL], first)

    settled.offer(settled.farm.first)
    assert settled.upgrade().outcome == (0, "confirmed")
    questions, cookies = asked(settled)
    # What is asked afterwards is whether Hydra can be reached with the new system.
    assert questions[:4] == [POLL, QUESTION, ("GET", "/build/3"), ("GET", "/eval/3")]
    assert set(cookies[:4]) == set(first)


@pytest.mark.long
def test_an_older_build_costs_one_request_more(machine):
    machine.configure(hydra=LIMITS)
    machine.run("pause", "--reason", "audit")
    older = machine.offer(machine.farm.second)
    assert machine.upgrade().outcome == (75, "held")
    newest = machine.offer(machine.farm.broken)
    machine.run("resume")
    machine.run("deny", machine.farm.broken, "--reason", "bad news")
    asked(machine)
    would = json.loads(machine.run("status", "--json").stdout)
    assert (would["decision"], would["candidate"]["build_id"]) == ("upgrade", older)
    assert [held["build_id"] for held in would["held"]] == [newest]
    asked(machine)

    dry = machine.upgrade("--dry-run").summary
    assert (dry["decision"], dry["build_id"]) == ("upgrade", older)
    asked(machine)

    run = machine.upgrade()
    assert (run.outcome, run.after.running) == ((0, "confirmed"), machine.farm.second)
    assert run.summary["build_id"] == older
    assert asked(machine)[0][:4] == [
        QUESTION, ("GET", f"/build/{newest}"), ("GET", f"/eval/{newest}"), ("GET", f"/build/{older}")
    ]  # fmt: skip


def test_a_disabled_project_is_asked_about_only_when_the_next_check_is_overdue(settled):
    disable_project(settled.world, PROJECT)
    jobset = settled.world.jobset(PROJECT, JOBSET)
    jobset.checkinterval, jobset.lastcheckedtime = 300, int(settled.world.now())
    end_note(settled)
    run = settled.upgrade()
    assert (run.outcome, run.named("hydra.project_disabled")) == ((0, "nothing-to-do"), [])
    assert len(asked(settled)[0]) == 6

    jobset.lastcheckedtime -= 3600 + 700
    end_note(settled)
    run = settled.upgrade()
    assert run.outcome == (0, "nothing-to-do")
    assert len(run.named("hydra.project_disabled")) == 1
    assert len(asked(settled)[0]) == 7


@pytest.mark.parametrize(
    "status", [503, *(pytest.param(status, marks=pytest.mark.long) for status in (429, 500))]
)
def test_an_overloaded_hydra_is_asked_twice_and_then_once_a_run(settled, status):
    settled.answer(LATEST, status, "{}")
    assert settled.upgrade().exit_code == 69
    assert asked(settled)[0] == [POLL, QUESTION]
    for _ in range(2):
        assert settled.upgrade().exit_code == 69
        assert asked(settled)[0] == [QUESTION]
    settled.hydra.overrides.pop(LATEST, None)
    assert settled.upgrade().outcome == (0, "nothing-to-do")
    # What decides nothing is left for a better time.
    assert len(asked(settled)[0]) == 3
    settled.upgrade()
    assert asked(settled)[0] == [POLL]


@pytest.mark.long
def test_a_hydra_that_does_not_answer_in_time_is_asked_twice_and_then_once_a_run(settled):
    stay_silent_on(settled.hydra, LATEST)
    run = settled.upgrade()
    assert (run.exit_code, run.summary["error.kind"]) == (69, "hydra-timeout")
    assert asked(settled)[0] == [POLL, QUESTION]
    assert settled.upgrade().exit_code == 69
    assert asked(settled)[0] == [QUESTION]


@pytest.mark.long
def test_a_hydra_that_asks_to_be_left_alone_for_long_is_not_asked_again(settled):
    settled.answer(LATEST, 429, "{}", Retry_After="600")
    run = settled.upgrade()
    assert (run.exit_code, run.summary["error.kind"]) == (69, "hydra-rate-limited")
    assert asked(settled)[0] == [POLL]


def test_one_poll_that_fails_by_chance_is_made_good(settled):
    answers = iter([503, 302])

    def once(_):
        status = next(answers)
        location = {"Location": f"{settled.hydra.url}/build/2"} if status == 302 else {}
        return Answer(status, location, b"")

    settled.on(LATEST, once)
    assert settled.upgrade().outcome == (0, "nothing-to-do")
    assert len(asked(settled)[0]) == 4
