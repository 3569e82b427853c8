"""Asks this host's name service."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT: Final = 20.0
_NO_ADDRESS: Final = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAMILY)
_PROXIES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


class SystemResolver:
    """getaddrinfo(3), as the port `Resolver` wants it; `timeout` is in seconds.

    Behind a proxy, of which the `environment` tells, this host's name service need not know the
    names of others: the proxy does.
    """

    def __init__(self, environment: Mapping[str, str], *, timeout: float = _TIMEOUT) -> None:
        self._is_behind_proxy = any(environment.get(name) for name in _PROXIES)
        self._timeout = timeout

    async def addresses(self, host: str) -> tuple[str, ...] | None:
        """Return the addresses of a host: () where it has none, None where nobody can tell now."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            return () if self._is_behind_proxy or error.errno in _NO_ADDRESS else None
        except TimeoutError:
            return () if self._is_behind_proxy else None
        except UnicodeError:  # a label that no name can have
            return ()
        except OSError:
            return None
        return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
