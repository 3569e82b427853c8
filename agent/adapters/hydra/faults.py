"""What a failed exchange is called: the library's exceptions and HTTP's statuses as kinds."""

from __future__ import annotations

import re
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json

from agent.adapters.http.support import named_cause, reason_of, refusal_of
from agent.domain.errors import HydraError, Kind
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from agent.adapters.http.support import ExchangeProgress


def timed_out(url: str, watch: ExchangeProgress, seconds: float) -> HydraError:
    """Return the fault of an exchange that did not end in time."""
    if watch.has_answer:
        what = "the answer did not end"
    elif watch.is_connected:
        what = "no answer came"
    else:
        what = "no connection came about"
    return HydraError(
        Kind.HYDRA_TIMEOUT,
        f"{url}: {what} within {seconds:g} s",
        hint="is Hydra overloaded, or hydra.timeout too short?",
    )


_LOOKED_AT: Final = 64 * 1024
"""Bytes of an answer in which signs of trouble are looked for."""
_BROKE_OFF: Final = re.compile(rb"had a problem with your request")
_DATABASE: Final = re.compile(rb"DBIx?::|DBD::\w|DBI (?:Connection|Exception)|DBI connect\(")
_HEADLINE: Final = re.compile(rb"<(title|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_SERVERS_OWN: Final = re.compile(
    rb"\b50[0-4]\b|internal server error|bad gateway|service (?:temporarily )?unavailable"
    rb"|temporarily unavailable|gateway time-?out|maintenance",
    re.IGNORECASE,
)


def is_servers_trouble(status: int, body: bytes) -> bool:
    """Whether an answer is a failure of the server although its status says something else.

    Hydra makes its answers while it reads the database. One that is lost meanwhile is told with
    status 400, as if the request had been wrong: `Content-Type application/json had a problem with
    your request`, and the database's own words (Catalyst::Action::Serialize). Proxies show their
    page of an outage with whatever status they are set up to.
    """
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return True
    start = body[:_LOOKED_AT].lstrip()
    if start.startswith(b"<"):
        headlines = (found[2] for found in _HEADLINE.finditer(start))
        return any(_SERVERS_OWN.search(text) for text in headlines)
    if status < HTTPStatus.BAD_REQUEST:
        # What is quoted within JSON, such as the log of an evaluation, is no trouble of Hydra.
        return not start.startswith((b"{", b"[")) and bool(_BROKE_OFF.search(start[:200]))
    return bool(_BROKE_OFF.search(start) or _DATABASE.search(start))


def is_cut_off(body: bytes) -> bool:
    """Whether a body is JSON that ends before its end, though the connection ended as it should."""
    if not body.lstrip().startswith((b"{", b"[")):
        return False
    try:
        from_json(body)
    except ValueError as error:
        return "EOF while parsing" in str(error)
    return False


def cut_off(url: str) -> HydraError:
    """Return the fault of an answer that is only the first part of one."""
    return HydraError(
        Kind.HYDRA_TRUNCATED,
        f"{url}: the answer ends in the middle of its JSON",
        hint="look at Hydra's own log, and at the proxy in front of it",
    )


def server_trouble(url: str, status: int, retry_after: float | None) -> HydraError:
    """Return the fault of an answer that `is_servers_trouble`; as ever, nothing of it is quoted."""
    return HydraError(
        Kind.HYDRA_SERVER_ERROR,
        f"{url}: the server failed while it answered (status {status})",
        hint="Hydra's own log, or that of the proxy in front of it, says more",
        retry_after=retry_after,
    )


