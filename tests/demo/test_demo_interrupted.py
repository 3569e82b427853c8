"""Signals in the middle of the demo: everything ends, and everything is removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

_TIMEOUT = 60

# Before nix first runs with a word among its arguments, it tells its process and waits for leave.
_WAITING_NIX = """#!/bin/sh
case " $* " in
  *" {word} "*) if [ -e {leave} ]; then echo $$ > {pids}; read -r leave < {leave}; fi ;;
esac
exec {nix} "$@"
"""


class Demo:
    """`agent demo`, in a directory that has nothing else in it, with a nix that waits."""

    def __init__(self, directory: Path, word: str) -> None:
        self.pids, self._leave = directory / "pids", directory / "leave"
        for pipe in (self.pids, self._leave):
            os.mkfifo(pipe)
        (directory / "bin").mkdir()
        script = directory / "bin/nix"
        script.write_text(
            _WAITING_NIX.format(
                word=word, pids=self.pids, leave=self._leave, nix=shutil.which("nix")
            )
        )
        script.chmod(0o755)
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent", "demo"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TMPDIR": str(self.temporary),
                "PATH": f"{directory}/bin:{os.environ['PATH']}",
            },
        )

    @property
    def root(self) -> Path:
        (root,) = self.temporary.iterdir()
        return root

    def let_nix_go_on(self) -> None:
        with self._leave.open("w") as leave:
            self._leave.unlink()
            leave.write("go\n")

    def end(self, *numbers: signal.Signals) -> int:
        """Send signals and return the exit code."""
        for number in numbers:
            self._process.send_signal(number)
        _, stderr = self._process.communicate(timeout=_TIMEOUT)
        assert stderr == ""
        return self._process.returncode

    def processes(self) -> set[int]:
        """Return all that runs for the demo: whatever it starts has its directory's name."""
        found = set()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if str(self.temporary).encode() in environment.read_bytes():
                    found.add(int(environment.parent.name))
        return found

    def close(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def demo_until(tmp_path):
    """Give a function that starts a demo whose nix waits at a word."""
    started = []

    def start(word):
        started.append(Demo(tmp_path, word))
        return started[-1]

    yield start
    for demo in started:
        demo.close()


def assert_nothing_is_left(demo):
    assert demo.processes() == set()
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_in_a_scene_the_agent_ends_its_programs_and_all_is_removed(demo_until, number):
    demo = demo_until("--out-link")
    pid = int(demo.pids.read_text())
    assert pid in demo.processes()
    assert demo.end(number) == 128 + number
    assert_nothing_is_left(demo)


def test_in_an_activation_a_second_signal_changes_nothing(demo_until):
    demo = demo_until("--out-link")
    demo.pids.read_text()
    gate = demo.root / "inject/stc-sleep"
    os.mkfifo(gate)
    demo.let_nix_go_on()
    with gate.open("wb"):  # as soon as the activation is there
        assert demo.end(signal.SIGTERM, signal.SIGHUP, signal.SIGINT) in {129, 130, 143}
    assert_nothing_is_left(demo)


def test_while_the_stage_is_made_everything_ends(demo_until):
    demo = demo_until("--no-link")
    demo.pids.read_text()
    assert demo.end(signal.SIGTERM) == 143
    assert_nothing_is_left(demo)
