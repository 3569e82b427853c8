"""What becomes of work when its caller is interrupted, or when work beside it fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

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


async def together(work: Iterable[Coroutine[object, object, _T]]) -> list[_T]:
    """Return what all of `work` returns, in order; once one fails, the others are ended.

    The first failure is raised when nothing is at work any more.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
