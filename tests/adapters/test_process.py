from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.adapters.process import (
    ProgramFailedError,
    ProgramMissingError,
    Runner,
    capture,
    run_now,
    signals_held,
    watch_now,
)
from agent.application import events
from fakes.events import RememberedEvents, SteppedClock

LONG = 60


@pytest.fixture
def sink():
    return RememberedEvents()


@pytest.fixture
def runner(sink):
    return Runner(sink, SteppedClock(), grace=0.3)


def run(runner, *argv, timeout=LONG, **arguments):
    return asyncio.run(runner.run(argv, timeout=timeout, **arguments))


def sh(runner, script, **arguments):
    return run(runner, "sh", "-c", script, **arguments)


def lines_of(sink):
    return [fields["line"] for event, fields in sink.said if event is events.PROGRAM_SPOKE]


def assert_it_ends(pid):
    """Wait for the end of a process that is nobody's child here, or was reaped already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 20)[0], f"process {pid} is alive"
    finally:
        os.close(handle)


def is_running(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_program_gives_its_output_its_errors_and_its_code(runner, sink):
    done = sh(runner, "echo out; echo one >&2; echo two >&2; exit 3")
    assert (done.returncode, done.stdout, done.tail) == (3, "out\n", "one\ntwo")
    assert not done.timed_out
    assert sink.names() == ["process.started", *["process.output"] * 2, "process.finished"]
    assert sink.fields_of(events.PROGRAM_SPOKE) == {
        "program": "sh", "stream": "stderr", "line": "two",
    }  # fmt: skip
    assert sink.fields_of(events.PROGRAM_ENDED)["returncode"] == 3


def test_lines_that_the_caller_takes_are_not_logged(runner, sink):
    taken = []
    done = sh(runner, "echo a >&2; printf b >&2", on_line=taken.append)
    assert taken == ["a", "b"]
    assert done.tail == "a\nb"
    assert "process.output" not in sink.names()


def test_a_signal_is_a_negative_code(runner):
    assert sh(runner, "kill -9 $$").returncode == -signal.SIGKILL


def test_standard_input_is_empty(runner):
    assert run(runner, "cat").stdout == ""


def test_nothing_a_program_starts_can_ask_a_person(runner):
    done = run(runner, "env")
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert told["GIT_TERMINAL_PROMPT"] == "0"
    assert "BatchMode=yes" in told["GIT_SSH_COMMAND"]


def test_a_configured_ssh_command_is_kept(sink, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i key")
    assert Runner(sink, SteppedClock()).environment["GIT_SSH_COMMAND"] == "ssh -i key"


def test_a_runners_and_a_runs_variables_are_added(sink):
    runner = Runner(sink, SteppedClock(), env={"A": "1", "B": "1"})
    assert sh(runner, 'echo "$A$B$HOME"', env={"B": "2"}).stdout == f"12{os.environ['HOME']}\n"


def test_a_program_runs_where_it_is_told(runner, tmp_path):
    assert run(runner, "pwd", cwd=tmp_path).stdout.strip() == str(tmp_path.resolve())


def test_a_program_has_no_controlling_terminal_and_a_group_of_its_own(runner):
    done = sh(runner, "cut -d' ' -f1,5,6 /proc/$$/stat")
    pid, group, session = done.stdout.split()
    assert pid == group == session


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (None, 0, "No such file"),
        ("#!/bin/sh\n", 0o644, "Permission denied"),
        ("no program", 0o755, "Exec format"),
        ("#!/nonexistent/interpreter\n", 0o755, "No such file"),
    ],
)
def test_what_cannot_be_started_is_told(runner, tmp_path, content, mode, why):
    program = tmp_path / "program"
    if content is not None:
        program.write_text(content)
        program.chmod(mode)
    with pytest.raises(ProgramMissingError, match=why) as caught:
        run(runner, str(program))
    assert str(program) in str(caught.value)
    with pytest.raises(ProgramMissingError, match=why):
        asyncio.run(capture([str(program)]))
    with pytest.raises(ProgramMissingError, match=why):
        watch_now([str(program)], env={})


@pytest.mark.parametrize("argument", ["a\0b", "x" * (1 << 22)])
def test_arguments_that_no_program_can_have_are_told(runner, argument):
    with pytest.raises(ProgramMissingError, match="cannot run echo"):
        run(runner, "echo", argument)
    with pytest.raises(ProgramMissingError, match="cannot run echo"):
        watch_now(["echo", argument], env={})


def test_a_missing_working_directory_is_no_crash(runner, tmp_path):
    with pytest.raises(ProgramMissingError):
        run(runner, "pwd", cwd=tmp_path / "nowhere")


@pytest.mark.parametrize("trap", ["", "trap '' TERM;"])
def test_the_time_limit_ends_a_program_and_all_it_started(runner, tmp_path, trap):
    pids = tmp_path / "pids"
    grandchild = f"{trap} echo $$ >> {pids}; while :; do sleep 60; done"
    script = f'sh -c "{grandchild.replace("$$", chr(92) + "$$")}" >/dev/null 2>&1 </dev/null & '
    script += f"{trap} echo $$ >> {pids}; echo began; wait"
    done = sh(runner, script, timeout=1)
    assert done.timed_out
    assert done.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 2
    for pid in found:
        assert_it_ends(pid)


def test_what_ends_well_on_sigterm_is_given_time_for_it(sink, tmp_path):
    runner = Runner(sink, SteppedClock(), grace=LONG)
    note = tmp_path / "note"
    done = sh(
        runner,
        # The leader ends at once; its child, which tidies up, is waited for.
        f"(trap 'sleep 0.2; echo tidy > {note}; exit' TERM; while :; do sleep 0.05; done) & wait",
        timeout=0.5,
    )
    assert done.timed_out
    assert note.read_text() == "tidy\n"


def children():
    """Return the numbers of this process's children."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def keep_the_loop_busy():
    time.sleep(0.1)


