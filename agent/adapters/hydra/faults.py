"""The errors of Hydra: for failed connections, for statuses, and for bodies."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from pydantic_core import from_json

from agent.adapters.http.faults import Service, Trouble, shown_status
from agent.domain.errors import HydraError, Kind

HYDRA: Final = Service(
    error=HydraError,
    setting="hydra.instance",
    faults={
        Trouble.UNRESOLVABLE: (
            Kind.HYDRA_UNRESOLVABLE,
            "check hydra.instance and this host's name servers",
        ),
        Trouble.REFUSED: (
            Kind.HYDRA_REFUSED,
            "is Hydra running, and does a firewall let this host through?",
        ),
        Trouble.TLS: (Kind.HYDRA_TLS, "check certificate and TLS versions of the instance"),
        Trouble.TIMEOUT: (
            Kind.HYDRA_TIMEOUT,
            "is Hydra overloaded, or hydra.timeout too short?",
        ),
        Trouble.DISCONNECTED: (
            Kind.HYDRA_DISCONNECTED,
            "look at Hydra's own log, and at the proxy in front of it",
        ),
        Trouble.TRUNCATED: (Kind.HYDRA_TRUNCATED, "look at the proxy in front of Hydra"),
        Trouble.NOT_HTTP: (
            Kind.HYDRA_NOT_HTTP,
            "check the port and the scheme (http or https) of hydra.instance",
        ),
    },
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

    Hydra makes its answers while it reads the database. A database lost meanwhile is reported with
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
    """Whether a body is truncated JSON, although the connection was closed properly."""
    if not body.lstrip().startswith((b"{", b"[")):
        return False
    try:
        from_json(body)
    except ValueError as error:
        return "EOF while parsing" in str(error)
    return False


def cut_off(url: str) -> HydraError:
    """Return the error for a truncated answer."""
    return HydraError(
        Kind.HYDRA_TRUNCATED,
        f"{url}: the answer ends in the middle of its JSON",
        hint="look at Hydra's own log, and at the proxy in front of it",
    )


def server_trouble(url: str, status: int, retry_after: float | None) -> HydraError:
    """Return the error for an answer that `is_servers_trouble`; its body is never quoted."""
    return HydraError(
        Kind.HYDRA_SERVER_ERROR,
        f"{url}: the server failed while it answered (status {status})",
        hint="Hydra's own log, or that of the proxy in front of it, says more",
        retry_after=retry_after,
    )


def refused_status(url: str, status: int, retry_after: float | None) -> HydraError:
    """Return the error for a status.

    No body is ever quoted: of a failing Hydra it may hold SQL and connection strings.
    """
    message = f"{url}: {shown_status(status)}"
    if status in (401, 403, 407):
        return HydraError(
            Kind.HYDRA_UNAUTHORISED,
            message,
            hint="let this host read the instance: it is private, or its proxy wants a login",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = "" if retry_after is None else f"; it asks to be left alone for {retry_after:.0f} s"
        return HydraError(
            Kind.HYDRA_RATE_LIMITED,
            f"{message}{wait}",
            hint="poll less often, or raise the limit of the proxy in front of Hydra",
            retry_after=retry_after,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return HydraError(
            Kind.HYDRA_SERVER_ERROR,
            message,
            hint="Hydra's own log says more",
            retry_after=retry_after,
        )
    return HydraError(
        Kind.HYDRA_STATUS,
        f"{message}, which Hydra never gives here",
        hint="is hydra.instance the URL of a Hydra?",
    )
