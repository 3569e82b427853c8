"""Translates the exceptions of httpx, and of what lies below it, into the errors of a service."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from agent.adapters.http.support import named_cause, reason_of, refusal_of
from agent.domain.errors import AgentError, Kind
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.adapters.http.support import ExchangeProgress

_PROXY_VARIABLES: Final = "look at http_proxy, https_proxy, all_proxy and no_proxy"


class Trouble(Enum):
    """What can keep an answer from coming, whatever the service."""

    UNRESOLVABLE = auto()
    REFUSED = auto()
    TLS = auto()
    TIMEOUT = auto()
    DISCONNECTED = auto()
    """The connection broke before an answer."""
    TRUNCATED = auto()
    """The connection broke within the answer."""
    NOT_HTTP = auto()


@dataclass(frozen=True, slots=True)
class Service:
    """What differs from one service to another: the kinds of its errors, and their hints.

    `setting` is the key that has its URL. `faults` gives each trouble its kind and a hint.
    """

    error: type[AgentError]
    setting: str
    faults: Mapping[Trouble, tuple[Kind, str]]

    def fault(self, trouble: Trouble, message: str, *, hint: str = "") -> AgentError:
        """Return the error for a trouble; `hint` replaces the usual one."""
        kind, usual = self.faults[trouble]
        return self.error(kind, message, hint=hint or usual)

    def timed_out(self, url: str, progress: ExchangeProgress, seconds: float) -> AgentError:
        """Return the error for an exchange that did not end in time."""
        if progress.has_answer:
            what = "the answer did not end"
        elif progress.is_connected:
            what = "no answer came"
        else:
            what = "no connection came about"
        return self.fault(Trouble.TIMEOUT, f"{url}: {what} within {seconds:g} s")

    def translate(self, url: str, progress: ExchangeProgress, error: Exception) -> AgentError:
        """Return the error for an exception of httpx, or of what lies below it."""
        if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
            hint = f"check {self.setting}"
            return self.error(Kind.CONFIG_INVALID, f"{url}: {error}", hint=hint)
        if progress.has_answer:
            what = f"the connection broke within the answer: {reason_of(error)}"
            return self.fault(Trouble.TRUNCATED, f"{url}: {what}")
        # Of a proxy, too, something was asked.
        if progress.is_connected and not isinstance(error, httpx.ProxyError):
            return self._unanswered(url, error)
        return self._unconnected(url, error)

    def unusable_proxy(self, url: str, error: Exception) -> AgentError:
        """Return the error for proxy variables that do not name a proxy."""
        what = f"the proxy variables of the environment cannot be used: {error}"
        return self.error(Kind.CONFIG_INVALID, f"{url}: {what}", hint=_PROXY_VARIABLES)

    def unusable_trust(self, url: str, error: OSError) -> AgentError:
        """Return the error for trusted certificates that cannot be read."""
        what = f"the trusted certificates cannot be read: {error}"
        hint = "look at SSL_CERT_FILE or NIX_SSL_CERT_FILE"
        return self.fault(Trouble.TLS, f"{url}: {what}", hint=hint)

    def _unanswered(self, url: str, error: BaseException) -> AgentError:
        # h11 has no finer exception: what it could not read, as against nothing to read.
        if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
            what = f"the answer is not HTTP: {reason_of(error)}"
            return self.fault(Trouble.NOT_HTTP, f"{url}: {what}")
        what = f"the connection broke before an answer: {reason_of(error)}"
        return self.fault(Trouble.DISCONNECTED, f"{url}: {what}")

    def _unconnected(self, url: str, error: Exception) -> AgentError:
        if isinstance(error, httpx.ProxyError):
            what = f"the proxy does not let the connection through: {reason_of(error)}"
            return self.fault(Trouble.REFUSED, f"{url}: {what}", hint=_PROXY_VARIABLES)
        cause = named_cause(error)
        # Which of the two depends on the version of Python.
        if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return self._unanswered(url, cause)
        if isinstance(cause, ssl.SSLError):
            return self._untrusted(url, cause)
        if isinstance(cause, (socket.gaierror, UnicodeError)):
            what = f"the host name has no address: {reason_of(cause)}"
            return self.fault(Trouble.UNRESOLVABLE, f"{url}: {what}")
        what = f"no connection: {refusal_of(cause, error)}"
        return self.fault(Trouble.REFUSED, f"{url}: {what}")

    def _untrusted(self, url: str, error: ssl.SSLError) -> AgentError:
        reason = error.reason or ""
        detail = getattr(error, "verify_message", "") or reason.replace("_", " ").lower()
        hints = (hint for key, word, hint in _TLS_HINTS if key == reason and word in detail)
        what = f"no trusted TLS connection: {detail or reason_of(error)}"
        hint = next(hints, "").format(setting=self.setting)
        return self.fault(Trouble.TLS, f"{url}: {what}", hint=hint)


_NOT_VERIFIED: Final = "CERTIFICATE_VERIFY_FAILED"
_TLS_HINTS: Final = (
    (_NOT_VERIFIED, "expired", "is this host's clock right?"),
    (_NOT_VERIFIED, "not yet valid", "is this host's clock right?"),
    (_NOT_VERIFIED, "mismatch", "use the name that the certificate is for in {setting}"),
    (
        _NOT_VERIFIED,
        "",
        "add the issuer to security.pki.certificateFiles, or name it in SSL_CERT_FILE",
    ),
    ("WRONG_VERSION_NUMBER", "", "does this port speak https at all?"),
)


def shown_status(status: int) -> str:
    """Return a status for people: its number, and its name if it has one."""
    try:
        return f"status {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"
