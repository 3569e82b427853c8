"""The state directory: open to its owner alone, and what is wrong with it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.domain.errors import HostError, Kind

if TYPE_CHECKING:
    from pathlib import Path

_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_REFUSED: Final = (errno.EACCES, errno.EPERM)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_WRITE_HINT: Final = "run the agent as root, or let it write to paths.state_dir"
_OTHERS: Final = 0o077
_PROBE: Final = 1 << 16


def make_private(directory: Path) -> None:
    """Make the state directory, and close it and its files to everybody but their owner.

    Who can open the history can hold its locks. What is another user's is left alone; so is what a
    link of another user's leads to, and every link within the directory.

    Raises:
        OSError: there is no directory, and none can be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(OSError):  # of another user's, who alone may look into it
        is_link = stat.S_ISLNK(directory.lstat().st_mode)
        if is_link and directory.lstat().st_uid == os.geteuid():
            directory = directory.resolve(strict=True)
        handle = os.open(directory, flags | os.O_DIRECTORY)
        try:
            if not _tighten(handle):
                return
            for name in os.listdir(handle):  # noqa: PTH208 - relative to the directory
                with suppress(OSError):
                    _tighten_file(handle, name, flags | os.O_NONBLOCK)
        finally:
            os.close(handle)


def _tighten_file(directory: int, name: str, flags: int) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & _OTHERS or found.st_nlink > 1:
        return
    handle = os.open(name, flags, dir_fd=directory)
    try:
        _tighten(handle)
    finally:
        os.close(handle)


def _tighten(handle: int) -> bool:
    """Take all rights from others; False where it is not ours to change."""
    found = os.fstat(handle)
    if found.st_uid != os.geteuid():
        return False
    if found.st_mode & _OTHERS:
        os.fchmod(handle, stat.S_IMODE(found.st_mode) & ~_OTHERS)
    return True


def is_without_room(directory: Path) -> bool:
    """Whether a write there ends for want of room, or of a quota: SQLite does not always say."""
    try:
        with tempfile.TemporaryFile(dir=directory) as stream:
            stream.write(bytes(_PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno in _FULL
    return False


def state_fault(file: Path, error: OSError) -> HostError:
    """Return the fault that an error on a file of the state directory amounts to."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _REFUSED and is_of_another(file.parent):
        return private_fault(file)
    if error.errno in _READ_ONLY:
        kind, hint = Kind.STATE_READ_ONLY, _WRITE_HINT
    elif error.errno in _FULL:
        kind, hint = Kind.STATE_FULL, "free some room in the file system of paths.state_dir"
    elif error.errno == errno.EIO:
        kind, hint = Kind.STATE_IO_ERROR, "the disk below paths.state_dir may be failing"
    else:
        kind, hint = Kind.STATE_UNUSABLE, "check paths.state_dir"
    return HostError(kind, f"cannot use {file}: {why}", hint=hint)


def private_fault(file: Path) -> HostError:
    """Return the fault of a user who has come to another user's state."""
    return HostError(
        Kind.STATE_PRIVATE,
        f"cannot use {file}: the agent's state is open to its owner alone",
        hint="run the command as root; for a home, as the user whose home it is",
    )


def is_of_another(directory: Path) -> bool:
    """Whether an ordinary user has come to a directory that is not that user's."""
    user = os.geteuid()
    if user == 0:
        return False
    try:
        return directory.stat().st_uid != user
    except FileNotFoundError:
        return False
    except OSError:
        return True


def check_owner(state_dir: Path) -> None:
    """Refuse a command that changes the host where this user may not keep its state.

    Before anything is asked, so that nobody waits for what cannot be done. What the user owns and
    cannot write is another fault.

    Raises:
        HostError: NEEDS_ROOT.
    """
    user = os.geteuid()
    if user == 0:
        return
    for place in (state_dir, *state_dir.parents):
        try:
            owner = place.stat().st_uid
        except FileNotFoundError:
            continue
        except OSError:
            owner = 0  # behind a directory that is closed to this user
        if owner != user and not os.access(place, os.W_OK | os.X_OK):
            whose = "root's" if owner == 0 else f"the user's with the number {owner}"
            raise HostError(
                Kind.NEEDS_ROOT,
                f"this changes the host, whose state in {state_dir} is {whose}",
                hint="run the command as root; for a home, as the user whose home it is",
            )
        return
