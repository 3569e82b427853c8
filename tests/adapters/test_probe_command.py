from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from datetime import timedelta

import pytest

from agent.checks.command import CommandCheck
from agent.checks.command.probe import CommandProbe

LONG = timedelta(seconds=30)


def probe(*command, timeout=LONG):
    return asyncio.run(CommandProbe().probe(CommandCheck("n", command, timeout)))


def shell(script, timeout=LONG):
    return probe("sh", "-c", script, timeout=timeout)


def test_a_program_that_exits_with_0_is_well_whatever_it_says():
    result = shell("echo much; echo more >&2")
    assert (result.is_well, result.reason) == (True, "")
    assert timedelta(0) < result.latency < LONG


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "exit code 3"),
        ("echo one; echo two >&2; echo; exit 1", "exit code 1: two"),
        ("kill -KILL $$", "ended by SIGKILL"),
        ("echo no; kill -TERM $$", "ended by SIGTERM: no"),
        (f"kill -{signal.SIGRTMIN + 5} $$", f"ended by signal {signal.SIGRTMIN + 5}"),
        ("printf '\\377\\n'; exit 1", "exit code 1: \ufffd"),
        ("echo https://bob:hunter2@example.org/; exit 1", "exit code 1: https://***@example.org/"),
    ],
)
def test_a_program_that_fails_is_told_with_its_last_words(script, why):
    result = shell(script)
    assert (result.is_well, result.is_conclusive) == (False, True)
    assert result.reason == why


def test_a_program_that_says_too_much_is_cut_short():
    result = shell("yes | head -c 300000 | tr -d '\\n'; exit 1")
    assert len(result.reason) < 250
    assert result.reason.endswith("y…")


def test_no_shell_reads_the_command():
    result = probe("printf", "%s\n", "$(id)", "; exit 1", "*")
    assert result.is_well


@pytest.mark.parametrize("command", [("/no/such/program",), ("no-such-program", "x"), ("/",)])
def test_a_program_that_cannot_be_run_proves_nothing(command):
    result = probe(*command)
    assert (result.is_well, result.is_conclusive) == (False, False)
    assert command[0].strip("/") in result.reason


@pytest.fixture
def thread(tmp_path):
    """A named pipe that a program and all it starts hold open, and a function that waits for them.

    It returns whether they have all ended.
    """
    path = tmp_path / "thread"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def is_cut():
        readable, _, _ = select.select([end], [], [], 30)
        return bool(readable) and os.read(end, 1) == b""

    yield path, is_cut
    os.close(end)


def test_a_program_that_takes_too_long_is_killed_with_all_it_has_started(thread):
    path, is_cut = thread
    result = shell(
        f"trap '' TERM; exec 9> {path}; sleep 1000 & wait", timeout=timedelta(seconds=0.5)
    )
    assert (result.is_well, result.is_conclusive) == (False, True)
    assert result.reason == "not finished within 0.5 s"
    assert is_cut()


def test_what_a_program_leaves_behind_is_killed_and_not_waited_for(thread):
    path, is_cut = thread
    assert shell(f"exec 9> {path}; sleep 1000 & exit 0").is_well
    assert is_cut()


def test_a_program_has_the_agents_environment_and_nothing_to_read(monkeypatch):
    monkeypatch.setenv("OF_THE_AGENT", "1")
    code = "import os, sys; assert os.environ['OF_THE_AGENT'] == '1'; assert sys.stdin.read() == ''"
    assert probe(sys.executable, "-c", code).is_well
    assert "OF_THE_AGENT" in os.environ
