"""Lets httpx and structlog be imported without the terminal libraries they load when installed.

httpx imports click, rich and pygments for its own command line, and structlog imports rich for
coloured tracebacks: some 45 ms of CPU a run, for nothing that the agent uses. Import them as

    with without_terminal_libraries():
        import httpx
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONAL = ("httpx._main", "rich", "better_exceptions")


@contextmanager
def without_terminal_libraries() -> Iterator[None]:
    """Make the optional libraries look uninstalled; what is already loaded stays as it is."""
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
