"""Searches a text for a regular expression, in a process of its own that can be killed.

Python's `re` backtracks, which can take exponential time, and blocks the interpreter meanwhile: no
timeout and no thread could interrupt it.
"""

from __future__ import annotations

import re
import sys
from typing import Final

from agent.adapters.process import ProgramMissingError, capture

_FOUND: Final = 10
_MISSING: Final = 11
"""Python itself exits with neither of these."""
_SEARCH: Final = f"""
import re, sys
length, _, rest = sys.stdin.buffer.read().decode("utf-8", "surrogatepass").partition("\\n")
found = re.search(rest[:int(length)], rest[int(length):])
sys.exit({_FOUND} if found else {_MISSING})
"""


class ExpressionError(Exception):
    """It cannot be determined whether the expression matches; the message is the reason."""


async def is_found(expression: str, text: str) -> bool:
    """Return whether `expression` matches somewhere in `text`; the search ends when cancelled.

    Raises:
        ExpressionError: it is not a regular expression, or the search failed.
    """
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ExpressionError(f"is not a regular expression: {error}") from error
    # Not as an argument: arguments are limited in length and visible to all users of the host.
    question = f"{len(expression)}\n{expression}{text}".encode("utf-8", "surrogatepass")
    try:
        searched = await capture((sys.executable, "-I", "-S", "-c", _SEARCH), stdin=question)
    except ProgramMissingError as error:
        raise ExpressionError(f"could not be searched for: {error}") from error
    code = searched.returncode
    if code not in (_FOUND, _MISSING):
        raise ExpressionError(f"could not be searched for: Python ended with {code}")
    return code == _FOUND
