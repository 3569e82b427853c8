"""Owns the embedded Hydra as a server: its world, its sessions and its binary cache at one port."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

from agent.demo.cache_server import BinaryCache
from agent.demo.hydra.answers import Answers
from agent.demo.hydra.replies import RefusalError, refusal, render
from agent.demo.hydra.world import World
from agent.demo.loopback import Answer, LoopbackServer, Request

if TYPE_CHECKING:
    import socket
    from pathlib import Path


_COOKIE: Final = re.compile(r"(?:^|;)\s*hydra_session=([0-9a-f]{40})\s*(?:;|$)")


class EmbeddedHydra(LoopbackServer):
    """A Hydra on loopback without users; change its `world` while it answers."""

    def __init__(self, world: World | None = None, listener: socket.socket | None = None) -> None:
        self.world = world or World()
        self.sessions: set[str] = set()
        """A client that keeps no cookies begins one each time."""
        self._cache: BinaryCache | None = None
        super().__init__(self.answer, listener)

    def serve_cache(self, directory: Path) -> BinaryCache:
        """Serve a directory as the binary cache from now on, instead of the world's narinfos."""
        self._cache = BinaryCache(directory)
        return self._cache

    def answer(self, request: Request) -> Answer:
        """Answer one request as Hydra does."""
        answers = Answers(self.world, request)
        with self.world.lock:
            session = self._session_of(request.headers.get("cookie", ""))
            try:
                answers.admit()
                if self._cache is not None and self._cache.has_path(request.path):
                    return self._cache.answer(request)
                reply = answers.reply()
            except RefusalError as refused:
                reply = refusal(refused)
        return render(reply, request, session)

    def _session_of(self, cookies: str) -> str:
        """Return the session that a `Cookie` header names, a new one where none is known."""
        sent = _COOKIE.search(cookies)
        if sent is not None and sent[1] in self.sessions:
            return sent[1]
        new = secrets.token_hex(20)
        self.sessions.add(new)
        return new
