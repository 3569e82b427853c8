"""`agent status` in every state a host can be in, for a person and for a program."""

from __future__ import annotations

import json
import os

import pytest

from demo.hydra_changes import disable_jobset, disable_project, fail_evaluation, restart
from end_to_end.machine import ONCE, assert_unchanged


def status(machine, *arguments, **how):
    """Return what a program and what a person is told, and the exit code of both."""
    machine.environment["COLUMNS"] = "1000"
    for_program = machine.run("status", "--json", *arguments, **how)
    for_person = machine.run("status", *arguments, **how)
    assert for_program.exit_code == for_person.exit_code
    warnings = (for_program.stderr + for_person.stderr).splitlines()
    assert all("hydra.request_retried" in line for line in warnings)
    assert warnings == [] or for_program.exit_code == 69
    assert_unchanged(for_program)
    assert_unchanged(for_person)
    (line,) = for_program.stdout.splitlines()
    return json.loads(line), for_person.stdout, for_person.exit_code


def told_by(machine, **how):
    """Return what a program is told."""
    run = machine.run("status", "--json", **how)
    assert (run.exit_code, run.stderr) == (0, "")
    assert_unchanged(run)
    return json.loads(run.stdout)


def last_line(text):
    return " ".join(text.splitlines()[-1].split())


def test_of_a_host_that_would_upgrade(offered):
    offered.layout.state_dir.rmdir()
    told, text, code = status(offered)
    assert code == 0
    assert (told["decision"], told["last_run"]) == ("upgrade", None)
    assert told["candidate"]["build_id"] == 2
    assert told["candidate"]["toplevel"] == offered.farm.second
    assert (told["running"], told["profile"]) == (offered.farm.first,) * 2
    assert {gate["open"] for gate in told["gates"]} == {True}
    assert last_line(text) == "a run would upgrade"
    assert offered.farm.second in text
    assert not offered.layout.state_dir.exists()
    offered.layout.state_dir.mkdir()


def test_of_a_host_that_is_done(offered):
    assert offered.upgrade().exit_code == 0
    told, text, code = status(offered)
    assert (code, told["decision"]) == (0, "done")
    assert told["last_run"]["outcome"] == "confirmed"
    assert told["last_run"]["toplevel"] == offered.farm.second
    assert told["running"] == offered.farm.second
    assert last_line(text) == "a run would do nothing"
    assert f"confirmed {offered.farm.second}" in text


def test_of_a_host_that_a_gate_holds(offered):
    offered.configure(disk={"boot_reserve": "1000TiB"})
    told, text, code = status(offered)
    assert (code, told["decision"]) == (0, "hold")
    assert [gate["gate"] for gate in told["gates"] if not gate["open"]] == ["boot-space"]
    assert "HELD" in text
    assert last_line(text) == "a run would hold: boot-space"


@pytest.mark.long
def test_of_a_host_that_waits_for_a_reboot(offered):
    offered.configure(action="boot")
    assert offered.upgrade().outcome == (0, "staged")
    told = told_by(offered)
    assert told["decision"] == "await-reboot"
    assert (told["running"], told["profile"]) == (offered.farm.first, offered.farm.second)


@pytest.mark.long
def test_of_a_host_whose_last_run_failed(offered):
    offered.host.inject("stc-exit", "2")
    assert offered.upgrade().exit_code == 1
    told = told_by(offered)
    assert told["decision"] == "hold"
    assert [gate["gate"] for gate in told["gates"] if not gate["open"]] == ["denied"]
    assert told["last_run"]["outcome"] == "rolled-back"
    assert told["last_run"]["error_kind"] == "activation-script-failed"


def test_of_a_host_whose_hydra_is_down(offered):
    assert offered.upgrade().exit_code == 0
    offered.world.is_database_down = True
    offered.configure(hydra=ONCE)
    told, text, code = status(offered)
    assert code == 69
    assert told["error"]["kind"] == "hydra-server-error"
    assert (told["decision"], told["candidate"]) == (None, None)
    assert (told["running"], told["profile"]) == (offered.farm.second,) * 2
    assert told["last_run"]["outcome"] == "confirmed"
    assert offered.farm.second in text
    assert last_line(text).startswith("a run would fail: ")
    assert last_line(text).endswith("[hydra-server-error]")


