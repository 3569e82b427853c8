"""The HTTP check: does a service answer as expected?

The service is reached directly from this host: proxies, netrc and other settings in the environment
are ignored, redirects are not followed (a redirect is the answer), and cookies are not shared
between checks. A certificate is trusted if the system trusts it or if it is signed by the check's
`ca_file`, which adds to the system's store and replaces nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from contextlib import suppress
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent import __version__
from agent.adapters.http.transport import Transport, host_header
from agent.adapters.net import system_trust
from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.checks.check_type import Probe, Room
from agent.checks.faults import is_about_target
from agent.checks.http.regex_search import ExpressionError, is_found
from agent.checks.resolver import why_unresolved
from agent.domain.check import CheckResult
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx
with suppress(ImportError):
    import anyio._backends._asyncio
    import anyio.streams.tls  # noqa: F401 - else the first request's time has the loading of it

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.domain.check import HttpCheck

_MAX_BODY: Final = 1024 * 1024
_HEADERS: Final = {
    "user-agent": f"nixos-hydra-agent/{__version__}",
    # A compressed MiB can be a decompressed GiB.
    "accept-encoding": "identity",
}
_TCP_INFO: Final = struct.Struct("=52xI")
"""The beginning of `struct tcp_info` (linux/tcp.h), up to tcpi_last_data_recv in milliseconds."""
_TICK: Final = 10
"""Milliseconds by which a time measured in kernel ticks may be too long."""
_UNASKABLE: Final = (
    *(httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError),
    OverflowError,
)


class _UnusableError(Exception):
    """The check itself cannot be used; the message is the reason."""


class HttpProbe(Probe["HttpCheck"]):
    """Makes one request per check.

    All checks share one client and one TLS context, which is expensive to create; each distinct
    `ca_file` needs its own. No connection is reused.
    """

    room = Room.HTTP

    def __init__(self) -> None:
        self._clients: dict[str | None, httpx.AsyncClient] = {}

    @override
    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    @override
    def prepare(self, check: HttpCheck) -> None:
        with suppress(_UnusableError, ValueError):  # the check's reason, once it is run
            self._client_for(check)

    @override
    async def probe(self, check: HttpCheck) -> CheckResult:
        visit = _Exchange(check)
        is_conclusive = True
        try:
            client = self._client_for(check)
            async with WorkingTime(check.timeout.total_seconds()):
                reason = await visit.make(client)
        except TimeoutError:
            reason, is_conclusive = visit.why_late(), not visit.has_text
        except _UnusableError as error:
            reason, is_conclusive = str(error), False
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ExceptionGroup) as error:
            reason, is_conclusive = _why_failed(error), _is_about_target(error)
        return CheckResult(
            check,
            is_well=not reason,
            reason=reason,
            latency=visit.latency,
            is_conclusive=is_conclusive,
        )

    def _client_for(self, check: HttpCheck) -> httpx.AsyncClient:
        client = self._clients.get(check.ca_file)
        if client is None:
            client = self._clients[check.ca_file] = _client(check.ca_file)
        return client


class _Exchange:
    """One request, and what is known of its answer."""

    def __init__(self, check: HttpCheck) -> None:
        self._check = check
        self.has_text = False
        """Whether the body is complete, so that only the result of the search is missing."""
        self.latency: timedelta | None = None
        """From the start of the request, with name resolution and connection, to the headers' end.

        The time of their arrival counts: a busy machine may read them long after that.
        """

    async def make(self, client: httpx.AsyncClient) -> str:
        """Return why the answer is not as expected; empty if it is."""
        check = self._check
        loop = asyncio.get_running_loop()
        began = loop.time()
        headers = host_header(check.url)
        async with client.stream(check.method, check.url, headers=headers) as response:
            unread = _seconds_unread(response)
            self.latency = timedelta(seconds=max(loop.time() - began - unread, 0))
            if not any(response.status_code in expected for expected in check.status):
                expected = ", ".join(str(expected) for expected in check.status)
                return f"status {response.status_code}, expected {expected}"
            if check.max_latency is not None and self.latency > check.max_latency:
                took, allowed = format_seconds(self.latency), format_seconds(check.max_latency)
                return f"took {took}, at most {allowed} allowed"
            if check.body is None and check.body_regex is None:
                return ""
            text = await _text(response)
        self.has_text = True
        return await _why_body_wrong(check, text)

    def why_late(self) -> str:
        """Return the reason after a timeout."""
        if self.latency is None:
            late = "no answer"
        elif self.has_text:
            late = "body_regex neither matched nor failed to"
        else:
            late = "body not complete"
        return f"{late} within {format_seconds(self._check.timeout)}"


def _seconds_unread(response: httpx.Response) -> float:
    """Return how long ago the newest bytes of an answer arrived; 0 if unknown."""
    try:
        connection = response.extensions["network_stream"].get_extra_info("socket")
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        (milliseconds,) = _TCP_INFO.unpack(info)
    except (AttributeError, KeyError, OSError, struct.error):
        return 0
    return max(float(milliseconds) - _TICK, 0) / 1000


async def _text(response: httpx.Response) -> str:
    """Return the first MiB of the body, as text of the charset it declares, else UTF-8."""
    body = bytearray()
    async for block in response.aiter_bytes():
        body += block[: _MAX_BODY - len(body)]
        if len(body) == _MAX_BODY:
            break
    try:
        return body.decode(response.charset_encoding or "utf-8", errors="replace")
    except (LookupError, ValueError):  # a charset that does not exist, or is not one for text
        return body.decode(errors="replace")


async def _why_body_wrong(check: HttpCheck, text: str) -> str:
    if check.body is not None and check.body not in text:
        return f"body lacks {check.body!r}"
    if check.body_regex is None:
        return ""
    try:
        found = await is_found(check.body_regex, text)
    except ExpressionError as error:
        raise _UnusableError(f"body_regex {error}") from error
    return "" if found else f"body does not match {check.body_regex!r}"


def _client(ca_file: str | None) -> httpx.AsyncClient:
    trust = _trust(ca_file)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(
        verify=trust,
        headers=_HEADERS,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=None,  # noqa: S113 - the check's timeout bounds everything
        trust_env=False,
        transport=Transport(trust, proxy=None, limits=limits),
    )


def _trust(ca_file: str | None) -> ssl.SSLContext:
    source = "the system's certificates"
    try:
        context = system_trust()
        if ca_file is not None:
            source = f"ca_file {ca_file}"
            context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise _UnusableError(f"{source}: no certificate in it") from error
    except OSError as error:
        raise _UnusableError(f"{source}: {_strerror(error)}") from error
    return context


def _why_failed(error: Exception) -> str:
    """Return the human-readable reason, from the innermost informative cause."""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                reason = f"certificate not trusted: {cause.verify_message.rstrip('.')}"
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                reason = "no TLS: the connection was closed"
            case ssl.SSLError():
                reason = f"no TLS: {(cause.reason or str(cause)).replace('_', ' ').lower()}"
            case socket.gaierror() | UnicodeError():
                reason = why_unresolved(cause)
            case OverflowError():
                reason = "not a URL that can be asked: no such port"
            case OSError(errno=errno.ECONNRESET | errno.EPIPE):
                reason = "connection broke"
            case OSError(errno=int()):
                reason = _strerror(cause)
            case _:
                continue
        return reason
    return _reason_of(error)


def _is_about_target(error: Exception) -> bool:
    """Return whether an error proves something about the service; one of its causes suffices."""
    causes = list(_causes(error))
    if any(isinstance(cause, _UNASKABLE) for cause in causes):
        return False
    faults = [cause for cause in causes if isinstance(cause, OSError) and cause.errno]
    return not faults or any(is_about_target(fault) for fault in faults)


def _strerror(error: OSError) -> str:
    """Return the system's own message, which asyncio replaces."""
    return os.strerror(error.errno or 0).lower()


def _reason_of(error: Exception) -> str:
    match error:
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return f"not a URL that can be asked: {error}"
        case httpx.DecodingError():
            return f"body cannot be decompressed: {error}"
        case httpx.RemoteProtocolError():
            return f"not a valid HTTP answer: {str(error).rstrip('.')}"
        case httpx.NetworkError():
            return "connection broke"
        case _:
            return str(error) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the causes of an error, innermost first; of several attempts, those of the first."""
    if error is None:
        return
    if isinstance(error, BaseExceptionGroup):
        for attempt in error.exceptions:
            yield from _causes(attempt)
    yield from _causes(error.__cause__ or error.__context__)
    yield error


PROBE: Final = HttpProbe
