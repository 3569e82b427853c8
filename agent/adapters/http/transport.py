"""Makes the clients that speak HTTP, so that all of them reach what curl reaches.

By itself httpx reads the proxy variables in its own way, takes a zone for a part of an address,
asks for a certificate with a name's trailing dot, and does not hand over a redirect whose target it
cannot read, though nobody follows it. Of the environment nothing else is read: no netrc.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.http.heads import TolerantBackend
from agent.adapters.http.proxies import proxy_for
from agent.adapters.net import system_trust
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    import ssl

_LOCATION: Final = "location"


class Transport(httpx.AsyncHTTPTransport):
    """httpx's own, for addresses with a zone, names with a trailing dot, and odd header lines."""

    def __init__(
        self, trust: ssl.SSLContext, *, proxy: httpx.Proxy | None, limits: httpx.Limits
    ) -> None:
        super().__init__(verify=trust, proxy=proxy, limits=limits, trust_env=False)
        self._pool._network_backend = TolerantBackend()  # noqa: SLF001 - there is no other way
        self._has_proxy = proxy is not None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._address(request)
        response = await super().handle_async_request(request)
        # httpx builds the request that would follow, whether or not it is wanted.
        if _LOCATION in response.headers:
            response.extensions[_LOCATION] = response.headers.pop(_LOCATION)
        return response

    def _address(self, request: httpx.Request) -> None:
        """Set the names by which the host is looked up, and known in its certificate."""
        host = request.url.raw_host.decode("ascii")
        bare, has_zone, _ = host.partition("%")
        if has_zone:
            # RFC 6874 has %25 where people, and the resolver, have %.
            request.url = request.url.copy_with(host=re.sub("%25(?=.)", "%", host))
        elif bare.endswith("."):
            bare = bare.removesuffix(".")
            if self._has_proxy:  # whose tunnel does not know the name for the certificate
                request.url = request.url.copy_with(host=bare)
        if bare != host:
            request.extensions = {**request.extensions, "sni_hostname": bare}


def transport_for(url: str, trust: ssl.SSLContext) -> Transport:
    """Return what connects to the origin of `url`, through the environment's proxy if it has one.

    Raises:
        ProxyError: the environment has a proxy that cannot be used.
        OSError: the trusted certificates, which the proxy's is judged by, cannot be read.
    """
    named = proxy_for(url, os.environ)
    proxy = None
    if named is not None:
        trusted = system_trust() if named.startswith("https:") else None
        proxy = httpx.Proxy(named, ssl_context=trusted)
    return Transport(trust, proxy=proxy, limits=httpx.Limits())


def host_header(url: str) -> dict[str, str]:
    """Return the header Host of requests to the origin of `url`; a zone is of this host alone.

    httpx's own is of no use where it cannot decode a name, as those of newer characters.
    """
    return {"host": re.sub(r"%[^]]*", "", httpx.URL(url).netloc.decode("ascii"))}


def location_of(response: httpx.Response) -> str | None:
    """Return where an answer points, as the server wrote it."""
    found = response.extensions.get(_LOCATION) or response.headers.get(_LOCATION)
    return None if found is None else str(found)
