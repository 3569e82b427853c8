"""The errors of a forge: for failed connections, and for statuses."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from agent.adapters.http.faults import Service, Trouble, shown_status
from agent.adapters.http.transport import location_of
from agent.domain.errors import ForgeError, Kind
from agent.domain.secrets import hide_secrets

if TYPE_CHECKING:
    import httpx

IS_FORGE: Final = "is flake_update.forge.url the URL of the forge's API?"
_LONGEST_MESSAGE: Final = 300
_UNREACHABLE: Final = (
    Kind.FORGE_UNREACHABLE,
    "is the forge running, and the name and port in flake_update.forge.url right?",
)

FORGE: Final = Service(
    error=ForgeError,
    setting="flake_update.forge.url",
    faults={
        Trouble.UNRESOLVABLE: _UNREACHABLE,
        Trouble.REFUSED: _UNREACHABLE,
        Trouble.TLS: (
            Kind.FORGE_TLS,
            "check the certificate, this host's clock, and SSL_CERT_FILE",
        ),
        Trouble.TIMEOUT: (
            Kind.FORGE_TIMEOUT,
            "is the forge overloaded, or flake_update.forge.timeout too short?",
        ),
        Trouble.DISCONNECTED: _UNREACHABLE,
        Trouble.TRUNCATED: _UNREACHABLE,
        Trouble.NOT_HTTP: (Kind.FORGE_NONSENSE, IS_FORGE),
    },
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is not a forge's."""

    reason: str


_STATUSES: Final = {
    401: (
        Kind.FORGE_UNAUTHORISED,
        "make a new token, and write it into flake_update.forge.token_file",
    ),
    403: (
        Kind.FORGE_FORBIDDEN,
        "give the token write access to the repository, its proposals and issues",
    ),
    404: (
        Kind.FORGE_NOT_FOUND,
        "check flake_update.forge.repository, the branches, and what the token may see",
    ),
    405: (Kind.AUTO_MERGE_REFUSED, "look at the proposal: who may merge it, and how?"),
    409: (Kind.FORGE_CONFLICT, "look at the proposals that are open for this branch"),
    422: (Kind.FORGE_UNPROCESSABLE, "the forge's own words say which value it does not take"),
    423: (Kind.FORGE_FORBIDDEN, "the repository is archived"),
    429: (Kind.FORGE_RATE_LIMITED, "run less often, or raise the limit of the forge"),
}


def refused(url: str, response: httpx.Response, explanation: str, wait: float | None) -> ForgeError:
    """Return the error for a status; `explanation` is the forge's own message."""
    status = response.status_code
    message = f"{url}: {shown_status(status)}" + (f": {explanation}" if explanation else "")
    if response.is_redirect:
        return _elsewhere(message, response)
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS) and _is_too_much(
        response, explanation, wait
    ):
        # GitHub reports its rate limits by 403 as well as by 429.
        kind, hint = _STATUSES[429]
        return ForgeError(kind, message, hint=hint, retry_after=wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ForgeError(
            Kind.FORGE_SERVER_ERROR, message, hint="the forge's own log says more", retry_after=wait
        )
    # GitHub reports a proposal that exists already by 422, Forgejo by 409.
    is_there = status == HTTPStatus.UNPROCESSABLE_ENTITY and "already exists" in explanation
    known = HTTPStatus.CONFLICT if is_there else status
    kind, hint = _STATUSES.get(known, (Kind.FORGE_STATUS, IS_FORGE))
    if status == HTTPStatus.METHOD_NOT_ALLOWED and "try again later" in explanation:
        kind = Kind.FORGE_NOT_READY
    return ForgeError(kind, message, hint=hint)


def _is_too_much(response: httpx.Response, explanation: str, wait: float | None) -> bool:
    is_used_up = response.headers.get("x-ratelimit-remaining") == "0"
    is_limit = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    return is_limit or is_used_up or wait is not None or "rate limit" in explanation.lower()


def _elsewhere(message: str, response: httpx.Response) -> ForgeError:
    target = str(hide_secrets(location_of(response) or ""))
    shown = "".join(char for char in target if char.isprintable())[:_LONGEST_MESSAGE]
    return ForgeError(
        Kind.FORGE_REDIRECT,
        f"{message}: a redirect to {shown!r}, which is not followed",
        hint="set flake_update.forge.url and .repository to where the repository is now",
    )


def message_in(found: object) -> str:
    """Return what a forge says beside a failure, as one short line without credentials.

    GitHub: `message`, and `errors` with a `message`, or `field` and `code`, each. Forgejo:
    `message`. Nothing of a body that is no such JSON is quoted: it may be anything.
    """
    if not isinstance(found, dict):
        return ""
    errors = found.get("errors")
    parts = [found.get("message"), *(errors if isinstance(errors, list) else [])]
    text = "; ".join(text for part in parts if (text := _text_of(part)))
    printable = "".join(char if char.isprintable() else " " for char in text)
    return str(hide_secrets(printable))[:_LONGEST_MESSAGE]


def _text_of(part: object) -> str:
    if isinstance(part, dict):
        message = part.get("message") or f"{part.get('field', '')} {part.get('code', '')}"
        return _text_of(message)
    return part.strip() if isinstance(part, str) else ""
