from __future__ import annotations

import asyncio

import pytest

from agent.application.working_time import WorkingTime
from fakes.prober import SkippingLoop


def play(scene):
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(scene())


async def passes(count):
    """Let the loop have so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("parts", [(0.02,), (0.01, 0.01), (0,), (-1, 0), ()])
def test_a_limit_ends_the_block(parts):
    async def scene():
        async with WorkingTime(*parts):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        play(scene)


def test_a_block_that_ends_in_time_is_left_alone_afterwards():
    async def scene():
        async with WorkingTime(60) as time:
            await passes(2)
        asyncio.get_running_loop().skipped = 3600
        await passes(100)
        return time.used

    assert 0 <= play(scene) < 60


def test_what_goes_wrong_within_is_told_as_it_is():
    async def scene():
        async with WorkingTime(60):
            raise ValueError("a fault of the block")

    with pytest.raises(ValueError, match="a fault of the block"):
        play(scene)


def test_a_loop_that_was_held_up_has_used_one_step_of_the_time():
    async def scene():
        async with WorkingTime(16) as time:
            asyncio.get_running_loop().skipped = 3600
            used = [time.used]
            await passes(5)
            return [*used, time.used]

    before, after = play(scene)
    assert before == 1
    assert 1 <= after < 2


def test_what_has_arrived_when_time_is_over_is_taken_in_all_its_parts():
    async def scene():
        async with WorkingTime(0):
            await passes(20)
            return True

    assert play(scene)


def test_of_two_limits_that_begin_alike_the_shorter_ends_first():
    async def scene():
        loop = asyncio.get_running_loop()
        ended = []

        async def wait(*parts):
            try:
                async with WorkingTime(*parts):
                    await asyncio.Event().wait()
            except TimeoutError:
                ended.append(parts)

        async with asyncio.TaskGroup() as both:
            both.create_task(wait(0.01, 0.01))
            both.create_task(wait(0.01))
            for _ in range(400):
                await asyncio.sleep(0)
                loop.skipped += 0.02
        return ended

    assert play(scene) == [(0.01,), (0.01, 0.01)]
