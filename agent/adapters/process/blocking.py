"""Runs programs to their end while nothing else goes on: for making stages, and watching agents."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Final

from agent.adapters.process.result import Completed, missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE: Final = 30.0
"""Seconds between SIGTERM and SIGKILL: the program may have to end others that it has started."""
ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a command to end: a person's Ctrl-C, systemd or `kill`, a terminal that is closed."""


class ProgramFailedError(Exception):
    """A program of `run_now` ended with another exit code than 0."""


def run_now(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: str = "", timeout: float = 120
) -> str:
    """Run `argv` to its end and return its stdout: for set-up work that nobody else waits for.

    `env` is the whole environment of the child.

    Raises:
        ProgramMissingError: it cannot be started.
        ProgramFailedError: it failed or took longer than `timeout` seconds.
    """
    done = watch_now(argv, env=env, stdin=stdin, timeout=timeout)
    if done.timed_out:
        raise ProgramFailedError(f"{argv[0]} took longer than {timeout:g} s")
    if done.returncode != 0:
        raise ProgramFailedError(f"{' '.join(argv)}: exit {done.returncode}\n{done.tail[-4000:]}")
    return done.stdout


def watch_now(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: str = "", timeout: float = 120
) -> Completed:
    """Run `argv` to its end and return how it ended, whatever its exit code.

    It leads a session of its own. When its time is up, or the caller is interrupted, it gets
    SIGTERM and is waited for, since it may have to end what it has started itself.

    Raises:
        ProgramMissingError: it cannot be started.
    """
    child = None
    try:
        with signals_held():  # an interruption must not fall between its start and our knowing it
            child = _open(argv, env)
        stdout, stderr = child.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        return Completed(-signal.SIGKILL, "", "", timed_out=True)
    finally:
        if child is not None:
            _end_now(child)
    return Completed(child.returncode, stdout, stderr)


def _open(argv: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(env),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise missing(argv[0], error) from error


def _end_now(child: subprocess.Popen[str]) -> None:
    """End a child, unless it has ended, and close its pipes."""
    with child:
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put off what SIGHUP, SIGINT and SIGTERM do to this process until the block has ended.

    They are not masked: programs that are started meanwhile would inherit that. Outside the main
    thread nothing is held, since Python's handlers never run there.
    """
    came: list[int] = []
    usual = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING_SIGNALS:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:  # as under nohup, for programs as well
                    usual[number] = handler
                    signal.signal(number, lambda came_now, _frame: came.append(came_now))
        yield
    finally:
        for number in reversed(usual):
            signal.signal(number, usual[number])
    for each in came:
        signal.raise_signal(each)
