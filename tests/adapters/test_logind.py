"""logind's answers: who blocks a shutdown, and who is a person."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent.adapters.logind import LogindCommands
from agent.adapters.process import Runner
from agent.domain.reboot import Inhibitor
from fakes.telling import RememberedEvents, SteppedClock


class Machine:
    def __init__(self, path):
        self.path = path

    def answers(self, program, stdout, exit_code=0):
        (self.path / f"{program}.out").write_text(stdout)
        file = self.path / program
        file.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.path}/{program}.argv\n'
            f"cat {self.path}/{program}.out\nexit {exit_code}\n"
        )
        file.chmod(0o755)

    def argv(self, program):
        return (self.path / f"{program}.argv").read_text().splitlines()

    @property
    def logind(self):
        env = {"PATH": f"{self.path}:/usr/bin:/bin"}
        return LogindCommands(Runner(RememberedEvents(), SteppedClock(), env))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def rows(*found):
    return json.dumps({"type": "a(ssssuu)", "data": [list(found)]})


def test_whoever_blocks_a_shutdown_is_named_and_nobody_else(machine):
    machine.answers(
        "busctl",
        rows(
            ["shutdown:sleep", "backup", "a dump", "block", 0, 12],
            ["sleep", "player", "a film", "block", 0, 13],
            ["shutdown", "mail", "to send", "delay", 0, 14],
            ["shutdown", "desktop", "open windows", "block-weak", 1000, 15],
        ),
    )
    assert asyncio.run(machine.logind.inhibitors()) == (Inhibitor("backup", "a dump"),)
    assert machine.argv("busctl")[-1] == "ListInhibitors"


@pytest.mark.parametrize(
    "stdout",
    ["", "null", "[]", "{}", '{"data": []}', '{"data": [1]}', '{"data": [[1, []]]}', "[" * 100000],
)
def test_an_answer_that_is_none_names_nobody(machine, stdout):
    machine.answers("busctl", stdout)
    assert asyncio.run(machine.logind.inhibitors()) == ()
    assert asyncio.run(machine.logind.people()) == ()


def test_where_logind_does_not_answer_nobody_minds(machine):
    machine.answers("busctl", rows(["shutdown", "a", "b", "block", 0, 1]), exit_code=1)
    assert asyncio.run(machine.logind.inhibitors()) == ()


def test_where_the_commands_are_missing_nobody_minds(tmp_path):
    runner = Runner(RememberedEvents(), SteppedClock(), {"PATH": str(tmp_path)})
    logind = LogindCommands(runner)
    assert asyncio.run(logind.inhibitors()) == ()
    assert asyncio.run(logind.people()) == ()
    asyncio.run(logind.tell_people("hello"))


def test_people_are_those_who_are_logged_in_greeters_and_managers_are_not(machine):
    machine.answers(
        "busctl",
        json.dumps(
            {
                "type": "a(susso)",
                "data": [[[n, 1000, "x", "", f"/s/{n}"] for n in ("1", "2", "c3", "4", "5", "6")]],
            }
        ),
    )
    sessions = [
        {"Name": "gdm", "Class": "greeter", "State": "active"},
        {"Name": "ann", "Class": "manager", "State": "active"},
        {"Name": "ben", "Class": "user", "State": "online", "Remote": "yes"},
        {"Name": "ben", "Class": "user", "State": "active"},
        {"Name": "cid", "Class": "user", "State": "closing"},
        {"Name": "dan", "Class": "user-early", "State": "active"},
    ]
    blocks = ("\n".join(f"{k}={v}" for k, v in session.items()) for session in sessions)
    machine.answers("loginctl", "\n\n".join(blocks) + "\n")
    assert asyncio.run(machine.logind.people()) == ("ben", "dan")
    assert machine.argv("loginctl")[:7] == ["show-session", "1", "2", "c3", "4", "5", "6"]


def test_without_sessions_nobody_is_looked_for(machine):
    machine.answers("busctl", json.dumps({"type": "a(susso)", "data": [[]]}))
    assert asyncio.run(machine.logind.people()) == ()


def test_people_are_told_by_wall(machine):
    machine.answers("wall", "")
    asyncio.run(machine.logind.tell_people("this host reboots"))
    assert machine.argv("wall") == ["this host reboots"]
