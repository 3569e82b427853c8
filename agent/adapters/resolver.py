"""Asks this host's name service."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.http.proxies import ProxyError, proxy_for
from agent.application.ports import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT: Final = 20.0
_NO_ADDRESS: Final = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAMILY)


class SystemResolver(Resolver):
    """getaddrinfo(3), as the port `Resolver` wants it; `timeout` is in seconds.

    Behind a proxy set in the `environment`, this host's name service need not know the
    names of others: the proxy does.
    """

    def __init__(self, environment: Mapping[str, str], *, timeout: float = _TIMEOUT) -> None:
        self._environment = environment
        self._timeout = timeout

    @override
    async def addresses(self, host: str) -> tuple[str, ...] | None:
        loop = asyncio.get_running_loop()
        is_behind_proxy = self._is_behind_proxy(host)
        try:
            async with asyncio.timeout(self._timeout):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            return () if is_behind_proxy or error.errno in _NO_ADDRESS else None
        except TimeoutError:
            return () if is_behind_proxy else None
        except UnicodeError:  # a label that no name can have
            return ()
        except OSError:
            return None
        return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

    def _is_behind_proxy(self, host: str) -> bool:
        try:
            return proxy_for(f"https://{host}", self._environment) is not None
        except ProxyError:
            return True
        except ValueError:  # what is no host's name has no proxy
            return False
