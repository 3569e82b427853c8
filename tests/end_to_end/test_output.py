"""What becomes of a run whose standard output cannot be written to."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from end_to_end.machine import assert_fault, assert_unchanged

pytestmark = pytest.mark.long


def to(descriptor, machine):
    """Run `agent upgrade` with its standard output at a descriptor."""
    machine.write_settings()
    return subprocess.run(
        machine.argv("upgrade"),
        stdin=subprocess.DEVNULL,
        stdout=descriptor,
        stderr=subprocess.PIPE,
        text=True,
        env=machine.full_environment(),
        timeout=60,
        check=False,
    )


def assert_done_and_reported_on_stderr(machine, ended):
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.rstrip().endswith("[output-closed]")
    assert machine.look().running == machine.farm.second
    (row,) = machine.rows()
    assert (row["outcome"], row["exit_code"]) == ("confirmed", 0)


def test_a_run_whose_reader_has_gone_is_finished_and_told_elsewhere(offered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = to(writer, offered)
    finally:
        os.close(writer)
    assert_done_and_reported_on_stderr(offered, ended)


def test_a_run_whose_log_is_on_a_full_disk_is_finished_and_told_elsewhere(offered):
    with Path("/dev/full").open("w") as full:
        ended = to(full, offered)
    assert_done_and_reported_on_stderr(offered, ended)


def test_a_reader_that_goes_in_the_middle_of_an_activation_does_not_cut_it_short(offered):
    gate = offered.gate_activation()
    child = offered.start("upgrade")
    with gate.reached():
        child.stdout.close()
    stderr = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 1
    assert stderr.rstrip().endswith("[output-closed]")
    after = offered.look()
    assert (after.running, after.profile) == (offered.farm.second, offered.farm.second)
    assert [row["outcome"] for row in offered.rows()] == ["confirmed"]


@pytest.mark.parametrize("command", ["upgrade", "status", "config check"])
def test_a_command_without_standard_output_does_not_even_begin(offered, command):
    run = offered.run(command, wrapped_in=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert_unchanged(run)
    assert run.exit_code == 1
    assert run.stderr.startswith("agent: standard output is closed")
    assert run.stderr.rstrip().endswith("[output-closed]")
    assert offered.questions() == []


def test_a_command_without_standard_error_does_what_it_does(offered):
    run = offered.run("status", "--json", wrapped_in=("sh", "-c", 'exec "$@" 2>&-', "sh"))
    assert run.exit_code == 0
    assert '"decision": "upgrade"' in run.stdout
    upgraded = offered.upgrade(wrapped_in=("sh", "-c", 'exec "$@" 2>&-', "sh"))
    assert upgraded.outcome == (0, "confirmed")


def test_the_credentials_in_hydras_flake_are_not_logged(offered):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{closed.getsockname()[1]}"
        flake = f"git+https://bob:hunter2@{server}/hosts?rev={offered.farm.revision}"
        offered.offer(offered.farm.second, flake=flake)
        run = offered.upgrade()
    assert_fault(run, "flake-has-login", 65)
    assert f"https://***@{server}/hosts" in run.summary["flake"]
    assert "hunter2" not in run.stdout
