"""Owns how an answer is put: content negotiation, cookies, and where a `Location` points."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from agent.demo.hydra import shapes
from agent.demo.loopback import Answer

if TYPE_CHECKING:
    from agent.demo.loopback import Request

JSON: Final = "application/json"
HTML: Final = "text/html"
PLAIN: Final = "text/plain; charset=utf-8"
NARINFO: Final = "text/x-nix-narinfo; charset=UTF-8"
_SESSION_SECONDS: Final = 7 * 24 * 3600


class RefusalError(Exception):
    """Hydra's own way to refuse: a status, and a text that becomes `{"error": …}`.

    `is_early` refusals come before the `Vary` header is set (recorded private-*, dbdown-*).
    """

    def __init__(self, status: int, text: str, *, is_early: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.is_early = is_early


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that is shown as JSON to who asks for it, as a page to everybody else."""

    value: Any
    title: str = ""
    status: int = 200
    location: str | None = None
    vary: str = "Accept"


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect: its body is a page, whatever was asked for."""

    location: str
    status: int = 302


@dataclass(frozen=True, slots=True)
class Plain:
    """A text of one content type; with `max_age` (seconds) it is cacheable and sets no cookie."""

    text: str
    content_type: str = PLAIN
    status: int = 200
    max_age: int | None = None


Reply = Entity | Redirect | Plain


def refusal(refused: RefusalError) -> Entity:
    """Return the body of a refusal."""
    return Entity(
        {"error": refused.text},
        title=f"{refused.status} {HTTPStatus(refused.status).phrase}",
        status=refused.status,
        vary="Content-Type" if refused.is_early else "Accept",
    )


def render(reply: Reply, request: Request, session: str) -> Answer:
    """Return the answer as it goes over the wire."""
    content_type, text = _content(reply, request)
    headers = {"Vary": reply.vary if isinstance(reply, Entity) else "Accept"}
    location = None if isinstance(reply, Plain) else reply.location
    if location is not None:
        headers["Location"] = location
    headers["Content-Type"] = content_type
    max_age = reply.max_age if isinstance(reply, Plain) else None
    if max_age is None:
        headers["Set-Cookie"] = _cookie(session)
    else:
        headers["Expires"] = formatdate(time.time() + max_age, usegmt=True)
    return Answer(reply.status, headers, text.encode())


def _content(reply: Reply, request: Request) -> tuple[str, str]:
    match reply:
        case Plain():
            return reply.content_type, reply.text
        case Redirect():
            return f"{HTML}; charset=utf-8", shapes.moved(reply.location)
        case Entity():
            text = to_json(reply.value)
            if accepts_json(request.headers.get("accept", "")):
                return JSON, text
            return f"{HTML}; charset=UTF-8", shapes.page(reply.title, text)


def to_json(value: Any) -> str:
    """Return JSON as compact as Hydra's."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def accepts_json(accept: str) -> bool:
    """Return whether JSON is what Hydra gives: only for a type that names it (recorded accept-*).

    A wildcard names nothing. Of JSON and HTML the one with the higher weight is given, else the
    first.
    """
    named = [_with_weight(part) for part in accept.split(",")]
    known = [(kind, weight) for kind, weight in named if kind in {JSON, HTML}]
    return bool(known) and max(known, key=lambda one: one[1])[0] == JSON


def base_url(request: Request) -> str:
    """Return what every `Location` begins with, believed from the request's own headers.

    The client is on loopback, and there Hydra takes it for a reverse proxy and believes its
    X-Forwarded-*.
    """
    headers = request.headers
    scheme = "https" if headers.get("x-forwarded-proto") == "https" else "http"
    forwarded = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
    host = forwarded or headers.get("host", "localhost")
    port = headers.get("x-forwarded-port", "")
    if forwarded and ":" not in forwarded and port not in {"", "80", "443"}:
        host = f"{host}:{port}"
    return f"{scheme}://{host}"


def link(request: Request, *segments: str | int, query: str = "") -> str:
    """Return an absolute URL; each segment is percent-encoded by itself."""
    path = "/".join(quote(str(segment), safe="@:!$&'()*+,;=~") for segment in segments)
    return f"{base_url(request)}/{path}" + (f"?{query}" if query else "")


def _with_weight(part: str) -> tuple[str, float]:
    kind, *parameters = (text.strip().lower() for text in part.split(";"))
    weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0


def _cookie(session: str) -> str:
    expires = time.strftime(
        "%a, %d-%b-%Y %H:%M:%S GMT", time.gmtime(time.time() + _SESSION_SECONDS)
    )
    return f"hydra_session={session}; path=/; expires={expires}; HttpOnly; SameSite=Lax"