@pytest.fixture
def late_watcher():
    """Let asyncio learn of the end of a child in the loop, as it does since Python 3.12."""
    if sys.version_info >= (3, 12):
        yield
        return
    usual = asyncio.get_child_watcher()
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    yield
    asyncio.set_child_watcher(usual)


@pytest.mark.usefixtures("late_watcher")
@pytest.mark.parametrize("way", ["run", "capture"])
@pytest.mark.parametrize("turns", range(1, 6))
def test_the_end_of_a_program_whose_caller_is_cancelled_is_left_to_asyncio(
    runner, caplog, way, turns
):
    """It is cancelled so many turns of the loop after it was called, when it has ended already."""

    async def interrupt():
        calling = capture(["true"]) if way == "capture" else runner.run(["true"], timeout=LONG)
        task = asyncio.ensure_future(calling)
        for _ in range(turns):
            await asyncio.sleep(0)
        keep_the_loop_busy()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(interrupt())
    assert caplog.messages == []


@pytest.mark.usefixtures("late_watcher")
def test_the_exit_code_of_a_program_that_ends_late_is_not_lost(sink, caplog):
    runner = Runner(sink, SteppedClock(), grace=0.0)

    async def codes():
        done = [await runner.run(["sleep", str(LONG)], timeout=0.001) for _ in range(100)]
        # A program that ends after its loop is nobody's.
        for _ in range(1000):
            if not children():
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        return {one.returncode for one in done}

    assert asyncio.run(codes()) <= {-signal.SIGTERM, -signal.SIGKILL}
    assert caplog.messages == []


def test_a_cancelled_caller_ends_the_program_and_all_it_started(runner, tmp_path):
    pids = tmp_path / "pids"
    began = asyncio.Event()

    async def main():
        script = f"sleep 60 & echo $! > {pids}; echo began >&2; wait"
        task = asyncio.create_task(
            runner.run(["sh", "-c", script], timeout=LONG, on_line=lambda _line: began.set())
        )
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert_it_ends(int(pids.read_text()))


def test_a_fault_in_taking_a_line_ends_the_program(runner, tmp_path):
    def refuse(_line):
        raise ZeroDivisionError

    pids = tmp_path / "pids"
    with pytest.raises(ZeroDivisionError):
        sh(runner, f"echo $$ > {pids}; echo began >&2; sleep 60", on_line=refuse)
    assert_it_ends(int(pids.read_text()))


def test_what_a_program_leaves_behind_with_its_pipes_is_not_waited_for(runner, tmp_path):
    """As ssh does when it shares connections."""
    pids = tmp_path / "pids"
    done = sh(runner, f"setsid sleep 60 & echo $! > {pids}; echo out; echo err >&2; exit 4")
    left = int(pids.read_text())
    assert is_running(left)
    os.kill(left, signal.SIGKILL)
    assert (done.returncode, done.stdout, done.tail, done.timed_out) == (4, "out\n", "err", False)


def test_a_time_limit_holds_even_if_what_keeps_the_pipes_has_left_the_group(runner, tmp_path):
    pids = tmp_path / "pids"
    done = sh(runner, f"setsid sleep 60 & echo $! > {pids}; sleep 60", timeout=0.5)
    os.kill(int(pids.read_text()), signal.SIGKILL)
    assert done.timed_out


