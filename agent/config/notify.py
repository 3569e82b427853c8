"""The table `[notify]`: who is notified of what the agent does."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

from agent.fields.section import HttpUrl, SecretFile, Section
from agent.fields.values import Duration

_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _topic(value: str) -> str:
    if not _TOPIC.fullmatch(value):
        raise ValueError("an ntfy topic has 1 to 64 letters, digits, _ and -")
    return value


def _server(value: str) -> str:
    url = urlsplit(value)
    if url.path.strip("/") or url.query or url.fragment:
        raise ValueError("an ntfy server is a URL without a path: its topics begin there")
    return value.rstrip("/")


class NotifySection(Section):
    """Whom `agent flake-update run` notifies; a host's own upgrades notify nobody yet."""

    ntfy_server: Annotated[HttpUrl, AfterValidator(_server)] = "https://ntfy.sh"
    """URL of the ntfy server, without a path."""
    ntfy_topic: Annotated[str, AfterValidator(_topic)] | None = None
    """The topic on that server."""
    ntfy_token_file: SecretFile | None = None
    """File with an access token for the ntfy server; must not be world-readable."""
    urls_file: SecretFile | None = None
    """File with one apprise URL per line (e-mail, Matrix, webhooks); must not be world-readable."""
    timeout: Duration = timedelta(seconds=20)
    """Time limit for sending a message."""
