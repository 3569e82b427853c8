"""One bounded exchange of JSON with a forge: no redirect followed, every fault translated."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent import __version__
from agent.adapters.forge import faults
from agent.adapters.http.client import host_header, transport_for
from agent.adapters.http.support import ExchangeProgress, is_encoded, read_bounded, seconds_to_wait
from agent.adapters.net import system_trust
from agent.domain.errors import ForgeError, Kind
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.application.ports import Clock

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes: a page of fifty proposals, each with a report, takes a few megabytes at most."""

_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": f"nixos-hydra-agent/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with a status of 2xx; `content` is its JSON, None where it has no body."""

    url: str
    status: int
    content: Any
    has_next: bool
    """Whether its Link header names a next page."""


class Transport:
    """Talks to one forge with one token.

    `base` is the URL that all paths are appended to. The proxy variables of the environment are
    honoured; `.netrc` is not read. No redirect is followed: the token goes to this origin alone.
    """

    def __init__(self, base: str, token: str, clock: Clock, headers: Mapping[str, str]) -> None:
        self._base = base.rstrip("/")
        self._token = token
        self._clock = clock
        self._headers = headers
        self._client: httpx.AsyncClient | None = None

    async def request(self, method: str, path: str, body: object, *, timeout: float) -> Answer:
        """Return the answer to one request; `body` is sent as JSON unless it is None.

        `path` is percent-encoded and begins with a slash; `timeout` is in seconds and bounds all.

        Raises:
            ForgeError: whatever kept a usable answer from coming; every status but 2xx.
        """
        url = f"{self._base}{path}"
        watch = ExchangeProgress()
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(method, url, body, watch)
        except TimeoutError as error:
            raise faults.timed_out(url, watch, timeout) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise faults.translate(url, watch, error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _exchange(
        self, method: str, url: str, body: object, watch: ExchangeProgress
    ) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        typed = {} if content is None else {"content-type": "application/json"}
        async with self._open().stream(
            method, url, content=content, headers=typed, extensions={"trace": watch.trace}
        ) as response:
            watch.has_answer = True
            found = await _content_of(response)
        if not response.is_success:
            wait = seconds_to_wait(response.headers.get("retry-after"), self._clock.now())
            said = faults.words_of(found).replace(self._token, "***")
            raise faults.refused(url, response, said, wait)
        if isinstance(found, faults.Unreadable):
            raise ForgeError(Kind.FORGE_NONSENSE, f"{url}: {found.reason}", hint=faults.IS_FORGE)
        return Answer(url, response.status_code, found, 'rel="next"' in _link_of(response))

    def _open(self) -> httpx.AsyncClient:
        """Return the client, made at the first request: the trust store is not free to load."""
        if self._client is not None:
            return self._client
        trust = self._trust()
        try:
            self._client = httpx.AsyncClient(
                headers={**self._usual_headers(), **self._headers},
                timeout=None,  # noqa: S113 - each request has one limit for all of it
                follow_redirects=False,
                trust_env=False,
                verify=trust,
                transport=transport_for(self._base, trust),
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise ForgeError(
                Kind.CONFIG_INVALID,
                f"the proxy variables of the environment cannot be used: {error}",
                hint="look at http_proxy, https_proxy and all_proxy",
            ) from error
        return self._client

    def _usual_headers(self) -> dict[str, str]:
        authorization = {"authorization": f"token {self._token}"}
        return {**host_header(self._base), **_HEADERS, **authorization}

    def _trust(self) -> ssl.SSLContext:
        if not self._base.lower().startswith("https:"):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return system_trust()


def _link_of(response: httpx.Response) -> str:
    return str(response.headers.get("link", ""))


async def _content_of(response: httpx.Response) -> object:
    """Return what the body says, None where there is none; never raises for what it is."""
    if is_encoded(response):
        return faults.Unreadable("the answer is compressed, which was not asked for")
    body = await read_bounded(response, MAX_BODY)
    if body is None:
        return faults.Unreadable(f"the answer is larger than {MAX_BODY} bytes")
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return faults.Unreadable("the answer is not JSON")