def refused_status(url: str, status: int, retry_after: float | None) -> HydraError:
    """Return the fault that a status stands for.

    No body is ever quoted: of a failing Hydra it may hold SQL and connection strings.
    """
    told = f"{url}: status {status}{_phrase(status)}"
    if status in (401, 403, 407):
        return HydraError(
            Kind.HYDRA_UNAUTHORISED,
            told,
            hint="let this host read the instance: it is private, or its proxy wants a login",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = "" if retry_after is None else f"; it asks to be left alone for {retry_after:.0f} s"
        return HydraError(
            Kind.HYDRA_RATE_LIMITED,
            f"{told}{wait}",
            hint="poll less often, or raise the limit of the proxy in front of Hydra",
            retry_after=retry_after,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return HydraError(
            Kind.HYDRA_SERVER_ERROR,
            told,
            hint="Hydra's own log says more",
            retry_after=retry_after,
        )
    return HydraError(
        Kind.HYDRA_STATUS,
        f"{told}, which Hydra never gives here",
        hint="is hydra.instance the URL of a Hydra?",
    )


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def translate(url: str, watch: ExchangeProgress, error: Exception) -> HydraError:
    """Return the fault that an exception of httpx, or of what lies below it, stands for."""
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return HydraError(Kind.CONFIG_INVALID, f"{url}: {error}", hint="check hydra.instance")
    if watch.has_answer:
        return HydraError(
            Kind.HYDRA_TRUNCATED,
            f"{url}: the connection broke within the answer: {reason_of(error)}",
            hint="look at the proxy in front of Hydra",
        )
    # Of a proxy, too, something was asked.
    if watch.is_connected and not isinstance(error, httpx.ProxyError):
        return _unanswered(url, error)
    return _unconnected(url, error)


def _unanswered(url: str, error: BaseException) -> HydraError:
    # h11 has no finer exception: what it could not read, as against nothing to read.
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return HydraError(
            Kind.HYDRA_NOT_HTTP,
            f"{url}: the answer is not HTTP: {reason_of(error)}",
            hint="check the port and the scheme (http or https) of hydra.instance",
        )
    return HydraError(
        Kind.HYDRA_DISCONNECTED,
        f"{url}: the connection broke before an answer: {reason_of(error)}",
        hint="look at Hydra's own log, and at the proxy in front of it",
    )


def _unconnected(url: str, error: Exception) -> HydraError:
    if isinstance(error, httpx.ProxyError):
        return HydraError(
            Kind.HYDRA_REFUSED,
            f"{url}: the proxy does not let the connection through: {reason_of(error)}",
            hint="look at http_proxy, https_proxy, all_proxy and no_proxy",
        )
    cause = named_cause(error)
    # Which of the two depends on the version of Python.
    if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _unanswered(url, cause)
    if isinstance(cause, ssl.SSLError):
        return _tls(url, cause)
    if isinstance(cause, (socket.gaierror, UnicodeError)):
        return HydraError(
            Kind.HYDRA_UNRESOLVABLE,
            f"{url}: the host name has no address: {reason_of(cause)}",
            hint="check hydra.instance and this host's name servers",
        )
    return HydraError(
        Kind.HYDRA_REFUSED,
        f"{url}: no connection: {refusal_of(cause, error)}",
        hint="is Hydra running, and does a firewall let this host through?",
    )


_TLS_HINTS: Final = (
    ("CERTIFICATE_VERIFY_FAILED", "expired", "is this host's clock right?"),
    ("CERTIFICATE_VERIFY_FAILED", "not yet valid", "is this host's clock right?"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "mismatch",
        "use the name that the certificate is for in hydra.instance",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "",
        "add the issuer to security.pki.certificateFiles, or name it in SSL_CERT_FILE",
    ),
    ("WRONG_VERSION_NUMBER", "", "does this port speak https at all?"),
)


def _tls(url: str, error: ssl.SSLError) -> HydraError:
    reason = error.reason or ""
    detail = getattr(error, "verify_message", "") or reason.replace("_", " ").lower()
    told = detail or reason_of(error)
    hints = (hint for key, word, hint in _TLS_HINTS if key == reason and word in detail)
    return HydraError(
        Kind.HYDRA_TLS,
        f"{url}: no trusted TLS connection: {told}",
        hint=next(hints, "check certificate and TLS versions of the instance"),
    )
