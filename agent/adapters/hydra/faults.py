"""What a failed exchange is called: the library's exceptions and HTTP's statuses as kinds."""

from __future__ import annotations

import os
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from agent.domain.errors import HydraError, Kind
from agent.slim import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watch:
    """How far an exchange has come."""

    def __init__(self) -> None:
        self.is_connected = False
        self.has_answer = False

    async def trace(self, name: str, _info: dict[str, Any]) -> None:
        """Take httpcore's trace events."""
        if name == "http11.send_request_headers.started":
            self.is_connected = True


def timed_out(url: str, watch: Watch, seconds: float) -> HydraError:
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


def translate(url: str, watch: Watch, error: Exception) -> HydraError:
    """Return the fault that an exception of httpx, or of what lies below it, stands for."""
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return HydraError(Kind.CONFIG_INVALID, f"{url}: {error}", hint="check hydra.instance")
    if watch.has_answer:
        return HydraError(
            Kind.HYDRA_TRUNCATED,
            f"{url}: the connection broke within the answer: {_reason(error)}",
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
            f"{url}: the answer is not HTTP: {_reason(error)}",
            hint="check the port and the scheme (http or https) of hydra.instance",
        )
    return HydraError(
        Kind.HYDRA_DISCONNECTED,
        f"{url}: the connection broke before an answer: {_reason(error)}",
        hint="look at Hydra's own log, and at the proxy in front of it",
    )


def _unconnected(url: str, error: Exception) -> HydraError:
    if isinstance(error, httpx.ProxyError):
        return HydraError(
            Kind.HYDRA_REFUSED,
            f"{url}: the proxy does not let the connection through: {_reason(error)}",
            hint="look at http_proxy, https_proxy, all_proxy and no_proxy",
        )
    # The outermost cause that names a reason; where a host has several addresses, the first's.
    told = (cause for cause in _causes(error) if _names_a_reason(cause))
    cause = next(told, error)
    if isinstance(cause, ssl.SSLEOFError):
        return _unanswered(url, cause)
    if isinstance(cause, ssl.SSLError):
        return _tls(url, cause)
    if isinstance(cause, (socket.gaierror, UnicodeError)):
        return HydraError(
            Kind.HYDRA_UNRESOLVABLE,
            f"{url}: the host name has no address: {_reason(cause)}",
            hint="check hydra.instance and this host's name servers",
        )
    errno = cause.errno if isinstance(cause, OSError) else None
    return HydraError(
        Kind.HYDRA_REFUSED,
        f"{url}: no connection: {os.strerror(errno) if errno else _reason(error)}",
        hint="is Hydra running, and does a firewall let this host through?",
    )


def _names_a_reason(cause: BaseException) -> bool:
    return isinstance(cause, UnicodeError) or (
        isinstance(cause, OSError) and (cause.errno is not None or isinstance(cause, ssl.SSLError))
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
    told = detail or _reason(error)
    hints = (hint for key, word, hint in _TLS_HINTS if key == reason and word in detail)
    return HydraError(
        Kind.HYDRA_TLS,
        f"{url}: no trusted TLS connection: {told}",
        hint=next(hints, "check certificate and TLS versions of the instance"),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what led to it, outermost first, into groups as well.

    httpcore raises what it has translated "from None": then only the context knows the cause.
    """
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _causes(member)
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from _causes(cause)


def _reason(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:200] or type(error).__name__
