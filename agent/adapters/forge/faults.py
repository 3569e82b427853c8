"""What a failed exchange with a forge is called: exceptions and statuses as kinds."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from agent.adapters.http.client import location_of
from agent.adapters.http.support import named_cause, reason_of, refusal_of
from agent.domain.errors import ForgeError, Kind
from agent.domain.secrets import hide_secrets
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpx

if TYPE_CHECKING:
    from agent.adapters.http.support import ExchangeProgress

IS_FORGE: Final = "is forge.url the URL of the forge's API?"
_MAX_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is none of a forge's."""

    reason: str


def timed_out(url: str, watch: ExchangeProgress, seconds: float) -> ForgeError:
    """Return the fault of an exchange that did not end in time."""
    if watch.has_answer:
        what = "the answer did not end"
    elif watch.is_connected:
        what = "no answer came"
    else:
        what = "no connection came about"
    return ForgeError(
        Kind.FORGE_TIMEOUT,
        f"{url}: {what} within {seconds:g} s",
        hint="is the forge overloaded, or forge.timeout too short?",
    )


def translate(url: str, watch: ExchangeProgress, error: Exception) -> ForgeError:
    """Return the fault that an exception of httpx, or of what lies below it, stands for."""
    cause = named_cause(error)
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return ForgeError(Kind.CONFIG_INVALID, f"{url}: {error}", hint="check forge.url")
    is_closed = isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    if isinstance(cause, ssl.SSLError) and not is_closed:
        told = getattr(cause, "verify_message", "") or reason_of(cause)
        return ForgeError(
            Kind.FORGE_TLS,
            f"{url}: no trusted TLS connection: {told}",
            hint="check the certificate, this host's clock, and SSL_CERT_FILE",
        )
    # h11 has no finer exception: what it could not read, as against nothing to read.
    is_foreign = isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error)
    if is_foreign and not watch.has_answer:
        told = reason_of(error)
        return ForgeError(Kind.FORGE_NONSENSE, f"{url}: no proper HTTP: {told}", hint=IS_FORGE)
    if watch.is_connected:
        what = f"the connection broke: {reason_of(error)}"
    else:
        what = f"no connection: {refusal_of(cause, error)}"
    return ForgeError(
        Kind.FORGE_UNREACHABLE,
        f"{url}: {what}",
        hint="is the forge running, and the name and port in forge.url right?",
    )


_STATUSES: Final = {
    401: (Kind.FORGE_UNAUTHORISED, "make a new token, and write it into forge.token_file"),
    403: (
        Kind.FORGE_FORBIDDEN,
        "give the token write access to the repository, its proposals and issues",
    ),
    404: (
        Kind.FORGE_NOT_FOUND,
        "check forge.repository and the branches; what a token may not see looks missing, too",
    ),
    405: (Kind.AUTO_MERGE_REFUSED, "look at the proposal: who may merge it, and how?"),
    409: (Kind.FORGE_CONFLICT, "look at the proposals that are open for this branch"),
    422: (Kind.FORGE_UNPROCESSABLE, "the forge's own words say which value it does not take"),
    423: (Kind.FORGE_FORBIDDEN, "the repository is archived"),
    429: (Kind.FORGE_RATE_LIMITED, "run less often, or raise the limit of the forge"),
}


def refused(url: str, response: httpx.Response, said: str, wait: float | None) -> ForgeError:
    """Return the fault that a status stands for; `said` is what the forge has to say."""
    status = response.status_code
    told = f"{url}: status {status}{_phrase(status)}" + (f": {said}" if said else "")
    if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
        return _elsewhere(told, response)
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS) and _is_too_much(
        response, said, wait
    ):
        # GitHub's limits are told by 403 as well as by 429.
        kind, hint = _STATUSES[429]
        return ForgeError(kind, told, hint=hint, retry_after=wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ForgeError(
            Kind.FORGE_SERVER_ERROR, told, hint="the forge's own log says more", retry_after=wait
        )
    # GitHub tells of a proposal that is there already by 422, Forgejo by 409.
    is_there = status == HTTPStatus.UNPROCESSABLE_ENTITY and "already exists" in said
    known = HTTPStatus.CONFLICT if is_there else status
    kind, hint = _STATUSES.get(known, (Kind.FORGE_STATUS, IS_FORGE))
    if status == HTTPStatus.METHOD_NOT_ALLOWED and "try again later" in said:
        kind = Kind.FORGE_NOT_READY
    return ForgeError(kind, told, hint=hint)


def _is_too_much(response: httpx.Response, said: str, wait: float | None) -> bool:
    is_used_up = response.headers.get("x-ratelimit-remaining") == "0"
    is_limit = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    return is_limit or is_used_up or wait is not None or "rate limit" in said.lower()


def _elsewhere(told: str, response: httpx.Response) -> ForgeError:
    target = str(hide_secrets(location_of(response) or ""))
    shown = "".join(char for char in target if char.isprintable())[:_MAX_WORDS]
    return ForgeError(
        Kind.FORGE_REDIRECT,
        f"{told}: a redirect to {shown!r}, which is not followed",
        hint="set forge.url and forge.repository to where the repository is now",
    )


def words_of(found: object) -> str:
    """Return what a forge says beside a failure, as one short line without credentials.

    GitHub: `message`, and `errors` with a `message`, or `field` and `code`, each. Forgejo:
    `message`. Nothing of a body that is no such JSON is quoted: it may be anything.
    """
    if not isinstance(found, dict):
        return ""
    errors = found.get("errors")
    parts = [found.get("message"), *(errors if isinstance(errors, list) else [])]
    words = "; ".join(word for part in parts if (word := _word(part)))
    printable = "".join(char if char.isprintable() else " " for char in words)
    return str(hide_secrets(printable))[:_MAX_WORDS]


def _word(part: object) -> str:
    if isinstance(part, dict):
        told = part.get("message") or f"{part.get('field', '')} {part.get('code', '')}"
        return _word(told)
    return part.strip() if isinstance(part, str) else ""


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
