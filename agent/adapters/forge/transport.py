"""One bounded exchange of JSON with a forge: a status of 2xx is an answer, all else a fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.adapters.forge import faults
from agent.adapters.http.client import HttpClient
from agent.adapters.http.support import is_encoded, read_bounded, seconds_to_wait
from agent.domain.errors import ForgeError, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from agent.application.ports import Clock

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes: a page of fifty proposals, each with a report, takes a few megabytes at most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with a status of 2xx; `content` is its JSON, None where it has no body."""

    url: str
    status: int
    content: Any
    has_next: bool
    """Whether its Link header names a next page."""


class Transport:
    """Talks to one forge with one token; `base` is the URL that all paths are appended to."""

    def __init__(self, base: str, token: str, clock: Clock, headers: Mapping[str, str]) -> None:
        with_token = {"authorization": f"token {token}", **headers}
        self._client = HttpClient(base, faults.FORGE, headers=with_token)
        self._token = token
        self._clock = clock

    async def request(self, method: str, path: str, body: object, *, timeout: float) -> Answer:
        """Return the answer to one request; `body` is sent as JSON unless it is None.

        `path` is percent-encoded and begins with a slash; `timeout` is in seconds and bounds all.

        Raises:
            ForgeError: whatever kept a usable answer from coming; every status but 2xx.
        """

        async def read(response: httpx.Response) -> Answer:
            return await self._read(f"{self._client.base}{path}", response)

        return await self._client.exchange(
            method,
            path,
            read,
            timeout=timeout,
            content=None if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"content-type": "application/json"},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _read(self, url: str, response: httpx.Response) -> Answer:
        found = await _content_of(response)
        if not response.is_success:
            wait = seconds_to_wait(response.headers.get("retry-after"), self._clock.now())
            explanation = faults.message_in(found).replace(self._token, "***")
            raise faults.refused(url, response, explanation, wait)
        if isinstance(found, faults.Unreadable):
            raise ForgeError(Kind.FORGE_NONSENSE, f"{url}: {found.reason}", hint=faults.IS_FORGE)
        return Answer(
            url, response.status_code, found, 'rel="next"' in response.headers.get("link", "")
        )


async def _content_of(response: httpx.Response) -> object:
    """Return the JSON of the body, None where there is none; never raises for its content."""
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
