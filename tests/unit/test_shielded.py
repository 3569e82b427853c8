from __future__ import annotations

import asyncio

import pytest

from agent.application.shielded import shield, together


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


def test_what_is_done_together_gives_all_results_in_order():
    assert asyncio.run(together([work([]), asyncio.sleep(0, "other")])) == ["result", "other"]


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_once_one_fails_or_the_caller_is_interrupted_nothing_is_at_work_any_more(is_interrupted):
    ended = []

    async def goes_on():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    async def main():
        fault = None if is_interrupted else ValueError("x")
        task = asyncio.ensure_future(together([goes_on(), work([], fault), goes_on()]))
        for _ in range(5):
            await asyncio.sleep(0)
        if is_interrupted:
            task.cancel()
        try:
            await task
        finally:
            assert ended == ["ended", "ended"]

    with pytest.raises(asyncio.CancelledError if is_interrupted else ValueError):
        asyncio.run(main())
