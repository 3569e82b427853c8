"""Sums how long something has gone on while the machine was up, whatever its clock says.

A clock without a battery starts years ago, and is set by NTP some time after boot. CLOCK_BOOTTIME
(clock_gettime(2)) only goes forward, suspend included, and begins anew with each boot, which the
kernel's boot id tells apart (proc(5), `/proc/sys/kernel/random/boot_id`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.adapters.whole_file import read_start, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_FILE: Final = 512
_MAX_DIGITS: Final = 14
_FIELDS: Final = 4
_UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class Uptime:
    """Which boot this is, and the seconds since it began."""

    boot_id: Callable[[], str]
    seconds: Callable[[], float]


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


UPTIME: Final = Uptime(_boot_id, lambda: time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True, slots=True)
class _Reading:
    """The last look; `at` and `total` are in milliseconds."""

    about: str
    boot_id: str
    at: int
    total: int


class Stopwatch:
    """Keeps the sum in one small `file`: `ABOUT BOOT-ID AT TOTAL`, times in milliseconds.

    Time counts from one look to the next within a boot; nothing is known of the time in between
    two boots. A file that is lost, unreadable or about something else begins at nothing. Nothing
    raises: where the file cannot be written, the present boot still counts from the last reading.
    """

    def __init__(self, file: Path, uptime: Uptime = UPTIME) -> None:
        self._file = file
        self._uptime = uptime

    def look(self, about: str) -> timedelta:
        """Return how long `about` (a word) has gone on, and keep that for the next look."""
        boot_id, at = self._uptime.boot_id() or _UNKNOWN, int(self._uptime.seconds() * 1000)
        last = self._read()
        if last is None or last.about != about:
            last = _Reading(about, boot_id, at, 0)
        is_same_boot = last.boot_id == boot_id != _UNKNOWN
        gone = max(at - last.at, 0) if is_same_boot else 0
        total = last.total + gone
        self._write(_Reading(about, boot_id, at, total))
        return timedelta(milliseconds=total)

    def forget(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _read(self) -> _Reading | None:
        try:
            words = read_start(self._file, _MAX_FILE).decode("ascii").split()
        except (OSError, ValueError):
            return None
        if len(words) != _FIELDS or not all(_is_count(word) for word in words[2:]):
            return None
        return _Reading(words[0], words[1], int(words[2]), int(words[3]))

    def _write(self, reading: _Reading) -> None:
        text = f"{reading.about} {reading.boot_id} {reading.at} {reading.total}\n"
        try:
            replace_file(self._file, text)
        except OSError:
            self._overwrite(text.encode())

    def _overwrite(self, text: bytes) -> None:
        """Write into the block that the file has already: a full disk allows that."""
        with suppress(OSError):
            handle = os.open(self._file, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "wb", buffering=0) as stream:
                stream.write(text)
                stream.truncate(len(text))


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= _MAX_DIGITS
