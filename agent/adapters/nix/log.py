"""Reads nix's `internal-json` log, line by line: what it says, and how far it has come.

The numbers of activities and results are nix's own (src/libutil/logging.hh, the same from 2.8 to
2.34): an activity has an `id` and a `type`, and results refer to it by that id.
"""

from __future__ import annotations

import json
import re
from collections import deque
from enum import IntEnum
from typing import Final

from agent.domain.secrets import hide_secrets

_PREFIX: Final = "@nix "
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MAX_KEPT: Final = 200
_INFO: Final = 3
"""Verbosity `info`: what lies above is of use to nix's own developers only."""


class _Activity(IntEnum):
    COPY_PATH = 100
    COPY_PATHS = 103


_READ: Final = frozenset(_Activity)


class _Result(IntEnum):
    BUILD_LOG_LINE = 101
    PROGRESS = 105
    SET_EXPECTED = 106
    POST_BUILD_LOG_LINE = 107


class NixLog:
    """The state of one nix process, as its log tells it. Sizes are bytes in the store."""

    def __init__(self) -> None:
        self.paths = 0
        self.paths_expected = 0
        self.size_expected = 0
        self._activities: dict[int, _Activity] = {}
        """Those under way, of the types that are read."""
        self._copied: dict[int, int] = {}
        """Bytes copied by each that is under way."""
        self._copied_in_all = 0
        self._kept: deque[str] = deque(maxlen=_MAX_KEPT)

    @property
    def size(self) -> int:
        """Bytes copied so far; of a path below 64 KiB nix does not report any."""
        if self.paths and self.paths == self.paths_expected:
            return self.size_expected
        return self._copied_in_all

    @property
    def text(self) -> str:
        """The last lines of what it said, without colours and credentials."""
        return "\n".join(self._kept)

    def feed(self, line: str) -> str | None:
        """Take in one line of stderr; return what a person should see of it, if anything.

        Substituters may have credentials in their URLs, which nix repeats in its errors.
        """
        said = self._read(line)
        if said is None:
            return None
        said = str(hide_secrets(_COLOUR.sub("", said).rstrip()))
        if said:
            self._kept.extend(said.splitlines())
        return said or None

    def _read(self, line: str) -> str | None:
        if not line.startswith(_PREFIX):
            return line
        try:
            entry = json.loads(line.removeprefix(_PREFIX))
        except (ValueError, RecursionError):
            return line
        if not isinstance(entry, dict):
            return line
        match entry.get("action"):
            case "start":
                self._start(entry)
            case "stop":
                self._stop(entry)
            case "result":
                return self._result(entry)
            case "msg":
                return _message(entry)
            case _:
                pass
        return None

    def _start(self, entry: dict[str, object]) -> None:
        number, kind = entry.get("id"), entry.get("type")
        if isinstance(number, int) and isinstance(kind, int) and kind in _READ:
            self._activities[number] = _Activity(kind)

    def _stop(self, entry: dict[str, object]) -> None:
        number = entry.get("id")
        if isinstance(number, int):
            self._activities.pop(number, None)
            self._copied.pop(number, None)

    def _result(self, entry: dict[str, object]) -> str | None:
        number, fields = entry.get("id"), entry.get("fields")
        if not isinstance(number, int) or not isinstance(fields, list):
            return None
        match entry.get("type"), fields:
            case _Result.PROGRESS, [int(done), int(expected), *_]:
                self._progress(number, done, expected)
            case _Result.SET_EXPECTED, [_Activity.COPY_PATH, int(expected), *_]:
                self.size_expected = expected
            case _Result.BUILD_LOG_LINE | _Result.POST_BUILD_LOG_LINE, [str(line), *_]:
                return line
            case _:
                pass
        return None

    def _progress(self, number: int, done: int, expected: int) -> None:
        match self._activities.get(number):
            case _Activity.COPY_PATH:
                self._copied_in_all += done - self._copied.get(number, 0)
                self._copied[number] = done
            case _Activity.COPY_PATHS:
                self.paths, self.paths_expected = done, expected
            case None:
                pass


def _message(entry: dict[str, object]) -> str | None:
    level, text = entry.get("level"), entry.get("msg")
    if not isinstance(text, str) or (isinstance(level, int) and level > _INFO):
        return None
    return text
