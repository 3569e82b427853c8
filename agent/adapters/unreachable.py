"""What nix, git and ssh say where the network, and nothing else, kept them from a source.

nix's words are those of its file transfer (src/libstore/filetransfer.cc), git's are curl's
(`unable to access`) and ssh's. A server that says no, with 401, 403 or 404, was reached.
"""

from __future__ import annotations

import re
from typing import Final

_SERVER_ERROR: Final = r"(?:408|429|5\d\d)"
_UNREACHABLE: Final = re.compile(
    rf"unable to (?:down|up)load '[^']*': (?:HTTP error {_SERVER_ERROR}\b|(?!HTTP error))"
    r"|Could(?: not|n't) resolve (?:host|proxy)"
    r"|Temporary failure in name resolution|Name or service not known"
    r"|Failed to connect to \S+ port \d+|Could(?: not|n't) connect to server"
    r"|Connection (?:refused|reset by peer|timed out)|Operation timed out"
    r"|Network is unreachable|No route to host"
    rf"|The requested URL returned error: {_SERVER_ERROR}\b"
)
_PASSING: Final = ("warning:", "evaluation warning:")
"""Of what nix has tried on its own, and may have done without."""


def unreachable_source(text: str) -> str:
    """Return the last line that says that a source could not be reached; empty if none does."""
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if _UNREACHABLE.search(line) and not line.startswith(_PASSING)]
    return found[-1].removeprefix("error: ") if found else ""
