"""logind's answers: who blocks a shutdown, and who is a person."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent.adapters.process import Runner
from agent.adapters.systemd.logind import LogindCommands
from agent.domain.reboot import Inhibitor
from fakes.events import RememberedEvents, SteppedClock
from fakes.logind import FakeLogind


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


NONSENSE = [
    "",
    "null",
    "[]",
    "{}",
    '{"data": []}',
    '{"data": [1]}',
    '{"data": [[1, []]]}',
    "[" * 9999,
]


@pytest.mark.parametrize("stdout", NONSENSE)
def test_an_answer_that_cannot_be_read_names_nobody_and_says_nothing(machine, stdout):
    machine.answers("busctl", stdout)
    assert asyncio.run(machine.logind.inhibitors()) is None
    assert asyncio.run(machine.logind.people()) is None


def test_an_inhibitor_of_another_form_may_be_anybodys(machine):
    machine.answers("busctl", rows(["shutdown", "a", "b"]))
    assert asyncio.run(machine.logind.inhibitors()) is None


@pytest.mark.parametrize("session", ["", "--all", "a b"])
def test_a_session_of_another_form_may_be_anybodys(machine, session):
    machine.answers("busctl", rows([session, 1000, "x", "", "/s"]))
    assert asyncio.run(machine.logind.people()) is None


def test_where_logind_does_not_answer_nothing_is_known(machine):
    machine.answers("busctl", rows(["shutdown", "a", "b", "block", 0, 1]), exit_code=1)
    machine.answers("systemctl", "LoadState=loaded\n")
    assert asyncio.run(machine.logind.inhibitors()) is None
    assert asyncio.run(machine.logind.people()) is None


@pytest.mark.parametrize("state", ["not-found", "masked"])
def test_where_there_is_no_logind_nobody_minds(machine, state):
    machine.answers("busctl", "", exit_code=1)
    machine.answers("systemctl", f"LoadState={state}\n")
    assert asyncio.run(machine.logind.inhibitors()) == ()
    assert asyncio.run(machine.logind.people()) == ()


def test_where_systemd_does_not_say_so_either_nothing_is_known(machine):
    machine.answers("busctl", "", exit_code=1)
    machine.answers("systemctl", "LoadState=not-found\n", exit_code=1)
    assert asyncio.run(machine.logind.people()) is None


def test_where_the_commands_are_missing_nothing_is_known(tmp_path):
    runner = Runner(RememberedEvents(), SteppedClock(), {"PATH": str(tmp_path)})
    logind = LogindCommands(runner)
    assert asyncio.run(logind.inhibitors()) is None
    assert asyncio.run(logind.people()) is None
    asyncio.run(logind.notify_users("hello"))


SESSIONS = {
    "1": {"Name": "gdm", "Class": "greeter", "State": "active"},
    "2": {"Name": "ann", "Class": "manager", "State": "active"},
    "c3": {"Name": "ben", "Class": "user", "State": "online", "Remote": "yes"},
    "4": {"Name": "ben", "Class": "user", "State": "active"},
    "5": {"Name": "cid", "Class": "user", "State": "closing"},
    "6": {"Name": "dan", "Class": "user-early", "State": "active"},
    "7": {"Name": "cron", "Class": "background", "State": "active"},
    "8": {"Name": "fay", "Class": "user-of-a-later-systemd", "State": "active"},
}


class Sessions:
    """A loginctl that says what 257 does: it stops at the first session that has ended."""

    def __init__(self, machine, sessions=SESSIONS):
        self.machine = machine
        for name, about in sessions.items():
            lines = "".join(f"{key}={value}\n" for key, value in {"Id": name, **about}.items())
            (machine.path / f"session-{name}").write_text(lines)
        self.listed(*sessions)
        file = machine.path / "loginctl"
        file.write_text(
            f"""#!/bin/sh
shift
first=yes
for word; do
    case $word in --*) continue ;; esac
    [ -e {machine.path}/session-$word ] || {{ echo "Failed to get session" >&2; exit 1; }}
    [ -n "$first" ] || echo
    first=
    cat {machine.path}/session-$word