def test_endless_output_is_bounded_and_never_blocks_the_program(runner, sink):
    done = run(
        runner,
        sys.executable,
        "-c",
        "import sys\n"
        "sys.stdout.write('x' * (17 << 20))\n"
        "sys.stderr.write('y' * (3 << 20) + '\\n')\n"
        "[sys.stderr.write(f'line {n}\\n') for n in range(1000)]",
    )
    assert done.returncode == 0
    assert len(done.stdout) == 16 << 20
    tail = done.tail.splitlines()
    assert (len(tail), tail[-1]) == (200, "line 999")
    told = lines_of(sink)
    assert len(told) == 1001
    assert len(told[0]) == 4096


def test_bytes_that_are_no_text_are_replaced(runner, sink):
    done = sh(runner, r"printf '\377\376\000a'; printf '\377b\r\n\000\n' >&2")
    assert done.stdout == "\ufffd\ufffd\0a"
    assert lines_of(sink) == ["\ufffdb", "\0"]


def test_secrets_in_arguments_and_lines_are_not_logged(runner, sink):
    taken = []
    secret = "https://user:hunter2@cache.example.org"
    done = sh(
        runner,
        f"echo 'cannot reach {secret}' >&2; echo 'access-tokens = github.com=hunter2' >&2",
    )
    run(runner, "echo", "--option", "access-tokens", "github.com=hunter2")
    sh(runner, f"echo {secret} >&2", on_line=taken.append)
    runner.say("nix", f"copying from {secret}")
    assert "hunter2" not in repr(sink.said)
    assert "hunter2" not in done.tail
    assert "cannot reach https://***@cache.example.org" in lines_of(sink)
    assert taken == [secret], "who takes the lines takes them as they are"


def test_many_programs_may_run_at_once(runner):
    async def main():
        return await asyncio.gather(
            *(runner.run(["sh", "-c", f"echo {n}"], timeout=LONG) for n in range(30))
        )

    assert [done.stdout.strip() for done in asyncio.run(main())] == [str(n) for n in range(30)]


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ("exec wc -c >&2", 0, f"{1 << 20}\n"),
        ("exit 3", 3, ""),
        ("kill -9 $$", -signal.SIGKILL, ""),
        ("echo begun; exec cat", 0, "x" * 65536),
    ],
)
def test_a_filter_has_its_input_whether_or_not_it_reads_it(script, code, output):
    done = asyncio.run(capture(["sh", "-c", script], stdin=b"x" * (1 << 20)))
    assert (done.returncode, done.output) == (code, output)


def test_a_filter_that_reads_nothing_is_killed_with_its_caller(tmp_path):
    pids = tmp_path / "pids"
    os.mkfifo(pids)

    async def main():
        script = f"trap '' TERM; echo $$ > {pids}; while :; do sleep 60; done"
        task = asyncio.create_task(capture(["sh", "-c", script], stdin=b"x" * (1 << 20)))
        pid = int(await asyncio.to_thread(pids.read_text))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert_it_ends(asyncio.run(main()))


def test_run_now_returns_the_output_and_passes_input():
    assert run_now(["cat"], env=dict(os.environ), stdin="x") == "x"


def test_run_now_tells_a_failure_with_the_end_of_its_errors():
    with pytest.raises(ProgramFailedError, match="exit 3\nwhy"):
        run_now(["sh", "-c", "echo why >&2; exit 3"], env=dict(os.environ))


def test_run_now_tells_when_the_time_is_up():
    with pytest.raises(ProgramFailedError, match=r"longer than 0\.2 s"):
        run_now(["sleep", "60"], env=dict(os.environ), timeout=0.2)
    assert watch_now(["sleep", "60"], env=dict(os.environ), timeout=0.2).timed_out


def test_a_caller_that_is_interrupted_lets_the_program_end_in_good_order(tmp_path):
    pids, note = tmp_path / "pids", tmp_path / "note"
    os.mkfifo(pids)
    interrupting = threading.Thread(
        target=lambda: (pids.read_text(), os.kill(os.getpid(), signal.SIGINT))
    )
    interrupting.start()
    tidying = (
        f"trap 'echo tidy > {note}; exit' TERM; echo $$ > {pids}; while :; do sleep 0.02; done"
    )
    with pytest.raises(KeyboardInterrupt):
        watch_now(["sh", "-c", tidying], env=dict(os.environ))
    interrupting.join()
    assert note.read_text() == "tidy\n"


def test_a_signal_that_is_held_comes_afterwards():
    done = []

    def interrupted():
        with signals_held():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_is_not_held():
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_held():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_outside_the_main_thread_programs_can_be_watched_too():
    with ThreadPoolExecutor(1) as other:
        done = other.submit(watch_now, ["cat"], env=dict(os.environ), stdin="x").result()
    assert done.stdout == "x"
