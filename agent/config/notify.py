"""`[notify]`: who is told, and how."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

from agent.config.section import AbsolutePath, Section
from agent.config.values import Duration, parse_http_url


def _server(value: str) -> str:
    url = urlsplit(parse_http_url(value))
    if url.path.strip("/") or url.query or url.fragment:
        raise ValueError("an ntfy server is a URL without a path: its topics begin there")
    return value.rstrip("/")


class NotifySection(Section):
    """Who is told of what the agent does; nobody, unless a topic or a file is named."""

    ntfy_server: Annotated[str, AfterValidator(_server)] = "https://ntfy.sh"
    """The ntfy server."""
    ntfy_topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    """The topic on it."""
    ntfy_token_file: AbsolutePath | None = None
    """File that holds an access token for it, which not everybody may read."""
    urls_file: AbsolutePath | None = None
    """File of apprise URLs, one a line, which not everybody may read: e-mail, Matrix, webhooks…"""
    timeout: Duration = timedelta(seconds=10)
    """Time limit of a message; afterwards the run goes on without it."""
