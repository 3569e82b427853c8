"""One bounded exchange with a web service: no redirect followed, every fault translated."""

from __future__ import annotations

import asyncio
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, TypeVar

from agent import __version__
from agent.adapters.http.support import ExchangeProgress, without_credentials
from agent.adapters.http.transport import host_header, transport_for
from agent.adapters.net import system_trust
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.adapters.http.faults import Service

_T = TypeVar("_T")
_HEADERS: Final = {
    # Most services have web pages for browsers, too, and for */* Hydra answers with one.
    "accept": "application/json",
    # What comes compressed may be of any length, and is not from the service itself.
    "accept-encoding": "identity",
    "user-agent": f"nixos-hydra-agent/{__version__}",
}


class HttpClient:
    """Asks one service, over as few connections as it can.

    `base` is the URL that all paths are appended to. The proxy variables of the environment are
    honoured; `.netrc` is not read, and no cookie is kept. Since no redirect is followed, `headers`
    go to this origin alone. With `transport` no socket is opened (for tests).
    """

    def __init__(
        self,
        base: str,
        service: Service,
        *,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = base.rstrip("/")
        self.base = without_credentials(self._base)
        """The URL for people, without credentials."""
        self._service = service
        self._headers = headers or {}
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def exchange(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response], Awaitable[_T]],
        *,
        timeout: float,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _T:
        """Make one request, and return what `read` makes of the answer while its body comes.

        `path` is percent-encoded and begins with a slash. `timeout` is in seconds and bounds the
        whole exchange, from the lookup of the name to the end of `read`.

        Raises:
            AgentError: the service's own fault for whatever kept an answer from coming.
        """
        url = f"{self.base}{path}"
        progress = ExchangeProgress()
        try:
            async with (
                asyncio.timeout(timeout),
                self._open(url).stream(
                    method,
                    f"{self._base}{path}",
                    content=content,
                    headers=headers,
                    extensions={"trace": progress.trace},
                ) as response,
            ):
                progress.has_answer = True
                return await read(response)
        except TimeoutError as error:
            raise self._service.timed_out(url, progress, timeout) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise self._service.translate(url, progress, error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _open(self, url: str) -> httpx.AsyncClient:
        """Return httpx's client, made at the first request: to load the trust store takes time."""
        if self._client is not None:
            return self._client
        trust = self._trust(url)
        try:
            self._client = httpx.AsyncClient(
                headers={**host_header(self._base), **_HEADERS, **self._headers},
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                timeout=None,  # noqa: S113 - each exchange has one limit for all of it
                follow_redirects=False,
                trust_env=False,
                verify=trust,
                transport=self._transport or transport_for(self._base, trust),
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise self._service.unusable_proxy(url, error) from error
        return self._client

    def _trust(self, url: str) -> ssl.SSLContext:
        if not self._base.lower().startswith("https:") or self._transport is not None:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            return system_trust()
        except OSError as error:
            raise self._service.unusable_trust(url, error) from error
