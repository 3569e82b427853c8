"""Runs programs that have nothing to tidy up, and keeps the end of what they print."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process.result import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_OUTPUT: Final = 64 * 1024
_GRACE: Final = 0.1
"""Seconds to read on after the program's end, if something else holds its pipe, and to see it end
after it was killed."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a program ended: `returncode` is negative for a signal.

    `output` is the last 64 KiB of what it printed, standard output and error in one.
    """

    returncode: int
    output: str


class _Ear(asyncio.SubprocessProtocol):
    """Keeps the end of the output, and notes the ends of program and pipe."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.kept = bytearray()

    @override
    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)  # noqa: S101 - the pipe is a binary one
        self.kept += data
        del self.kept[:-_MAX_OUTPUT]

    @override
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.closed.set_result(None)

    @override
    def process_exited(self) -> None:
        self.exited.set_result(None)


async def hear(argv: Sequence[str]) -> Output:
    """Run `argv` without input, and return how it ended.

    What is left of its process group is killed at once when it has ended, or when the caller is
    cancelled.

    Raises:
        ProgramMissingError: it cannot be started.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, ear = await loop.subprocess_exec(
            lambda: _Ear(loop),
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
        raise missing(argv[0], error) from error
    try:
        await asyncio.shield(ear.exited)
        await asyncio.wait((ear.closed,), timeout=_GRACE)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        try:  # to close a transport whose process is ending would take its exit code from asyncio
            await asyncio.wait((ear.exited,), timeout=_GRACE)
        finally:
            transport.close()
    code = transport.get_returncode()
    assert code is not None  # noqa: S101 - it has exited
    return Output(code, ear.kept.decode(errors="replace"))
