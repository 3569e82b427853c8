"""One agent at a time: an advisory lock on a file in the state directory."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from agent.adapters.state import make_private, state_fault
from agent.domain.errors import Kind, LockedError
from agent.idle import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_NOTE: Final = 200
_MODE: Final = 0o600
"""Whoever may open the file may hold the lock, and keep the agent from its work."""


class FileLock:
    """`flock` on `agent.lock`; the kernel lets go of it however the process ends."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LOCK

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock for the length of a `with` block.

        Raises:
            LockedError: LOCKED, naming the holder's process.
            HostError: the lock file cannot be made.
        """
        try:
            make_private(self._file.parent)
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            os.fchmod(handle, _MODE)
        except OSError as error:
            raise state_fault(self._file, error) from error
        try:
            self._take(handle)
            yield
            # The idle path holds the lock without a note: none of an earlier holder may be left.
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    def _take(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise state_fault(self._file, error) from error
            note = os.pread(handle, _MAX_NOTE, 0).decode(errors="replace").strip()
            holder = "".join(char for char in note if char.isprintable())
            raise LockedError(
                Kind.LOCKED,
                f"another agent is at work: {holder or 'its process is unknown'}",
                hint=f"it holds {self._file}",
            ) from error
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise state_fault(self._file, error) from error
