"""The table `[notify]`: who is told what the agent does."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from agent.config.section import AbsolutePath, HttpUrl, Section
from agent.config.values import Duration  # noqa: TC001 - pydantic reads it

_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _topic(value: str) -> str:
    if not _TOPIC.fullmatch(value):
        raise ValueError("an ntfy topic has 1 to 64 letters, digits, _ and -")
    return value


class NotifySection(Section):
    """Who is told; nobody, unless there is a topic or a file of services."""

    ntfy_server: HttpUrl = Field(default="https://ntfy.sh", validate_default=True)
    """URL of the ntfy server."""
    ntfy_topic: Annotated[str, AfterValidator(_topic)] | None = None
    """Topic on it."""
    ntfy_token_file: AbsolutePath | None = None
    """File with an access token of the ntfy server; not readable by everybody."""
    urls_file: AbsolutePath | None = None
    """File with one apprise URL a line, for e-mail, Matrix, webhooks; not readable by everybody."""
    timeout: Duration = timedelta(seconds=20)
    """Time limit of a message."""
