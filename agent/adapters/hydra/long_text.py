"""Cuts the long strings of a JSON answer while it comes, so that the rest of it can be read."""

from __future__ import annotations

import re
from typing import Final

_RUN: Final = re.compile(rb'(?:[^"\\]|\\.)*', re.DOTALL)
_WHOLE: Final = re.compile(rb'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*', re.DOTALL)
_HALF_OF_A_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")


class LongTextCutter:
    """Passes JSON on, with at most `longest` bytes of each string."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._is_in_string = False
        self._string = bytearray()
        self._is_cut = False
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what of a chunk is to be kept; a string is kept back until it ends."""
        data, self._held = self._held + chunk, b""
        kept, at = bytearray(), 0
        while at < len(data):
            if not self._is_in_string:
                quote = data.find(b'"', at)
                end = len(data) if quote < 0 else quote + 1
                kept += data[at:end]
                self._is_in_string = quote >= 0
                at = end
                continue
            run = _RUN.match(data, at)
            end = at if run is None else run.end()
            self._keep(data[at:end])
            at = end
            if data[at : at + 1] == b'"':
                kept += self._ended()
                at += 1
            elif at < len(data):  # a backslash whose other half is still to come
                self._held = data[at:]
                break
        return bytes(kept)

    @property
    def rest(self) -> bytes:
        """What is kept of a string that the answer has ended in."""
        return bytes(self._string) + self._held if self._is_in_string else b""

    def _keep(self, part: bytes) -> None:
        left = self._longest - len(self._string)
        self._string += part[:left]
        self._is_cut = self._is_cut or len(part) > left

    def _ended(self) -> bytes:
        text = bytes(self._string)
        if self._is_cut:
            text = _whole(_HALF_OF_A_PAIR.sub(b"", _whole(text)))
        self._is_in_string = self._is_cut = False
        self._string.clear()
        return text + b'"'


def _whole(text: bytes) -> bytes:
    """Return the inside of a string without the half escape, or letter, at its end."""
    found = _WHOLE.match(text)
    whole = b"" if found is None else found[0]
    return whole.decode(errors="ignore").encode()
