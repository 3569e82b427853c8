"""Owns how a directory written by `nix copy --to file://…` is served as a binary cache."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.demo.loopback import Answer, LoopbackServer, Request

if TYPE_CHECKING:
    import socket
    from pathlib import Path

# Nothing else is ever looked up on the disk: such a name cannot leave the directory.
_SERVED: Final = re.compile(
    r"(?P<info>nix-cache-info)"
    r"|(?P<hash>[0-9a-z]{32})\.narinfo"
    r"|nar/(?P<nar>[0-9A-Za-z][0-9A-Za-z.+_-]*)"
)
_READS: Final = frozenset({"GET", "HEAD"})


class BinaryCache:
    """A directory with `nix-cache-info`, `HASH.narinfo` and `nar/…`, as nix lays it out.

    `missing` holds what is denied although it may be there: the hash part of a store path (its
    narinfo is not found), or the name of a file below `nar/` (a narinfo whose nar has gone).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.missing: set[str] = set()

    @staticmethod
    def has_path(path: str) -> bool:
        """Return whether a path of a URL belongs to a cache, be it there or not."""
        return _SERVED.fullmatch(path.removeprefix("/")) is not None

    def answer(self, request: Request) -> Answer:
        """Answer one request; what is missing, or is no part of a cache, is 404."""
        if request.method not in _READS:
            return Answer(405, {"Content-Type": "text/plain"}, b"only GET and HEAD\n")
        found = _SERVED.fullmatch(request.path.removeprefix("/"))
        if found is None or (found["hash"] or found["nar"]) in self.missing:
            return _NOT_THERE
        try:
            body = (self.directory / found[0]).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return _NOT_THERE
        return Answer(200, {"Content-Type": _content_type(found)}, body)


class CacheServer(LoopbackServer):
    """Serves a binary cache of its own, beside an embedded Hydra or without one."""

    def __init__(self, directory: Path, listener: socket.socket | None = None) -> None:
        self.cache = BinaryCache(directory)
        super().__init__(self.cache.answer, listener)

    @property
    def missing(self) -> set[str]:
        """What the cache has lost, as `BinaryCache.missing`."""
        return self.cache.missing


_NOT_THERE: Final = Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, b"does not exist\n")


def _content_type(found: re.Match[str]) -> str:
    if found["info"]:
        return "text/plain; charset=utf-8"
    return "text/x-nix-narinfo; charset=UTF-8" if found["hash"] else "application/x-nix-nar"
