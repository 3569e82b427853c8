"""A person's part: confirm, rollback, deny, allow, history, and gates that are passed."""

from __future__ import annotations

import json

import pytest

from agent.demo.loopback import Answer
from agent.demo.stage import Service
from end_to_end.machine import assert_unchanged


@pytest.fixture
def served(machine):
    """A machine that checks a service of its own, and evaluates nothing."""
    machine.configure(strategy="store-path", verify=False)
    machine.offer(machine.farm.first)
    with Service(machine.layout) as service:
        check = {"type": "http", "name": "service", "url": f"{service.url}/", "timeout": "1s"}
        machine.configure(confirm={"checks": [check]})
        machine.service = service
        yield machine


@pytest.fixture
def pending(served):
    """The same, with a system that could not be judged: its service is broken, the clock is lost."""
    served.offer(served.farm.broken)
    gated = served.gate_activation()
    before = served.look()
    child = served.start("upgrade")
    with gated.reached():
        served.host.inject("clock", "no\n")
    run = served.finish(child, before)
    assert run.outcome == (75, "pending"), run.stdout
    assert reasons(run) == ["clock-unsynchronised", "check-failed"]
    served.host.repair()
    return served


def reasons(run):
    return [reason["name"] for reason in run.summary["reasons"]]


def marks(machine):
    """Where the marks point, without the candidate that nix keeps there."""
    files = [file for file in machine.layout.marks_dir.iterdir() if file.is_symlink()]
    return {link.name: str(link.readlink()) for link in files if link.name != "candidate"}


def history(machine):
    run = machine.run("history", "--json")
    assert (run.exit_code, run.stderr) == (0, "")
    assert_unchanged(run)
    return json.loads(run.stdout)


# --- confirm


def test_a_pending_system_that_proves_healthy_is_confirmed(pending):
    pending.service.overrides["/"] = Answer(200)
    run = pending.run("confirm", "--json")
    assert run.outcome == (0, "confirmed")
    assert_unchanged(run)
    assert marks(pending)["confirmed"] == pending.farm.broken
    assert "pending" not in marks(pending)
    assert [row["outcome"] for row in pending.rows()] == ["confirmed"]
    again = pending.run("confirm", "--json")
    assert again.outcome == (0, "nothing-to-do")


@pytest.mark.long
def test_a_person_may_take_a_system_as_it_is(pending):
    run = pending.run("confirm", "--force", "--json")
    assert run.outcome == (0, "confirmed")
    assert marks(pending) == {"confirmed": pending.farm.broken}


# --- rollback


def test_a_person_goes_back_to_the_confirmed_system_and_that_is_remembered(served):
    served.offer(served.farm.second)
    assert served.upgrade().outcome == (0, "confirmed")
    run = served.run("rollback", "--reason", "the users complain", "--json", SUDO_USER="alice")
    assert run.exit_code == 0
    assert (run.after.running, run.after.profile) == (served.farm.first,) * 2
    assert run.after.boot_default == served.farm.first
    assert marks(served) == {"confirmed": served.farm.first}
    (denial,) = history(served)["denials"]
    assert (denial["toplevel"], denial["by"]) == (served.farm.second, "alice")
    assert denial["reason"] == "the users complain"
    (gone,) = [run for run in history(served)["runs"] if run["outcome"] == "rolled-back"]
    assert gone["target"] == served.farm.first
    shown = served.run("history").stdout
    assert f"  back to                {served.farm.first}\n" in shown
    assert f"denied                   {served.farm.second} by alice: the users complain\n" in shown
    held = served.upgrade()
    assert held.outcome == (75, "held")
    assert reasons(held) == ["denied"]


def test_without_a_confirmed_system_before_it_there_is_nowhere_to_go(served):
    run = served.run("rollback", "--reason", "no", "--json")
    assert (run.exit_code, run.summary["error.kind"]) == (1, "no-confirmed-system")
    assert_unchanged(run)


# --- deny and allow


def test_what_is_denied_is_held_until_it_is_allowed(served):
    build = served.offer(served.farm.second)
    denied = served.run("deny", str(build), "--reason", "bad news", SUDO_USER="alice")
    assert (denied.exit_code, denied.stderr) == (0, "")
    assert denied.stdout == f"{served.farm.second} is denied until it is allowed\n"
    held = served.upgrade()
    assert held.outcome == (75, "held")
    assert_unchanged(held)
    (reason,) = held.summary["reasons"]
    assert reason["name"] == "denied"
    assert "(by alice: bad news)" in reason["reason"]
    (denial,) = history(served)["denials"]
    assert (denial["build_id"], denial["until"]) == (build, None)

    allowed = served.run("allow", served.farm.second, "--reason", "was mistaken")
    assert (allowed.exit_code, allowed.stderr) == (0, "")
    assert allowed.stdout == f"{served.farm.second} is allowed again\n"
    again = served.run("allow", served.farm.second)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.endswith("[nothing-held]\n")
    assert served.upgrade().outcome == (0, "confirmed")


