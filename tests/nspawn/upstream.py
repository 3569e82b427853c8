"""The world outside of the hosts: a gateway, and behind it Hydra and a binary cache.

The servers run in this process and listen in the namespaces' network. Each can be taken away by itself.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.demo.cache_server import CacheServer
from agent.demo.hydra import EmbeddedHydra, World
from agent.demo.loopback import LoopbackServer
from nspawn.builder import HOST
from nspawn.systems import JOBSET, PROJECT

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from nspawn.builder import System
    from nspawn.namespaces import Namespaces

HYDRA = "10.77.1.1"
CACHE = "10.77.1.2"
CANARY = "10.77.1.3"

Server = TypeVar("Server", bound=LoopbackServer)


class Service(Generic[Server]):
    """A server at an address of its own; it is up from its construction."""

    def __init__(
        self, namespaces: Namespaces, address: str, serve: Callable[[socket.socket], Server]
    ) -> None:
        self._namespaces = namespaces
        self._address = address
        self._serve = serve
        self._plugged_in = True
        self.server = self._started()
        """What serves now, or did last; a new one after each `up`."""
        self.is_up = True

    def down(self) -> None:
        """Stop: connections are refused."""
        if self.is_up:
            self.is_up = False
            self.server.close()
            if self.server.faults:
                raise self.server.faults[0]

    def vanish(self) -> None:
        """Go without a word: nothing that is sent there is answered any more, by anybody."""
        if self._plugged_in:
            self._plugged_in = False
            self._namespaces.unplug(self._address)

    def up(self) -> None:
        """Undo `down` and `vanish`."""
        if not self._plugged_in:
            self._namespaces.plug_in(self._address)
            self._plugged_in = True
        if not self.is_up:
            self.server = self._started()
            self.is_up = True

    def _started(self) -> Server:
        server = self._serve(self._namespaces.listen(self._address))
        server.start()
        return server


class Upstream:
    """Hydra with a world of its own, and the cache; `close` puts the namespaces' network in order."""

    def __init__(self, namespaces: Namespaces, cache: Path) -> None:
        self._namespaces = namespaces
        self.world = World()
        """What Hydra has evaluated and built."""
        self.world.add_jobset(PROJECT, JOBSET)
        self.hydra = Service(
            namespaces, HYDRA, lambda listener: EmbeddedHydra(self.world, listener)
        )
        self.cache = Service(namespaces, CACHE, lambda listener: CacheServer(cache, listener))
        namespaces.plug_in(CANARY)

    def offer(self, system: System, *, job: str = HOST, **facts: object) -> int:
        """Let Hydra evaluate a system's flake and build it; return the build's id.

        `facts` are those of `World.add_build`, for a build that is not good.
        """
        evaluation = self.world.add_eval(PROJECT, JOBSET, flake=system.reference)
        told = {"system": f"{os.uname().machine}-linux", **facts}
        return self.world.add_build(job, system.toplevel, eval_id=evaluation, **told)

    def gateway_answers(self, *, answers: bool) -> None:
        """Let the gateway answer pings or not; what is sent through it arrives all the same.

        So do not Hydra, the cache and the canary: they are one machine.
        """
        self._namespaces.gateway_answers(answers=answers)

    def link(self, *, up: bool) -> None:
        """Plug the cable of all hosts in, or pull it."""
        self._namespaces.link(up=up)

    def close(self) -> None:
        """End the servers, and undo whatever was done to the network."""
        self.link(up=True)
        self.gateway_answers(answers=True)
        with ExitStack() as services:
            for service in (self.hydra, self.cache):
                service.up()
                services.callback(service.down)
