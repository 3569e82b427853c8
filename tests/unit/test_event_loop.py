from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agent.cli.event_loop import run_async
from agent.domain.errors import AgentError, Kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, Kind.INTERRUPTED), (signal.SIGTERM, Kind.TERMINATED)],
    ids=lambda value: value.name,
)
def test_a_signal_cancels_the_command_and_names_its_end(number, kind):
    async def main(_stopped):
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    with pytest.raises(AgentError) as caught:
        run_async(main)
    assert caught.value.kind is kind


def test_a_second_signal_does_not_cut_the_end_short():
    steps = []

    async def main(stopped):
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(10):
                await asyncio.sleep(0)
            steps.append(stopped.kind)

    with pytest.raises(AgentError) as caught:
        run_async(main)
    assert steps == [Kind.TERMINATED]
    assert caught.value.kind is Kind.TERMINATED


def test_what_a_command_returns_and_raises_is_passed_on():
    async def give(_stopped):
        return 7

    async def fail(_stopped):
        raise AgentError(Kind.LOCKED, "busy")

    assert run_async(give) == 7
    with pytest.raises(AgentError, match="busy"):
        run_async(fail)
