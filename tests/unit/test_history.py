from __future__ import annotations

import json
from datetime import timedelta

import pytest

from agent.application.history import run_fields, take_history
from agent.domain.errors import JournalError, Kind
from agent.domain.ignored_gate import IgnoredGate
from agent.domain.path_record import Denial
from agent.domain.run_record import recorded
from fakes.runs import NOW, a_run, an_arrival
from fakes.samples import JOB, NEW, OLD
from fakes.world import World

IN_FORCE = Denial(NEW, "broken", NOW, "agent", build_id=1)
FOR_A_TIME = Denial(OLD, "no", NOW, "ada", until=NOW + timedelta(days=3))
OVER = Denial(OLD, "no", NOW - timedelta(days=3), "ada", until=NOW)


@pytest.fixture
def world():
    world = World()
    world.clock.instant = NOW
    return world


def test_the_newest_runs_are_told_the_oldest_of_them_first(world):
    world.journal.rows = [an_arrival(number) for number in (1, 2, 3)]
    told = take_history(world.ports, 2)
    assert [run.build_id for run in told.runs] == [2, 3]


def test_a_host_without_a_history_has_an_empty_one(world):
    assert take_history(world.ports, 10).fields() == {"runs": [], "denials": []}


def test_denials_are_told_as_long_as_they_are_in_force(world):
    world.journal.denied = [OVER, IN_FORCE, FOR_A_TIME]
    assert take_history(world.ports, 1).fields()["denials"] == [
        {
            "toplevel": OLD,
            "build_id": None,
            "reason": "no",
            "by": "ada",
            "denied_at": "2026-11-21T04:40:00+00:00",
            "until": "2026-11-24T04:40:00+00:00",
        },
        {
            "toplevel": NEW,
            "build_id": 1,
            "reason": "broken",
            "by": "agent",
            "denied_at": "2026-11-21T04:40:00+00:00",
            "until": None,
        },
    ]


def test_a_run_is_told_whole(world):
    run = recorded(
        run_id="run-1",
        started_at=NOW,
        host="h",
        job=JOB.key,
        outcome="rolled-back",
        finished_at=NOW + timedelta(minutes=5),
        decision="upgrade",
        action="switch",
        build_id=1,
        eval_id=2,
        flake="git+https://git.example.org/hosts",
        toplevel=NEW,
        previous=OLD,
        target=OLD,
        reasons=(("check-failed", "service: no reply"),),
        ignored_gates=(IgnoredGate("clock", "eve", "a fix", "not synchronised"),),
        fault="broken",
        error_kind="rolled-back",
        error_message="it proved broken",
        exit_code=1,
        repeats=3,
    )
    world.journal.rows = [run]
    (told,) = take_history(world.ports, 1).fields()["runs"]
    assert told == {
        "run_id": "run-1",
        "started_at": "2026-11-21T04:40:00+00:00",
        "finished_at": "2026-11-21T04:45:00+00:00",
        "outcome": "rolled-back",
        "decision": "upgrade",
        "action": "switch",
        "build_id": 1,
        "eval_id": 2,
        "flake": "git+https://git.example.org/hosts",
        "toplevel": NEW,
        "previous": OLD,
        "target": OLD,
        "ignored_gates": [
            {"gate": "clock", "by": "eve", "given_reason": "a fix", "reason": "not synchronised"}
        ],
        "reasons": [{"name": "check-failed", "reason": "service: no reply"}],
        "fault": "broken",
        "error_kind": "rolled-back",
        "error_message": "it proved broken",
        "exit_code": 1,
        "repeats": 3,
    }
    assert json.loads(json.dumps(told)) == told


def test_a_run_that_has_not_ended_has_no_end():
    assert run_fields(a_run(finished_at=None))["finished_at"] is None


def test_a_history_that_cannot_be_read_is_a_fault(world):
    world.journal.read_fault = JournalError(Kind.JOURNAL_CORRUPT, "damaged")
    with pytest.raises(JournalError):
        take_history(world.ports, 10)
