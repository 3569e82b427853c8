"""One bounded GET of Hydra: what may be looked at is returned, everything else is a fault."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from agent.adapters.http.client import HttpClient
from agent.adapters.http.support import is_encoded, raw_chunks, read_bounded, seconds_to_wait
from agent.adapters.http.transport import location_of
from agent.adapters.hydra import faults
from agent.adapters.hydra.long_text import LongTextCutter
from agent.domain.errors import HydraError, Kind
from agent.lean.hydra_session import Session

if TYPE_CHECKING:
    import httpx

    from agent.application.ports import Clock

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: an eval of 60,000 builds takes half a megabyte."""

LONGEST_TEXT: Final = 1536 * 1024
"""Bytes that are read of the log of an evaluation, which has no limit of Hydra's."""
_LOG: Final = "/errors"
"""The end of the path of the only page with such a log."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# 304, 305 and the like are no redirects, and Hydra never sends them.
_USABLE: Final = frozenset({200, 404}) | _REDIRECTS
_UNAMBIGUOUS: Final = frozenset({401, 403, 407, 429})


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
    def is_missing(self) -> bool:
        """Whether it says that there is no such page."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def is_redirect(self) -> bool:
        """Whether it points elsewhere."""
        return self.status in _REDIRECTS


class Transport:
    """Asks one instance, which may have a path prefix, in one session.

    `timeout` is in seconds and bounds a whole request. With `transport` no socket is opened (for
    tests).
    """

    def __init__(
        self,
        instance: str,
        clock: Clock,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        session: Session | None = None,
    ) -> None:
        self._client = HttpClient(instance, faults.HYDRA, transport=transport)
        self._clock = clock
        self._session = session or Session(instance.rstrip("/"))

    @property
    def instance(self) -> str:
        """The URL of the instance, without credentials."""
        return self._client.base

    async def get(self, path: str, *, timeout: float) -> Answer:
        """Return the answer to one GET of `path`, which is percent-encoded and begins with a slash.

        Raises:
            HydraError: whatever kept a usable answer from coming; 401, 403, 429 and 5xx too.
        """

        async def read(response: httpx.Response) -> Answer:
            return await self._read(path, response)

        cookie = self._session.header()
        headers = {"Cookie": cookie} if cookie else {}
        return await self._client.exchange("GET", path, read, timeout=timeout, headers=headers)

    async def aclose(self) -> None:
        """Close all connections, and keep the session for later runs."""
        self._session.keep()
        await self._client.aclose()

    async def _read(self, path: str, response: httpx.Response) -> Answer:
        self._session.take(response.headers.get_list("set-cookie"))
        url = f"{self.instance}{path}"
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
        return Answer(self.instance, path, status, body, location_of(response))


async def _is_servers_trouble(status: int, response: httpx.Response) -> bool:
    """Look into the body of a status that blames the request: 400 and its like."""
    if status in _UNAMBIGUOUS or not response.is_client_error:
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
