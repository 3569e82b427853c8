"""Runs programs while the agent does other things: bounded, and ended with their groups.

`Runner` logs what it runs, and lets a program that must end tidy up. `capture` logs nothing: it is
for short programs that may be killed at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process.result import Completed, ProgramMissingError, missing
from agent.application import events
from agent.domain.secrets import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from agent.application.ports import Clock, EventSink

_MAX_LINE: Final = 4096
_MAX_TAIL: Final = 200
_MAX_STDOUT: Final = 16 * 1024 * 1024
_GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL: Final = 0.02
_MAX_OUTPUT: Final = 64 * 1024
_SHORT_GRACE: Final = 0.1
"""Seconds to read on after the end of a captured program, if something else holds its pipe."""


class Runner:
    """Runs programs without a shell, without standard input, in a process group of their own.

    Every line that a child prints to stderr becomes a `process.output` event, unless the caller
    takes the lines itself. `env` is added to the environment of the agent.
    `grace` is how many seconds a program has after SIGTERM, and its pipes after its end.
    """

    def __init__(
        self,
        sink: EventSink,
        clock: Clock,
        env: Mapping[str, str] | None = None,
        *,
        grace: float = _GRACE,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._grace = grace
        self._env = {
            **os.environ,
            # git and ssh never prompt: nobody is there to answer.
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            **(env or {}),
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that programs are given."""
        return self._env

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run `argv` to its end, or end its process group after `timeout` seconds.

        `env` is added to the environment for this once. When the caller is cancelled the process
        group is ended, too.

        Raises:
            ProgramMissingError: it cannot be started.
        """
        program = argv[0].rpartition("/")[2]
        self._sink.emit(events.PROGRAM_STARTED, argv=hide_secrets(list(argv)))
        began = self._clock.elapsed()
        tail: deque[str] = deque(maxlen=_MAX_TAIL)

        def take(line: str) -> None:
            if on_line is not None:
                on_line(line)
            else:
                self.say(program, line)
            tail.append(_shown(line))

        child = await _start(argv, self._grace, cwd=cwd, env={**self._env, **(env or {})})
        stdout, timed_out = "", False
        kept = bytearray()
        try:
            async with asyncio.timeout(timeout):
                await child.finish(_read_all(child.stdout, kept), _read_lines(child.stderr, take))
            stdout = kept.decode(errors="replace")
        except TimeoutError:
            timed_out = True
            await child.end()
        except BaseException:
            await child.end()
            raise
        finally:
            child.close()
        returncode = child.returncode
        self._sink.emit(
            events.PROGRAM_ENDED,
            program=program,
            returncode=returncode,
            seconds=round(self._clock.elapsed() - began, 3),
        )
        return Completed(returncode, stdout, "\n".join(tail), timed_out)

    async def try_run(self, argv: Sequence[str], *, timeout: float) -> Completed | None:
        """Run `argv` as `run` does; None if it cannot be started."""
        try:
            return await self.run(argv, timeout=timeout)
        except ProgramMissingError:
            return None

    def say(self, program: str, line: str, stream: str = "stderr") -> None:
        """Log one line of a child, without what looks like a credential."""
        self._sink.emit(events.PROGRAM_SPOKE, program=program, stream=stream, line=_shown(line))


@dataclass(frozen=True, slots=True)
class Output:
    """How a program ended: `returncode` is negative for a signal.

    `output` is the last 64 KiB of what it printed, standard output and error in one.
    """

    returncode: int
    output: str


async def capture(argv: Sequence[str], *, stdin: bytes = b"") -> Output:
    """Run `argv` in the agent's environment, and return how it ended.

    What is left of its process group is killed at once when it has ended, or when the caller is
    cancelled.

    Raises:
        ProgramMissingError: it cannot be started.
    """
    kept = bytearray()
    child = await _start(argv, _SHORT_GRACE, stderr=subprocess.STDOUT, has_stdin=bool(stdin))
    try:
        await child.finish(_keep_end(child.stdout, kept), child.feed(stdin))
    finally:
        try:
            await child.kill()
        finally:
            child.close()
    return Output(child.returncode, kept.decode(errors="replace"))


def _shown(line: str) -> str:
    return str(hide_secrets(line[:_MAX_LINE]))


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Notes the end of the process itself.

    asyncio's own `wait` ends only when the pipes are closed, too (until Python 3.12), and those
    may have been inherited by what outlives the process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=1 << 16, loop=loop)
        self.exited: asyncio.Future[None] = loop.create_future()

    @override
    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set_result(None)


class _Child:
    """A program that runs, its pipes and its process group."""

    def __init__(
        self, transport: asyncio.SubprocessTransport, protocol: _Protocol, grace: float
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._grace = grace

    @property
    def returncode(self) -> int:
        """Exit code, negative for a signal; only after it has ended."""
        code = self._transport.get_returncode()
        return -signal.SIGKILL if code is None else code

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Its standard output."""
        return _pipe(self._protocol.stdout)

    @property
    def stderr(self) -> asyncio.StreamReader:
        """Its standard error, unless that is standard output."""
        return _pipe(self._protocol.stderr)

    async def feed(self, data: bytes) -> None:
        """Write all of its standard input, if it has any; it need not read it."""
        if self._protocol.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._protocol.stdin.write(data)
            await self._protocol.stdin.drain()
        self._protocol.stdin.close()

    async def finish(self, *transfers: Awaitable[None]) -> None:
        """Wait for its end, and for what goes on at its pipes.

        What it leaves behind may hold its pipes open, as ssh's connection sharing does; such pipes
        are read for the grace only.
        """
        pipes = asyncio.gather(*transfers)
        try:
            await asyncio.wait((pipes, self._protocol.exited), return_when=asyncio.FIRST_COMPLETED)
            if pipes.done():
                pipes.result()
            await asyncio.shield(self._protocol.exited)
            await asyncio.wait((pipes,), timeout=self._grace)
            if pipes.done():
                pipes.result()
        finally:
            pipes.cancel()
            await asyncio.gather(pipes, return_exceptions=True)

    async def end(self) -> None:
        """End it and all it has started: SIGTERM, some grace, SIGKILL."""
        try:
            self._send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await self._gone()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Kill what is left of its group, and see it end."""
        self._send(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace):
                await asyncio.shield(self._protocol.exited)

    def close(self) -> None:
        """Let go of the pipes.

        asyncio's own `close` waits for a child whose end it has not been notified of. Then its
        exit code is lost, and asyncio complains on standard error.
        """
        if self._protocol.exited.done():
            self._transport.close()
            return
        for descriptor in range(3):
            if (pipe := self._transport.get_pipe_transport(descriptor)) is not None:
                pipe.close()
        self._protocol.exited.add_done_callback(lambda _: self._transport.close())

    def _send(self, number: signal.Signals | int) -> None:
        # It leads its group, whose number cannot be used again while a member is alive.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), number)

    async def _gone(self) -> None:
        """Wait until nothing is left of the group: nothing reports its end."""
        await asyncio.shield(self._protocol.exited)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.killpg(self._transport.get_pid(), 0)
                await asyncio.sleep(_POLL)


async def _start(
    argv: Sequence[str],
    grace: float,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.PIPE,
    has_stdin: bool = False,
) -> _Child:
    loop = asyncio.get_running_loop()
    started = asyncio.ensure_future(
        loop.subprocess_exec(
            lambda: _Protocol(loop),
            *argv,
            stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    )
    try:
        # An interruption is put off until the pipes are connected: see `_Child.close`.
        await asyncio.shield(started)
    except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
        raise missing(argv[0], error) from error
    except asyncio.CancelledError:
        await asyncio.wait((started,))
        if started.exception() is None:
            child = _Child(*started.result(), grace)
            try:
                await child.kill()
            finally:
                child.close()
        raise
    return _Child(*started.result(), grace)


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    assert stream is not None  # noqa: S101 - it was asked for as a pipe
    return stream


async def _read_all(stream: asyncio.StreamReader, kept: bytearray) -> None:
    """Read to the end; what comes after 16 MiB is dropped, so that the child never blocks."""
    while block := await stream.read(65536):
        kept += block[: _MAX_STDOUT - len(kept)]


async def _read_lines(stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Pass each line on; of a line above 1 MiB the rest is dropped."""
    rest = b""
    while block := await stream.read(65536):
        *lines, rest = (rest + block).split(b"\n")
        rest = rest[: 1 << 20]
        for line in lines:
            take(line.decode(errors="replace").rstrip("\r"))
    if rest:
        take(rest.decode(errors="replace"))


async def _keep_end(stream: asyncio.StreamReader, kept: bytearray) -> None:
    while block := await stream.read(65536):
        kept += block
        del kept[:-_MAX_OUTPUT]
