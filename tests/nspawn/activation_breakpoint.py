"""Where an activation waits, until a test lets it go on."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nspawn.real_host import RealHost


class Gate:
    """Where the next activation of a host waits: before it has changed anything, or by the name of
    another failure after that."""

    def __init__(self, host: RealHost, name: str = "stc-sleep") -> None:
        self._host = host
        host.ok("mkfifo", f"/inject/{name}")
        self._path = host.find(f"/inject/{name}")
        self._pipe = -1

    def await_activation(self) -> None:
        """Wait until an activation is there.

        Raises:
            AssertionError: there is none; the text has the host's journal.
        """
        self._host.eventually(self._is_reached, "an activation is there")

    def _is_reached(self) -> bool:
        try:
            self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads there
                raise
            return False
        return True

    def open(self) -> None:
        """Let it go on, and all after it."""
        self._path.unlink()
        os.write(self._pipe, b"0\n")
        os.close(self._pipe)
