"""An evaluation's log that is longer than any answer may be."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.clock import SystemClock
from agent.adapters.http.retries import Retries
from agent.adapters.hydra import transport
from agent.adapters.hydra.client import HydraClient
from agent.adapters.hydra.long_text import LongTextCutter
from agent.demo.hydra import EmbeddedHydra
from agent.domain.job import Job
from demo.hydra_changes import disable_jobset, fail_evaluation
from fakes.events import RememberedEvents

VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def cut(data, longest, size):
    cutter = LongTextCutter(longest)
    return b"".join(cutter.feed(data[at : at + size]) for at in range(0, len(data), size))


@given(VALUES, st.integers(1, 9), st.booleans())
def test_what_is_short_goes_through_as_it_is(value, size, is_ascii):
    data = json.dumps(value, ensure_ascii=is_ascii).encode()
    assert cut(data, 10_000, size) == data


@given(st.text(), st.integers(0, 40), st.integers(1, 9), st.booleans())
def test_what_is_cut_is_json_still_and_the_beginning_of_what_it_was(text, longest, size, is_ascii):
    data = json.dumps({"k": text, "after": [1]}, ensure_ascii=is_ascii).encode()
    told = json.loads(cut(data, longest + 5, size))
    assert told["after"] == [1]
    assert text.startswith(told["k"])


@pytest.mark.parametrize(
    "text", ["\\\ud83d", "😀" * 9, '\\"' * 9, "\\" * 9, "ä" * 9, "\\uD83D" * 3]
)
@pytest.mark.parametrize("is_ascii", [True, False])
def test_no_half_letter_or_escape_is_left(text, is_ascii):
    if not is_ascii and "\ud83d" in text:
        return
    data = json.dumps([text], ensure_ascii=is_ascii).encode()
    for longest in range(len(data)):
        cut(data, longest, 3).decode()
        (told,) = json.loads(cut(data, longest, 3))
        assert text.startswith(told)
        told.encode("utf-8" if "\ud83d" not in text else "utf-16", "surrogatepass")


@pytest.fixture
def hydra():
    with EmbeddedHydra() as server:
        server.world.add_jobset("p", "j")
        yield server


def outlook(hydra):
    async def run():
        async with HydraClient(
            hydra.url,
            timeout=30,
            deadline=60,
            sink=RememberedEvents(),
            clock=SystemClock(),
            retries=Retries(attempts=1),
        ) as client:
            return await client.outlook(Job(hydra.url, "p", "j", "alpha"), None)

    return asyncio.run(run())


def test_an_error_that_is_longer_than_any_answer_is_read_as_far_as_it_is_of_use(hydra):
    text = "in job 'alpha':\nerror: no such \"option\"\n" + "  trace \\ é\n" * 600_000
    assert len(text) > transport.MAX_BODY
    fail_evaluation(hydra.world, "p", "j", text)
    disable_jobset(hydra.world, "p", "j")
    told = outlook(hydra)
    assert told.evaluation_error == 'error: no such "option"'
    assert told.is_jobset_disabled is True
