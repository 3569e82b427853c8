"""Small files: read, and written in one step: no reader and no power failure finds half of one."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_start(file: Path, limit: int) -> bytes:
    """Return the first bytes of a file, not led elsewhere by a link, nor blocked by a pipe.

    Raises:
        OSError: it cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags), "rb") as stream:
        return stream.read(limit)


def sync_directory(directory: Path) -> None:
    """Let what was renamed or removed there survive a power failure; raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(file: Path, content: str) -> None:
    """Write `content` to the disk, and let it be `file` then; without room the old one stays.

    Raises:
        OSError: it cannot be written.
    """
    new = file.with_name(f".{file.name.removeprefix('.')}.new")
    try:
        with new.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
