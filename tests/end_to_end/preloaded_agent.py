"""Processes of the agent that need not load it first.

Loading the agent's modules takes longer than most of its runs. A server loads them once, and each
run is a fork of it: a process of its own, with its own arguments, environment, output and end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
_MAX_MESSAGE = 1 << 17
_NOT_LOADED = ("agent.demo", "agent.__main__")


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class PreloadedAgent:
    """The client's side; a context manager. One run at a time.

    `argv` runs this file, with the path that the agent's program has.
    """

    def __init__(
        self, argv: Sequence[str] = (sys.executable, __file__, str(ROOT / "agent/__main__.py"))
    ) -> None:
        self._argv = argv

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [*self._argv, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()
        self._server.wait(timeout=60)

    def run(self, arguments: Sequence[str], env: Mapping[str, str] | None, timeout: float) -> Ended:
        """Run `agent ARGUMENTS` to its end; without an environment it has the server's."""
        env = None if env is None else dict(env)
        asked = json.dumps({"arguments": arguments, "env": env}).encode()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(self._socket, [asked], [out.fileno(), err.fileno()])
            self._socket.settimeout(timeout)
            try:
                code = int(self._socket.recv(_MAX_MESSAGE))
            except TimeoutError:
                self._socket.close()  # which ends the run
                raise
            self._socket.settimeout(None)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return Ended(code, *texts)


def load() -> None:
    """Load what any command may need."""
    agent = importlib.import_module("agent")
    for module in pkgutil.walk_packages(agent.__path__, "agent."):
        if not module.name.startswith(_NOT_LOADED):
            importlib.import_module(module.name)
    importlib.import_module("encodings.idna")
    # A run would copy the pages of whatever its collector looks at.
    gc.freeze()


def serve(end: socket.socket) -> None:
    """Fork a process for each run that is asked for; returns in the children, and at the end."""
    while True:
        asked, streams, _, _ = socket.recv_fds(end, _MAX_MESSAGE, 2)
        if not asked:
            sys.exit(0)
        told = json.loads(asked)
        pid = os.fork()
        if pid == 0:
            end.close()
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
                os.close(stream)
            if told["env"] is not None:
                os.environ.clear()
                os.environ.update(told["env"])
            sys.argv[1:] = told["arguments"]
            return
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(pid)
        if end in select.select([ended, end], [], [])[0]:
            os.kill(pid, signal.SIGKILL)  # nobody waits for it any more
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        end.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    sys.argv[0], number = sys.argv[1:]
    load()
    serve(socket.socket(fileno=int(number)))
    from agent.__main__ import main

    main()