@pytest.mark.long
def test_what_hydra_says_of_builds_to_come(offered):
    offered.offer(offered.farm.second, status=1)
    fail_evaluation(offered.world, "nix-config", "main", "error: undefined variable 'foo'")
    disable_jobset(offered.world, "nix-config", "main")
    told = told_by(offered)
    assert (told["newer_build_failed"], told["jobset_disabled"]) == (True, True)
    assert told["evaluation_error"] == "error: undefined variable 'foo'"


def test_what_is_newer_than_the_build_that_hydra_offers(offered):
    offered.configure(hydra={"select": "latest-finished"})
    waiting = offered.offer(offered.farm.second)
    evaluation = max(offered.world.evals)
    offered.world.add_build("other", "/nix/store/x-other", eval_id=evaluation, status=None)
    queued = offered.offer(offered.farm.second, status=None)
    disable_project(offered.world, "nix-config")
    told, text, code = status(offered)
    assert (code, told["candidate"]["build_id"]) == (0, 2)
    assert told["newer_build"] == {"build_id": queued, "state": "is queued or being built"}
    assert (told["build_waiting_for_eval"], told["project_disabled"]) == (waiting, True)
    assert (told["newer_build_failed"], told["jobset_disabled"]) == (False, False)
    assert f"build {queued} is newer: it is queued or being built" in text
    assert f"build {waiting} is newer and good" in text
    assert "the project is disabled" in text


@pytest.mark.long
def test_of_a_host_whose_only_good_build_is_built_again(offered):
    for build_id in (1, 2):
        restart(offered.world, build_id)
    told, text, code = status(offered)
    assert (code, told["error"]["kind"]) == (75, "build-unfinished")
    assert last_line(text).startswith("a run would hold: build 2")
    assert offered.upgrade().exit_code == 75


def test_while_another_agent_is_at_work(offered):
    gate = offered.gate_activation()
    before = offered.look()
    child = offered.start("upgrade")
    with gate.reached():
        told = told_by(offered)
        assert told["last_run"]["outcome"] == "activating"
    assert offered.finish(child, before).outcome == (0, "confirmed")


def test_to_an_ordinary_user_who_may_read_and_not_write(offered):
    assert offered.upgrade().exit_code == 0
    before = sorted(path.name for path in offered.layout.state_dir.iterdir())
    told, text, code = status(offered, wrapped_in=as_a_reader(offered))
    assert code == 0
    assert told["decision"] == "done"
    assert told["last_run"]["outcome"] == "confirmed"
    assert f"confirmed {offered.farm.second}" in text
    assert sorted(path.name for path in offered.layout.state_dir.iterdir()) == before


def as_a_reader(machine):
    """Return what makes a command an ordinary user's who may read all and write nothing of root's.

    Where the tests run as an ordinary user, the state directory becomes someone else's.
    """
    if os.geteuid() != 0:
        machine.journal.chmod(0o444)
        machine.layout.state_dir.chmod(0o555)
        return ()
    reading = "+dac_read_search"
    return (
        "setpriv",
        *("--reuid=65534", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps=-all,{reading}", f"--ambient-caps={reading}"),
    )


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_with_a_journal_that_cannot_be_read(offered, content):
    offered.journal.write_bytes(content)
    told, _, code = status(offered)
    if content:
        assert (code, told["error"]["kind"]) == (1, "journal-corrupt")
    else:
        assert (code, told["last_run"]) == (0, None)
    assert told["running"] == offered.farm.first
    assert offered.journal.read_bytes() == content


def test_no_password_of_a_flake_is_shown(machine):
    flake = f"git+https://bob:hunter2@forge.invalid/r?rev={'a' * 40}"
    machine.offer(machine.farm.second, flake=flake)
    told, text, code = status(machine)
    assert code == 0
    assert "forge.invalid" in told["candidate"]["flake"]
    assert "hunter2" not in json.dumps(told) + text
    run = machine.upgrade()
    assert run.summary["error.kind"] == "flake-has-login"
    assert "hunter2" not in run.stdout
    assert "hunter2" not in json.dumps(machine.rows())