done
"""
        )
        file.chmod(0o755)

    def listed(self, *sessions, later=None):
        """Let logind list `sessions`, and `later` when it is asked again."""
        for name, found in (("now", sessions), ("later", sessions if later is None else later)):
            answer = rows(*([session, 1000, "x", "", "/s"] for session in found))
            (self.machine.path / name).write_text(answer)
        file = self.machine.path / "busctl"
        file.write_text(
            f"#!/bin/sh\ncd {self.machine.path}\ncat now\ncp later now\n",
        )
        file.chmod(0o755)

    def has_ended(self, session):
        """Let logind know a session no more, though it was listed."""
        (self.machine.path / f"session-{session}").unlink()


def test_people_are_those_who_are_logged_in_greeters_and_managers_are_not(machine):
    Sessions(machine)
    assert asyncio.run(machine.logind.people()) == ("ben", "dan", "fay")


@pytest.mark.parametrize("ended", list(SESSIONS))
def test_a_session_that_has_just_ended_hides_no_other(machine, ended):
    sessions = Sessions(machine)
    sessions.has_ended(ended)
    sessions.listed(*SESSIONS, later=[name for name in SESSIONS if name != ended])
    others = {about["Name"] for name, about in SESSIONS.items() if name != ended}
    expected = tuple(sorted(others & {"ben", "dan", "fay"}))
    assert asyncio.run(machine.logind.people()) == expected


def test_a_session_that_has_ended_was_the_last_one(machine):
    sessions = Sessions(machine, {"4": SESSIONS["4"]})
    sessions.has_ended("4")
    sessions.listed("4", later=())
    assert asyncio.run(machine.logind.people()) == ()


@pytest.mark.parametrize("others", [{}, {"1": SESSIONS["1"]}])
def test_a_session_that_is_listed_and_says_nothing_may_be_anybodys(machine, others):
    sessions = Sessions(machine, {"4": SESSIONS["4"], **others})
    sessions.has_ended("4")
    assert asyncio.run(machine.logind.people()) is None


def test_who_is_known_is_named_though_another_says_nothing(machine):
    sessions = Sessions(machine)
    sessions.has_ended("4")
    assert asyncio.run(machine.logind.people()) == ("ben", "dan", "fay")


@pytest.mark.parametrize("missing", ["Name", "Class", "State"])
def test_a_session_of_which_not_all_is_said_may_be_anybodys(machine, missing):
    about = {key: value for key, value in SESSIONS["4"].items() if key != missing}
    Sessions(machine, {"4": about})
    assert asyncio.run(machine.logind.people()) is None


def test_where_the_sessions_cannot_be_listed_again_one_may_be_anybodys(machine):
    sessions = Sessions(machine, {"4": SESSIONS["4"]})
    sessions.has_ended("4")
    (machine.path / "later").write_text("nonsense")
    assert asyncio.run(machine.logind.people()) is None


def test_without_sessions_nobody_is_looked_for(machine):
    machine.answers("busctl", rows())
    assert asyncio.run(machine.logind.people()) == ()


# The contract, for the fake as well


def the_real_one(machine, *, inhibitors, people):
    """A logind whose answers are such; None is no answer."""
    machine.answers("systemctl", "LoadState=loaded\n")
    sessions = None
    if people is not None:
        sessions = {
            str(n): {"Name": name, "Class": "user", "State": "active"}
            for n, name in enumerate(people)
        }
    Sessions(machine, sessions or {})
    answers = {
        "ListSessions": None
        if sessions is None
        else rows(*([n, 1, "x", "", "/"] for n in sessions)),
        "ListInhibitors": None
        if inhibitors is None
        else rows(*(["shutdown", one.who, one.why, "block", 0, 1] for one in inhibitors)),
    }
    for method, answer in answers.items():
        (machine.path / method).write_text(answer or "")
    (machine.path / "busctl").write_text(
        f"#!/bin/sh\nfor method; do :; done\n[ -s {machine.path}/$method ] || exit 1\ncat {machine.path}/$method\n"
    )
    return machine.logind


def the_fake(machine, *, inhibitors, people):
    del machine
    fake = FakeLogind()
    fake.inhibiting, fake.logged_in = inhibitors, people
    return fake


@pytest.mark.parametrize("made", [the_real_one, the_fake])
@pytest.mark.parametrize("people", [None, (), ("ann",), ("ann", "ben")])
@pytest.mark.parametrize("inhibitors", [None, (), (Inhibitor("backup", "a dump"),)])
def test_people_nobody_and_unknown_are_three_answers(machine, made, inhibitors, people):
    logind = made(machine, inhibitors=inhibitors, people=people)
    assert asyncio.run(logind.inhibitors()) == inhibitors
    assert asyncio.run(logind.people()) == people


def test_people_are_told_by_wall(machine):
    machine.answers("wall", "")
    asyncio.run(machine.logind.notify_users("this host reboots"))
    assert machine.argv("wall") == ["this host reboots"]
