"""One agent at a time: an advisory lock on a file in the state directory."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.state_dir import make_private, state_fault
from agent.application.ports import Lock
from agent.domain.errors import Kind, LockedError
from agent.lean.idle_poll import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.application.ports import WaitReason

_MAX_NOTE: Final = 200
_MODE: Final = 0o600
"""Any user who may open the file can hold the lock, and block the agent."""

_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
"""The target of a link is not the lock, and must not be written to."""


class FileLock(Lock):
    """`flock` on `agent.lock`; the kernel lets go of it however the process ends."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LOCK

    @override
    @contextmanager
    def hold(self) -> Iterator[None]:
        try:
            make_private(self._file.parent)
            handle = os.open(self._file, _OPEN | os.O_CREAT, _MODE)
            os.fchmod(handle, _MODE)
        except OSError as error:
            raise state_fault(self._file, error) from error
        try:
            self._take(handle)
            yield
            # The idle path holds the lock without a note: none of an earlier holder may be left.
            _note(handle, b"")
        finally:
            with suppress(OSError):  # the kernel has let go of it, whatever it says
                os.close(handle)

    @override
    @contextmanager
    def waiting(self, wait: WaitReason) -> Iterator[None]:
        with suppress(OSError):
            make_private(self._file.parent)
        handle = _opened(self._beside(wait), os.O_CREAT)
        try:
            if handle is not None:
                with suppress(OSError):  # another process is just looking, and will look again
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield
        finally:
            if handle is not None:
                with suppress(OSError):
                    os.close(handle)

    @override
    def is_waiting(self, wait: WaitReason) -> bool | None:
        file = self._beside(wait)
        handle = _opened(file)
        if handle is None:
            return None if file.exists() else False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(handle)
        return False

    def _beside(self, wait: WaitReason) -> Path:
        return self._file.with_name(f"{LOCK}.{wait}")

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
                f"another agent is running: {holder or 'its process is unknown'}",
                hint=f"it holds {self._file}",
            ) from error
        _note(handle, f"process {os.getpid()}\n".encode())


def _note(handle: int, text: bytes) -> None:
    """Write who holds the lock, if possible; it is held all the same."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text, 0)


def _opened(file: Path, flags: int = 0) -> int | None:
    try:
        return os.open(file, _OPEN | flags, _MODE)
    except OSError:
        return None
