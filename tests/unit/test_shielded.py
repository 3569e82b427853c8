from __future__ import annotations

import asyncio

import pytest

from agent.application.shielded import shield


async def work(done, fault=None):
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    done.append("done")
    if fault is not None:
        raise fault
    return "result"


def test_what_is_not_interrupted_gives_its_result():
    assert asyncio.run(shield(work([]))) == "result"


def test_a_fault_is_raised():
    with pytest.raises(ValueError, match="x"):
        asyncio.run(shield(work([], ValueError("x"))))


@pytest.mark.parametrize("fault", [None, ValueError("x")])
def test_what_is_interrupted_is_done_all_the_same(fault):
    done = []

    async def main():
        task = asyncio.ensure_future(shield(work(done, fault)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert done == ["done"]
