"""File systems that are full or read-only, and a second agent, through the whole command line.

The file systems are mounted in a namespace of each run's own.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from end_to_end.machine import assert_fault


def in_namespace(script: str) -> tuple[str, ...]:
    """Return what to put before a command so that a shell script has run in its namespace."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    shell = ["sh", "-euc", f'{script}\nexec "$@"', "sh"]
    return ("unshare", *as_root, "--mount", "--", *shell)


@functools.cache
def why_no_namespace() -> str:
    if shutil.which("unshare") is None:
        return "no unshare on PATH"
    tried = subprocess.run(
        [*in_namespace("mount -t tmpfs none /mnt"), "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() if tried.returncode else ""


needs_namespace = pytest.mark.skipif(
    why_no_namespace() != "", reason=f"no mount namespace can be had here: {why_no_namespace()}"
)


@needs_namespace
def test_a_state_directory_that_is_read_only(offered):
    state = offered.layout.state_dir
    run = offered.upgrade(wrapped_in=in_namespace(f"mount --bind -o ro {state} {state}"))
    told = assert_fault(run, "state-read-only", 1)
    assert f"{state}/agent.lock" in told["error.message"]
    assert "paths.state_dir" in told["error.hint"]
    assert offered.questions() == []


FULL = """
mount -t tmpfs -o size=64k none {state}
cp -a {seed}/. {state}
cat /dev/zero > {state}/rest 2> /dev/null || true
"""


@needs_namespace
def test_a_state_directory_that_is_full(offered, tmp_path):
    script = FULL.format(state=offered.layout.state_dir, seed=tmp_path)
    told = assert_fault(offered.upgrade(wrapped_in=in_namespace(script)), "state-full", 1)
    assert str(offered.layout.state_dir) in told["error.message"]
    assert "room" in told["error.hint"]


@pytest.mark.long
@needs_namespace
def test_a_state_directory_with_room_for_the_lock_but_not_for_the_journal(offered, tmp_path):
    # A file keeps its one page when it is written again.
    (tmp_path / "agent.lock").write_text("process 1\n")
    script = FULL.format(state=offered.layout.state_dir, seed=tmp_path)
    told = assert_fault(offered.upgrade(wrapped_in=in_namespace(script)), "state-full", 1)
    assert "journal.sqlite" in told["error.message"]


@needs_namespace
def test_a_store_that_is_full_although_it_looked_as_if_there_was_room(offered, tmp_path):
    store = offered.layout.store_dir
    # Room for bytes, but not for files: free space does not tell.
    script = f"""
    cp -a {store}/. {tmp_path}
    mount -t tmpfs -o size=64m,nr_inodes=$(($(find {tmp_path} | wc -l) + 12)) none {store}
    cp -a {tmp_path}/. {store}
    """
    run = offered.upgrade(wrapped_in=in_namespace(script))
    told = assert_fault(run, "store-full", 1)
    assert "No space left on device" in told["error.message"]
    assert "nix-collect-garbage" in told["error.hint"]


@needs_namespace
def test_a_marks_directory_that_is_read_only(offered):
    marks = offered.layout.marks_dir
    marks.mkdir(parents=True, exist_ok=True)
    run = offered.upgrade(wrapped_in=in_namespace(f"mount --bind -o ro {marks} {marks}"))
    told = assert_fault(run, "marks-unusable", 1)
    assert str(marks) in told["error.message"]


def test_a_state_directory_that_is_a_file(offered):
    file = offered.layout.state_dir / "file"
    file.write_text("")
    offered.configure(paths={"state_dir": str(file)})
    told = assert_fault(offered.upgrade(), "state-unusable", 1)
    assert "paths.state_dir" in told["error.hint"]


@pytest.mark.long
def test_a_journal_that_is_damaged_is_set_aside(offered):
    offered.journal.write_bytes(b"no database at all" * 100)
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    (told,) = run.named("journal.set_aside")
    assert told["error.kind"] == "journal-corrupt"
    assert offered.journal.with_suffix(".damaged").read_bytes().startswith(b"no database")
    assert [row["outcome"] for row in offered.rows()] == ["confirmed"]


def test_a_journal_of_a_newer_agent_is_left_alone(offered):
    offered.configure(action="dry-activate")
    assert offered.upgrade().exit_code == 0
    offered.change_journal("PRAGMA user_version = 99")
    told = assert_fault(offered.upgrade(), "journal-too-new", 1)
    assert "version 99" in told["error.message"]


def test_a_lock_that_someone_holds(offered):
    lock = offered.layout.state_dir / "agent.lock"
    lock.write_text("process 4711\n")
    with lock.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        run = offered.upgrade()
    told = assert_fault(run, "locked", 75)
    assert "process 4711" in told["error.message"]
    assert str(lock) in told["error.hint"]
    assert offered.questions() == []
    assert offered.rows() == []


def test_a_second_agent_leaves_the_first_ones_activation_alone(offered):
    gate = offered.gate_activation()
    before = offered.look()
    first = offered.start("upgrade")
    with gate.reached():
        second = offered.upgrade()
        told = assert_fault(second, "locked", 75)
        assert f"process {first.pid}" in told["error.message"]
    assert offered.finish(first, before).outcome == (0, "confirmed")
    assert offered.activations() == ["switch"]
    assert [row["outcome"] for row in offered.rows()] == ["confirmed"]


@pytest.mark.long
def test_a_lock_whose_holder_was_killed_is_free(offered):
    gate = offered.gate_activation()
    before = offered.look()
    first = offered.start("upgrade")
    with gate.reached():
        first.kill()
        killed = first.wait()
    first.communicate()
    assert killed == -9
    run = offered.upgrade()
    assert run.outcome == (75, "held")
    assert [reason["name"] for reason in run.summary["reasons"]] == ["suspect"]
    assert run.after == replace(run.after, running=before.running, profile=before.profile)
