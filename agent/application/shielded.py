"""Does what must be done to its end, even if its caller is interrupted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


async def shield(work: Coroutine[object, object, _T]) -> _T:
    """Return what `work` returns; an interruption is raised when it has ended.

    One interruption is put off: an agent that is asked to end is asked once.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
