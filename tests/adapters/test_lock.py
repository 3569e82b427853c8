from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.adapters.state.lock import FileLock
from agent.application.ports import WaitReason
from agent.domain.errors import ExitCode, HostError, Kind, LockedError
from fakes.lock import FakeLock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from agent.adapters.state.lock import FileLock
with FileLock(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process, which holds the lock until it is told to end, or killed."""

    def __init__(self, state_dir):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(state_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        assert self.process.stdout.readline() == "held\n"
        return self.process

    def __exit__(self, *_error):
        with self.process:
            self.process.kill()


@pytest.fixture(params=["flock", "fake"])
def lock(request, tmp_path):
    return FakeLock() if request.param == "fake" else FileLock(tmp_path / "state")


def test_a_lock_is_held_by_one_at_a_time(lock):
    with lock.hold():
        with pytest.raises(LockedError, match="another agent is running") as caught, lock.hold():
            pytest.fail("it was held twice")
        assert caught.value.kind is Kind.LOCKED
        assert caught.value.exit_code is ExitCode.HELD
    with lock.hold():
        pass


def test_a_lock_is_given_back_after_a_fault(lock):
    with pytest.raises(ZeroDivisionError), lock.hold():
        raise ZeroDivisionError
    with lock.hold():
        pass


@pytest.mark.parametrize("wait", WaitReason)
def test_a_confirmation_that_waits_can_be_seen_to_wait(lock, wait):
    assert not any(lock.is_waiting(each) for each in WaitReason)
    with lock.waiting(wait), lock.waiting(wait):
        assert [each for each in WaitReason if lock.is_waiting(each)] == [wait]
        with lock.hold():
            assert lock.is_waiting(wait) is True
    assert lock.is_waiting(wait) is False


def test_where_nothing_can_be_written_a_confirmation_waits_unseen(tmp_path):
    (tmp_path / "state").write_text("")
    lock = FileLock(tmp_path / "state")
    with lock.waiting(WaitReason.TURN):
        assert lock.is_waiting(WaitReason.TURN) is not True


def test_whether_anybody_waits_is_unknown_where_the_file_cannot_be_opened(tmp_path):
    (tmp_path / "agent.lock.turn").mkdir()
    assert FileLock(tmp_path).is_waiting(WaitReason.TURN) is None


def refuse(*_arguments):
    raise OSError(errno.EIO, "no")


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_a_note_that_cannot_be_written_or_removed_ends_nothing(tmp_path, monkeypatch, call):
    monkeypatch.setattr(os, call, refuse)
    with FileLock(tmp_path).hold(), pytest.raises(LockedError):
        FileLock(tmp_path).hold().__enter__()
    with FileLock(tmp_path).hold():
        pass


def test_the_holder_is_named(tmp_path):
    with Holder(tmp_path) as other:
        with pytest.raises(LockedError, match=rf"process {other.pid} \(") as caught:
            FileLock(tmp_path).hold().__enter__()
        assert str(tmp_path / "agent.lock") in caught.value.hint


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holder_holds_nothing(tmp_path, number):
    with Holder(tmp_path) as other:
        other.send_signal(number)
        other.wait()
        with FileLock(tmp_path).hold():
            assert (tmp_path / "agent.lock").read_text() == f"process {os.getpid()}\n"


def test_a_child_of_the_holder_does_not_inherit_the_lock(tmp_path):
    with FileLock(tmp_path).hold():
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    with child:
        with FileLock(tmp_path).hold():
            pass
        child.stdin.close()


def test_a_note_of_an_earlier_holder_is_not_left(tmp_path):
    with FileLock(tmp_path).hold():
        pass
    assert (tmp_path / "agent.lock").read_bytes() == b""


@pytest.mark.parametrize(
    ("garbage", "told"),
    [
        (b"", "its process is unknown"),
        (b"\xff\x00\x1b[2J\n", "\ufffd[2J"),
        (b"x" * 100_000, "x" * 200),
        (b"\x00\x01\n\n", "its process is unknown"),
    ],
)
def test_garbage_in_the_lock_file_harms_nobody(tmp_path, garbage, told):
    file = tmp_path / "agent.lock"
    file.write_bytes(garbage)
    with FileLock(tmp_path).hold():
        file.write_bytes(garbage)
        with pytest.raises(LockedError) as caught:
            FileLock(tmp_path).hold().__enter__()
        assert caught.value.message == f"another agent is running: {told}"


def test_the_state_directory_is_made(tmp_path):
    with FileLock(tmp_path / "a" / "b").hold():
        assert (tmp_path / "a" / "b" / "agent.lock").exists()


@pytest.mark.parametrize("obstacle", ["file", "directory"])
def test_what_is_no_lock_file_is_told(tmp_path, obstacle):
    state_dir = tmp_path / "state"
    if obstacle == "file":
        state_dir.write_text("")
    else:
        (state_dir / "agent.lock").mkdir(parents=True)
    with pytest.raises(HostError, match=r"agent\.lock") as caught:
        FileLock(state_dir).hold().__enter__()
    assert caught.value.kind is Kind.STATE_UNUSABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(HostError) as caught:
        FileLock(tmp_path).hold().__enter__()
    assert caught.value.kind is Kind.STATE_READ_ONLY


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_directory_in_which_nothing_can_be_made_is_told():
    with pytest.raises(HostError, match="/proc/self"):
        FileLock(Path("/proc/self/none")).hold().__enter__()


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
def test_nobody_else_may_open_the_file_and_so_hold_the_lock(tmp_path, before):
    file = tmp_path / "agent.lock"
    if before is not None:
        file.touch()
        file.chmod(before)
    with FileLock(tmp_path).hold():
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_the_lock_is_no_lock(tmp_path):
    other, state = tmp_path / "other", tmp_path / "state"
    other.write_text("another's")
    other.chmod(0o644)
    state.mkdir()
    (state / "agent.lock").symlink_to(other)
    with pytest.raises(HostError) as caught, FileLock(state).hold():
        pytest.fail("it was held")
    assert caught.value.kind is Kind.STATE_UNUSABLE
    assert other.read_text() == "another's"
    assert other.stat().st_mode & 0o777 == 0o644


def test_a_state_directory_behind_a_link_of_ones_own_is_closed_too(tmp_path):
    real, link = tmp_path / "real", tmp_path / "state"
    real.mkdir()
    for name in ("journal.sqlite", "agent.lock"):
        (real / name).touch()
        (real / name).chmod(0o644)
    real.chmod(0o1777)
    link.symlink_to("real")
    with FileLock(link).hold():
        pass
    assert real.stat().st_mode & 0o077 == 0
    assert {file.stat().st_mode & 0o077 for file in real.iterdir()} == {0}


def test_a_link_that_leads_to_no_directory_is_a_fault(tmp_path):
    (tmp_path / "state").symlink_to("nowhere")
    with pytest.raises(HostError), FileLock(tmp_path / "state").hold():
        pytest.fail("it was held")
