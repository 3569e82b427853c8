"""The last line of a program's output, for a message."""

from __future__ import annotations

from typing import Final

from agent.domain.secrets import hide_secrets

_MAX_LINE: Final = 200


def last_line(output: str) -> str:
    """Return the last non-blank line, shortened and without what looks like a credential."""
    lines = [line for line in output.splitlines() if line.strip()]
    if not lines:
        return ""
    # More is searched than is shown: a credential that is cut in two is not recognised.
    line = str(hide_secrets(lines[-1].strip()[: 8 * _MAX_LINE]))
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 1]}…"
