"""One bounded GET: whole within its time and size, no redirect followed, every fault translated."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, cast

from agent import __version__
from agent.adapters.hydra import faults
from agent.adapters.net import system_trust
from agent.domain.errors import HydraError, Kind
from agent.slim import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from agent.application.ports import Clock

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: an eval of 60,000 builds takes half a megabyte."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
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
    """Asks one instance, over as few connections as it can, with one cookie jar.

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
    ) -> None:
        self._base = instance.rstrip("/")
        self.instance = _without_credentials(self._base)
        self._clock = clock
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def get(self, path: str, *, timeout: float) -> Answer:
        """Return the answer to one GET of `path`, which is percent-encoded and begins with a slash.

        Raises:
            HydraError: whatever kept a usable answer from coming; 401, 403, 429 and 5xx too.
        """
        url = f"{self.instance}{path}"
        watch = faults.Watch()
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(path, url, watch)
        except TimeoutError as error:
            raise faults.timed_out(url, watch, timeout) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise faults.translate(url, watch, error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _exchange(self, path: str, url: str, watch: faults.Watch) -> Answer:
        client = self._open(url)
        async with client.stream(
            "GET", f"{self._base}{path}", extensions={"trace": watch.trace}
        ) as response:
            watch.has_answer = True
            self._refuse_status(url, response.status_code, response.headers)
            _refuse_encoding(url, response.headers)
            return Answer(
                instance=self.instance,
                path=path,
                status=response.status_code,
                body=await _read(url, response),
                location=response.headers.get("location"),
            )

    def _open(self, url: str) -> httpx.AsyncClient:
        """Return the client, made at the first request: the trust store is not free to load."""
        if self._client is not None:
            return self._client
        try:
            self._client = httpx.AsyncClient(
                headers=_HEADERS,
                timeout=None,  # noqa: S113 - each request has one limit for all of it
                follow_redirects=False,
                verify=self._trust(url),
                transport=self._transport,
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
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

    def _refuse_status(self, url: str, status: int, headers: Mapping[str, str]) -> None:
        # 304, 305 and the like are no redirects, and Hydra never sends them.
        if status in (200, 404) or status in _REDIRECTS:
            return
        retry_after = self._seconds_to_wait(headers.get("retry-after"))
        raise faults.refused_status(url, status, retry_after)

    def _seconds_to_wait(self, text: str | None) -> float | None:
        """Read Retry-After: seconds or a date (RFC 9110, 10.2.3); None where it is neither."""
        if text is None:
            return None
        if re.fullmatch(r"[0-9]{1,12}", text.strip()):
            return float(text)
        try:
            instant = parsedate_to_datetime(text)
            return max(0.0, (instant - self._clock.now()).total_seconds())
        except (TypeError, ValueError, OverflowError):
            # TypeError: a date without a zone cannot be compared, and says nothing.
            return None


async def _read(url: str, response: httpx.Response) -> bytes:
    """Return the body; what is announced or turns out too large is not read on."""
    too_large = HydraError(
        Kind.HYDRA_TOO_LARGE,
        f"{url}: the answer is larger than {MAX_BODY} bytes",
        hint="is hydra.instance the URL of a Hydra?",
    )
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY:
        raise too_large
    size = 0
    chunks: list[bytes] = []
    async with contextlib.aclosing(_raw(response)) as stream:
        async for chunk in stream:
            size += len(chunk)
            if size > MAX_BODY:
                raise too_large
            chunks.append(chunk)
    return b"".join(chunks)


def _raw(response: httpx.Response) -> AsyncGenerator[bytes]:
    # As it comes from the wire: httpx's own iterators would decode, or refuse what a test made.
    # It is a generator, which wants to be closed when it is left early.
    return cast("AsyncGenerator[bytes]", aiter(cast("httpx.AsyncByteStream", response.stream)))


def _refuse_encoding(url: str, headers: Mapping[str, str]) -> None:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise HydraError(
            Kind.HYDRA_NOT_JSON,
            f"{url}: the answer is encoded as {encoding[:40]!r}, which was not asked for",
            hint="the proxy in front of Hydra must not compress what does not accept it",
        )


def _without_credentials(url: str) -> str:
    # Not by urlsplit: what cannot be split is told about as well.
    return re.sub(r"//[^/?#]*@", "//", url)
