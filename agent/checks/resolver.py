"""Resolves names to addresses, and says why a name has none."""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 - else the first name's time has the loading of it
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send: an address family, and an address as the socket calls take it."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The numeric address, with its scope where it has one (`fe80::1%2`)."""
        scope = self.sockaddr[3] if self.family is socket.AF_INET6 else 0
        return f"{self.sockaddr[0]}%{scope}" if scope else str(self.sockaddr[0])


async def resolve(host: str) -> tuple[Address, ...]:
    """Return the resolver's first address of each family, in the resolver's order.

    Raises:
        OSError, ValueError: there is none; `why_unresolved` says why.
    """
    first: dict[socket.AddressFamily, Address] = {}
    for address in await resolve_all(host):
        first.setdefault(address.family, address)
    return tuple(first.values())


async def resolve_all(host: str) -> tuple[Address, ...]:
    """Return the resolver's addresses, each once, in the resolver's order.

    A literal address, scoped or not, is returned without asking the resolver.

    Raises:
        OSError, ValueError: there is none; `why_unresolved` says why.
    """
    try:
        answers = socket.getaddrinfo(
            host, None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        answers = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    found = [Address(family, sockaddr) for family, _, _, _, sockaddr in answers]
    return tuple(dict.fromkeys(found))


def why_unresolved(error: OSError | ValueError) -> str:
    """Return the human-readable reason; an unreachable name server is not an unknown name."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "name does not resolve: no name server answers"
    return "name does not resolve"
