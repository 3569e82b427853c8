"""Hydra's session: one for all requests of this host, from run to run.

Hydra makes a new session for every request that brings no cookie, and keeps them in a file of a
fixed size, where new ones push out others. It imports the standard library alone, so that the idle
path stays cheap.
"""

from __future__ import annotations

import contextlib
import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = "hydra-session.json"
COOKIE = "hydra_session"
"""The cookie's name; a proxy before Hydra may set others, which are kept for one run."""

_MAX_FILE = 1 << 14
_MAX_COOKIES = 16
_PAIR = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256})=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{0,4096})"
)
"""A name and a value (RFC 6265, 4.1.1); a value in quotes is none that Hydra gives."""


class Session:
    """The cookies of one instance, which no other instance ever sees.

    `file` is where Hydra's own is kept for later runs, None if it is for one run alone. What is
    wrong with the file is no fault: then Hydra makes a new session.
    """

    def __init__(self, instance: str, file: str | None = None, *, is_kept: bool = True) -> None:
        self._instance = instance.rstrip("/")
        self._file = file
        self._is_kept = is_kept
        self._cookies: dict[str, str] = {}
        if file is not None:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                self._read(file)
        self._known = self._cookies.get(COOKIE)

    def header(self) -> str:
        """Return the value of the header `Cookie`; empty where there is none to send."""
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def take(self, answers: Iterable[str]) -> None:
        """Take the values of an answer's headers `Set-Cookie`."""
        for text in answers:
            found = _PAIR.fullmatch(text.partition(";")[0].strip(" \t"))
            if found is None:
                continue
            name, value = found[1], found[2]
            self._cookies.pop(name, None)
            if value and len(self._cookies) < _MAX_COOKIES:
                self._cookies[name] = value

    def keep(self) -> None:
        """Leave Hydra's own cookie for later runs, if it is a new one."""
        cookie = self._cookies.get(COOKIE)
        if self._file is None or not self._is_kept or cookie in (None, self._known):
            return
        with contextlib.suppress(OSError):
            self._write(self._file, {"instance": self._instance, "cookie": cookie})
            self._known = cookie

    def _read(self, file: str) -> None:
        # Not blocking: in its place may be a pipe that nobody writes to.
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(handle, "rb") as stream:
            kept = json.loads(stream.read(_MAX_FILE))
        cookie = kept.get("cookie") if isinstance(kept, dict) else None
        if isinstance(cookie, str) and kept.get("instance") == self._instance:
            self.take([f"{COOKIE}={cookie}"])

    @staticmethod
    def _write(file: str, content: dict[str, str | None]) -> None:
        handle = os.open(
            f"{file}.new",
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
            0o600,
        )
        with open(handle, "w") as stream:
            json.dump(content, stream)
        os.replace(f"{file}.new", file)
