"""Reads nix's `internal-json` log, line by line: what it says, how far it has come, what failed.

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
OWN_TERM: Final = "ignoring the client-specified setting 'narinfo-cache-negative-ttl'"
"""What nix's daemon says to a user it does not trust, each time: an absence is remembered for its
own term. Nobody can do anything about it, so that nobody is shown it."""
TERM: Final = 3600.0
"""That term, by default, in seconds."""
_MAX_KEPT: Final = 200
_MAX_LINES: Final = 25
"""Lines that are kept of what each derivation's builder prints."""
_MAX_LINE: Final = 400
_MAX_DERIVATIONS: Final = 10_000
_ERROR: Final = 0
_INFO: Final = 3
"""Verbosity `info`: what lies above is of use to nix's own developers only."""
# 2.8 and 2.26: builder for 'D' failed …; 2.34: Cannot build 'D'.; and: building of 'D' timed out …
_FAILED: Final = re.compile(r"(?:builder for|Cannot build|build(?:ing)? of) '([^']{1,400}\.drv)")
_DEPENDENCY: Final = re.compile(r"dependenc(?:y|ies)\b")


class _Activity(IntEnum):
    COPY_PATH = 100
    COPY_PATHS = 103
    BUILD = 105


class _Result(IntEnum):
    BUILD_LOG_LINE = 101
    PROGRESS = 105
    SET_EXPECTED = 106
    POST_BUILD_LOG_LINE = 107


class NixLog:
    """The state of one nix process, as its log has it. Sizes are bytes in the store.

    Texts are without colours, and without credentials: substituters may have some in their URLs,
    which nix repeats in its errors.
    """

    def __init__(self) -> None:
        self.paths = 0
        self.paths_expected = 0
        self.size_expected = 0
        self.failed: list[str] = []
        """Derivations whose own builder failed, in nix's order."""
        self._copying_paths: set[int] = set()
        self._copied: dict[int, int] = {}
        """Bytes copied by each activity that copies one path."""
        self._copied_in_all = 0
        self._derivations: dict[int, str] = {}
        """What each activity that builds is building."""
        self._build_logs: dict[str, deque[str]] = {}
        self._kept: deque[str] = deque(maxlen=_MAX_KEPT)

    @property
    def size(self) -> int:
        """Bytes copied so far; of a path below 64 KiB nix does not report any."""
        if self.paths and self.paths == self.paths_expected:
            return self.size_expected
        return self._copied_in_all

    @property
    def text(self) -> str:
        """The last lines that nix itself printed."""
        return "\n".join(self._kept)

    def tail(self, derivation: str) -> str:
        """Return the last lines that a derivation's builder printed."""
        return "\n".join(self._build_logs.get(derivation, ()))

    def feed(self, line: str) -> str | None:
        """Take in one line of stderr; return what a person should see of it, if anything."""
        entry = _parse(line)
        if entry is None:
            return self._record(line)
        number = entry.get("id")
        match entry.get("action"), number:
            case "start", int(number):
                return self._start(number, entry)
            case "stop", int(number):
                self._stop(number)
            case "result", int(number):
                return self._result(number, entry)
            case "msg", _:
                return self._message(entry)
            case _:
                pass
        return None

    def _start(self, number: int, entry: dict[str, object]) -> str | None:
        match entry.get("type"), entry.get("fields"):
            case _Activity.COPY_PATH, _:
                self._copied[number] = 0
            case _Activity.COPY_PATHS, _:
                self._copying_paths.add(number)
            case _Activity.BUILD, [str(derivation), *_]:
                self._derivations[number] = derivation
                return self._record(f"building {derivation}")
            case _:
                pass
        return None

    def _stop(self, number: int) -> None:
        self._copying_paths.discard(number)
        self._copied.pop(number, None)
        self._derivations.pop(number, None)

    def _result(self, number: int, entry: dict[str, object]) -> str | None:
        match entry.get("type"), entry.get("fields"):
            case _Result.PROGRESS, [int(done), int(expected), *_]:
                self._progress(number, done, expected)
            case _Result.SET_EXPECTED, [_Activity.COPY_PATH, int(expected), *_]:
                self.size_expected = expected
            case _Result.BUILD_LOG_LINE | _Result.POST_BUILD_LOG_LINE, [str(line), *_]:
                return self._print(number, line)
            case _:
                pass
        return None

    def _progress(self, number: int, done: int, expected: int) -> None:
        if number in self._copied:
            self._copied_in_all += done - self._copied[number]
            self._copied[number] = done
        elif number in self._copying_paths:
            self.paths, self.paths_expected = done, expected

    def _print(self, number: int, line: str) -> str | None:
        """Take in what a builder printed."""
        derivation = self._derivations.get(number)
        if derivation is None:
            return self._record(line)
        shown = _clean(line)
        if derivation in self._build_logs or len(self._build_logs) < _MAX_DERIVATIONS:
            log = self._build_logs.setdefault(derivation, deque(maxlen=_MAX_LINES))
            log.append(shown[:_MAX_LINE])
        return shown or None

    def _message(self, entry: dict[str, object]) -> str | None:
        level, text = entry.get("level"), entry.get("msg")
        if not isinstance(text, str) or (isinstance(level, int) and level > _INFO):
            return None
        plain = _COLOUR.sub("", text)
        if level == _ERROR and (found := _FAILED.search(plain)):
            is_own = not _DEPENDENCY.search(plain.splitlines()[0])
            if is_own and found[1] not in self.failed:
                self.failed.append(found[1])
        return self._record(text)

    def _record(self, text: str) -> str | None:
        shown = _clean(text)
        self._kept.extend(shown.splitlines())
        return None if OWN_TERM in shown else shown or None


def _parse(line: str) -> dict[str, object] | None:
    """Return an entry of the log; None for a line that is none, and is shown as it is."""
    if not line.startswith(_PREFIX):
        return None
    try:
        entry = json.loads(line.removeprefix(_PREFIX))
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _clean(text: str) -> str:
    return str(hide_secrets(_COLOUR.sub("", text).rstrip()))
