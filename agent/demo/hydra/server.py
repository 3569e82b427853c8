"""Owns the embedded Hydra as a server: its world, its accounts and its binary cache at one port."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.demo.cache_server import BinaryCache
from agent.demo.hydra.accounts import Accounts
from agent.demo.hydra.answers import Answers
from agent.demo.hydra.replies import RefusalError, refusal, render
from agent.demo.hydra.world import World
from agent.demo.loopback import Answer, LoopbackServer, Request

if TYPE_CHECKING:
    import socket
    from pathlib import Path


class EmbeddedHydra(LoopbackServer):
    """A Hydra on loopback; change its `world` and `accounts` while it answers."""

    def __init__(self, world: World | None = None, listener: socket.socket | None = None) -> None:
        self.world = world or World()
        self.accounts = Accounts()
        self._cache: BinaryCache | None = None
        self._started = time.time()
        super().__init__(self.answer, listener)

    def serve_cache(self, directory: Path) -> BinaryCache:
        """Serve a directory as the binary cache from now on, instead of the world's narinfos."""
        self._cache = BinaryCache(directory)
        return self._cache

    def answer(self, request: Request) -> Answer:
        """Answer one request as Hydra does."""
        session = self.accounts.session(request.headers.get("cookie", ""))
        answers = Answers(self.world, self.accounts, request, session, self._started)
        with self.world.lock:
            try:
                answers.admit()
                if self._cache is not None and self._cache.has_path(request.path):
                    return self._cache.answer(request)
                reply = answers.reply()
            except RefusalError as refused:
                reply = refusal(refused)
        return render(reply, request, session)
