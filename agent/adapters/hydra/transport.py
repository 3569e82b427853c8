"""One bounded GET: whole within its time and size, no redirect followed, every fault translated."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

from agent import __version__
from agent.adapters.http.client import host_header, location_of, transport_for
from agent.adapters.http.support import (
    ExchangeProgress,
    is_encoded,
    raw_chunks,
    read_bounded,
    seconds_to_wait,
    without_credentials,
)
from agent.adapters.hydra import faults
from agent.adapters.hydra.long_text import LongTextCutter
from agent.adapters.net import system_trust
from agent.domain.errors import HydraError, Kind
from agent.lean.hydra_session import Session
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from agent.application.ports import Clock

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: an eval of 60,000 builds takes half a megabyte."""

LONGEST_TEXT: Final = 1536 * 1024
"""Bytes that are read of the log of an evaluation, which has no limit of Hydra's."""
_LOG: Final = "/errors"
"""How the path ends of the only page with such a log."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# 304, 305 and the like are no redirects, and Hydra never sends them.
_USABLE: Final = frozenset({200, 404}) | _REDIRECTS
_SAYS_ENOUGH: Final = frozenset({401, 403, 407, 429})
_HEADERS: Final = {
    # With */* Hydra answers HTML; it never compresses, so what comes compressed is not from it.
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"nixos-hydra-agent/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that may be looked at: status 200, 404 or a redirect, and its whole body.

    `url` is for people and never has credentials; `location` is as the server wrote it.
    """

    instance: str
    path: str
    status: int
    body: bytes
    location: str | None = None

    @property
    def url(self) -> str:
        """The URL that was asked."""
        return f"{self.instance}{self.path}"

    @property
    def is_redirect(self) -> bool:
        """Whether it points elsewhere."""
        return self.status in _REDIRECTS


class Transport:
    """Asks one instance, over as few connections as it can, in one session.

    The instance may have a path prefix. The proxy variables of the environment are honoured;
    `.netrc` is not read. `timeout` is in seconds and bounds a whole request, from the lookup of
    the name to the body's last byte. With `transport` no socket is opened (for tests).
    """

    def __init__(
        self,
        instance: str,
        clock: Clock,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        session: Session | None = None,
    ) -> None:
        self._base = instance.rstrip("/")
        self.instance = without_credentials(self._base)
        self._clock = clock
        self._transport = transport
        self._session = session or Session(self._base)
        self._client: httpx.AsyncClient | None = None

    async def get(self, path: str, *, timeout: float) -> Answer:
        """Return the answer to one GET of `path`, which is percent-encoded and begins with a slash.

        Raises:
            HydraError: whatever kept a usable answer from coming; 401, 403, 429 and 5xx too.
        """
        url = f"{self.instance}{path}"
        watch = ExchangeProgress()
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(path, url, watch)
        except TimeoutError as error:
            raise faults.timed_out(url, watch, timeout) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise faults.translate(url, watch, error) from error

    async def aclose(self) -> None:
        """Close all connections, and keep the session for later runs."""
        self._session.keep()
        if self._client is not None:
            await self._client.aclose()

    async def _exchange(self, path: str, url: str, watch: ExchangeProgress) -> Answer:
        client = self._open(url)
        async with client.stream(
            "GET",
            f"{self._base}{path}",
            headers={"Cookie": cookie} if (cookie := self._session.header()) else {},
            extensions={"trace": watch.trace},
        ) as response:
            watch.has_answer = True
            self._session.take(response.headers.get_list("set-cookie"))
            status = response.status_code
            retry_after = seconds_to_wait(response.headers.get("retry-after"), self._clock.now())
            if status not in _USABLE:
                if await _is_servers_trouble(status, response):
                    raise faults.server_trouble(url, status, retry_after)
                raise faults.refused_status(url, status, retry_after)
            _refuse_encoding(url, response)
            body = await (_read_log if path.endswith(_LOG) else _read)(url, response)
            if status not in _REDIRECTS:
                if faults.is_servers_trouble(status, body):
                    raise faults.server_trouble(url, status, retry_after)
                if faults.is_cut_off(body):
                    raise faults.cut_off(url)
            return Answer(
                instance=self.instance,
                path=path,
                status=status,
                body=body,
                location=location_of(response),
            )

    def _open(self, url: str) -> httpx.AsyncClient:
        """Return the client, made at the first request: the trust store is not free to load."""
        if self._client is not None:
            return self._client
        trust = self._trust(url)
        try:
            self._client = httpx.AsyncClient(
                headers={**host_header(self._base), **_HEADERS},
                # The session has them all.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                timeout=None,  # noqa: S113 - each request has one limit for all of it
                follow_redirects=False,
                trust_env=False,
                verify=trust,
                transport=self._transport or transport_for(self._base, trust),
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise HydraError(
                Kind.CONFIG_INVALID,
                f"{url}: the proxy variables of the environment cannot be used: {error}",
                hint="look at http_proxy, https_proxy and all_proxy",
            ) from error
        return self._client

    def _trust(self, url: str) -> ssl.SSLContext:
        if not self._base.lower().startswith("https:") or self._transport is not None:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            return system_trust()
        except OSError as error:
            raise HydraError(
                Kind.HYDRA_TLS,
                f"{url}: the trusted certificates cannot be read: {error}",
                hint="look at SSL_CERT_FILE or NIX_SSL_CERT_FILE",
            ) from error


async def _is_servers_trouble(status: int, response: httpx.Response) -> bool:
    """Look into the body of a status that blames the request: 400 and its like."""
    if status in _SAYS_ENOUGH or not 400 <= status < 500:  # noqa: PLR2004 - HTTP's own numbers
        return False
    body = None if is_encoded(response) else await read_bounded(response, MAX_BODY)
    return body is not None and faults.is_servers_trouble(status, body)


async def _read(url: str, response: httpx.Response) -> bytes:
    """Return the body; what is announced or turns out too large is not read on."""
    body = await read_bounded(response, MAX_BODY)
    if body is None:
        raise _too_large(url)
    return body


async def _read_log(url: str, response: httpx.Response) -> bytes:
    """Return the body with the log in it cut: of an evaluation it may be of any length."""
    cutter = LongTextCutter(LONGEST_TEXT)
    kept = bytearray()
    async with contextlib.aclosing(raw_chunks(response)) as stream:
        async for chunk in stream:
            kept += cutter.feed(chunk)
            if len(kept) > MAX_BODY:
                raise _too_large(url)
    return bytes(kept) + cutter.rest


def _too_large(url: str) -> HydraError:
    return HydraError(
        Kind.HYDRA_TOO_LARGE,
        f"{url}: the answer is larger than {MAX_BODY} bytes",
        hint="is hydra.instance the URL of a Hydra?",
    )


def _refuse_encoding(url: str, response: httpx.Response) -> None:
    if is_encoded(response):
        encoding = response.headers["content-encoding"].strip().lower()
        raise HydraError(
            Kind.HYDRA_NOT_JSON,
            f"{url}: the answer is encoded as {encoding[:40]!r}, which was not asked for",
            hint="the proxy in front of Hydra must not compress what does not accept it",
        )