def test_a_denial_ends_the_quiet_of_the_idle_path(served):
    assert served.upgrade().outcome == (0, "nothing-to-do")
    note = served.layout.state_dir / "idle.json"
    assert note.exists()
    told = served.run("deny", served.farm.first, "--reason", "x", "--for", "3d")
    assert told.exit_code == 0
    assert told.stdout.startswith(f"{served.farm.first} is denied until 2")
    assert not note.exists()


def test_what_is_neither_a_path_nor_a_build_is_not_denied(served):
    for what, kind in (("/etc/passwd", "nothing-held"), ("4711", "build-missing")):
        run = served.run("deny", what, "--reason", "x")
        assert (run.exit_code != 0, run.stdout) == (True, "")
        assert run.stderr.count("\n") == 1
        assert what in run.stderr
        assert run.stderr.endswith(f"[{kind}]\n")
    assert not served.journal.exists()


# --- history


def test_the_history_is_told_to_a_person_and_to_a_program(served):
    nothing = served.run("history")
    assert (nothing.exit_code, nothing.stdout) == (0, "nothing has happened here yet\n")
    assert not served.journal.exists()

    served.offer(served.farm.second)
    assert served.upgrade().outcome == (0, "confirmed")
    served.run("deny", served.farm.broken, "--reason", "no\x1b[31m")
    text = served.run("history")
    assert (text.exit_code, text.stderr) == (0, "")
    lines = text.stdout.splitlines()
    assert lines[0].endswith("  confirmed build 2")
    assert lines[1:3] == [
        f"  switch                 {served.farm.second}",
        f"  from                   {served.farm.first}",
    ]
    assert lines[-1].startswith(f"denied                   {served.farm.broken} by ")
    assert "\x1b" not in text.stdout
    told = history(served)
    (run,) = told["runs"]
    assert (run["outcome"], run["build_id"], run["exit_code"]) == ("confirmed", 2, 0)
    assert (run["toplevel"], run["previous"]) == (served.farm.second, served.farm.first)
    assert [denial["toplevel"] for denial in told["denials"]] == [served.farm.broken]


def test_a_history_that_cannot_be_read_is_told(served):
    served.journal.write_bytes(b"no database " * 1000)
    run = served.run("history")
    assert (run.exit_code, run.stdout) == (1, "")
    assert run.stderr.endswith("[journal-corrupt]\n")


# --- gates


def test_the_first_run_takes_what_it_finds_as_confirmed(served):
    run = served.upgrade()
    (adopted,) = run.named("system.adopted")
    assert adopted["toplevel"] == served.farm.first
    assert marks(served) == {"confirmed": served.farm.first}
    assert [event["event"] for event in served.upgrade().events] == ["run.idle"]


@pytest.mark.long
def test_what_a_person_has_switched_to_is_held_and_can_be_passed(served):
    served.upgrade()
    served.host.install(served.farm.new_kernel)
    served.offer(served.farm.second)
    held = served.upgrade()
    assert held.outcome == (75, "held")
    assert reasons(held) == ["foreign-system"]
    assert_unchanged(held)
    served.configure(upgrade={"foreign_hold": "1ms"})
    run = served.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == served.farm.second


@pytest.mark.long
def test_a_candidate_without_the_agent_is_held_unless_a_person_passes_the_gate(served):
    served.host.begin(served.farm.with_agent)
    served.offer(served.farm.second)
    held = served.upgrade()
    assert held.outcome == (75, "held")
    assert reasons(held) == ["agent-removed"]
    assert_unchanged(held)
    run = served.upgrade("--ignore-gate", "agent-removed", "--reason", "goodbye")
    assert run.outcome == (0, "confirmed")
    (ignored,) = run.named("gate.ignored")
    assert (ignored["gate"], ignored["given_reason"]) == ("agent-removed", "goodbye")
    assert run.after.running == served.farm.second
    assert marks(served)["confirmed"] == served.farm.second


def test_an_ill_neighbour_can_be_passed_by(served):
    canary = {"type": "tcp", "name": "neighbour", "host": "127.0.0.1", "port": 9}
    served.configure(health={"checks": [canary]})
    served.offer(served.farm.second)
    assert reasons(served.upgrade()) == ["health"]
    run = served.upgrade("--ignore-gate", "health", "--reason", "the fix for it", SUDO_USER="alice")
    assert run.outcome == (0, "confirmed")
    told = history(served)["runs"][-1]
    assert told["outcome"] == "confirmed"
    (passed,) = told["ignored_gates"]
    assert (passed["gate"], passed["by"], passed["given_reason"]) == (
        *("health", "alice"),
        "the fix for it",
    )
    assert passed["reason"].startswith("neighbour: ")
    said = f"  health                 ignored by alice (the fix for it): {passed['reason']}\n"
    assert said in served.run("history").stdout
