"""Reads nix's `internal-json` log of builds: what each derivation printed, and which failed.

The numbers are nix's own (src/libutil/logging.hh): a build is an activity of type 105 whose first
field is its derivation, and a line of its log is a result of type 101.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Final

from agent.domain.secrets import hide_secrets

_PREFIX: Final = "@nix "
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_BUILD: Final = 105
_LOG_LINES: Final = (101, 107)
_ERROR: Final = 0
_INFO: Final = 3
_MAX_LINES: Final = 25
_MAX_LINE: Final = 400
_MAX_DERIVATIONS: Final = 10_000
# 2.8 and 2.26: builder for 'D' failed …; 2.34: Cannot build 'D'.; and: building of 'D' timed out …
_FAILED: Final = re.compile(r"(?:builder for|Cannot build|build(?:ing)? of) '([^']{1,400}\.drv)")
_DEPENDENCY: Final = re.compile(r"dependenc(?:y|ies)\b")


class BuildLog:
    """The state of one nix process that builds; texts are without colours and credentials."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        """Derivations whose own builder failed, in the order in which nix told."""
        self.said: deque[str] = deque(maxlen=200)
        """The last messages of nix itself."""
        self._derivations: dict[int, str] = {}
        self._lines: dict[str, deque[str]] = {}

    def tail(self, derivation: str) -> str:
        """Return the last lines that a derivation's builder printed."""
        return "\n".join(self._lines.get(derivation, ()))

    def feed(self, line: str) -> str | None:
        """Take in one line of stderr; return what a person should see of it, if anything."""
        entry = _parse(line)
        if entry is None:
            return self._say(line)
        number, fields = entry.get("id"), entry.get("fields")
        match entry.get("action"), entry.get("type"), fields:
            case "start", kind, [str(derivation), *_] if kind == _BUILD and isinstance(number, int):
                self._derivations[number] = derivation
                return self._say(f"building {derivation}")
            case "stop", _, _ if isinstance(number, int):
                self._derivations.pop(number, None)
            case "result", kind, [str(text), *_] if kind in _LOG_LINES and isinstance(number, int):
                return self._printed(number, text)
            case "msg", _, _:
                return self._message(entry)
            case _:
                pass
        return None

    def _printed(self, number: int, text: str) -> str | None:
        derivation = self._derivations.get(number)
        shown = _clean(text)
        if derivation is not None and (derivation in self._lines or self._has_room()):
            self._lines.setdefault(derivation, deque(maxlen=_MAX_LINES)).append(shown)
        return shown or None

    def _has_room(self) -> bool:
        return len(self._lines) < _MAX_DERIVATIONS

    def _message(self, entry: dict[str, object]) -> str | None:
        level, text = entry.get("level"), entry.get("msg")
        if not isinstance(text, str) or not isinstance(level, int) or level > _INFO:
            return None
        plain = _COLOUR.sub("", text)
        if level == _ERROR and (found := _FAILED.search(plain)):
            is_own = not _DEPENDENCY.search(plain.splitlines()[0])
            if is_own and found[1] not in self.failed:
                self.failed.append(found[1])
        return self._say(text)

    def _say(self, text: str) -> str | None:
        shown = _clean(text)
        self.said.extend(shown.splitlines())
        return shown or None


def _parse(line: str) -> dict[str, object] | None:
    if not line.startswith(_PREFIX):
        return None
    try:
        entry = json.loads(line.removeprefix(_PREFIX))
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _clean(text: str) -> str:
    lines = (line[:_MAX_LINE] for line in _COLOUR.sub("", text).rstrip().splitlines())
    return str(hide_secrets("\n".join(lines)))
