"""Writes a small file in one step: no reader and no power failure finds half of it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
