"""What any service gets from the one client, and that each service names every trouble."""

from __future__ import annotations

import asyncio

import pytest

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.adapters.forge.faults import FORGE
from agent.adapters.http.client import HttpClient
from agent.adapters.http.faults import Service, Trouble
from agent.adapters.http.retries import Repeater, Retries
from agent.adapters.hydra.faults import HYDRA
from agent.application import events
from agent.domain.errors import AgentError, HostError, Kind
from fakes.events import RememberedEvents, SteppedClock

THIRD = Service(
    error=HostError,
    setting="third.url",
    faults=dict.fromkeys(Trouble, (Kind.NOTIFY_FAILED, "look at third.url")),
)
ANSWER = (
    b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi"
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def status_and_body(response):
    return response.status_code, await response.aread()


def ask(url, read=status_and_body, *, timeout=20.0):
    async def run():
        client = HttpClient(url, THIRD, headers={"x-of": "third"})
        try:
            return await client.exchange("GET", "/path", read, timeout=timeout)
        finally:
            await client.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize("service", [HYDRA, FORGE, THIRD], ids=lambda one: one.setting)
def test_every_service_has_a_kind_and_a_hint_for_every_trouble(service):
    assert set(service.faults) == set(Trouble)
    assert all(hint for _, hint in service.faults.values())


def test_a_service_of_three_lines_is_asked_and_no_redirect_is_followed():
    with FaultyServer(faulty.say(ANSWER)) as server:
        assert ask(server.url) == (302, b"hi")
        assert server.paths == ["/path"]


def test_its_faults_are_of_its_own_class_with_its_own_hint():
    with FaultyServer(faulty.hang_up) as server, pytest.raises(HostError) as caught:
        ask(server.url.replace("://", "://user:hunter2@"))
    assert (caught.value.kind, caught.value.hint) == (Kind.NOTIFY_FAILED, "look at third.url")
    assert "/path" in caught.value.message
    assert "hunter2" not in str(caught.value)


def test_the_time_limit_bounds_the_reading_too():
    async def for_ever(_response):
        await asyncio.Event().wait()

    with FaultyServer(faulty.say(ANSWER)) as server, pytest.raises(HostError) as caught:
        ask(server.url, for_ever, timeout=0.5)
    assert "the answer did not end within 0.5 s" in caught.value.message


@pytest.mark.parametrize(
    ("attempts", "deadline", "requests"), [(3, 100.0, 3), (9, 3.5, 2), (1, 100.0, 1)]
)
def test_a_request_is_repeated_until_attempts_or_time_are_used_up(attempts, deadline, requests):
    clock, sink, limits = SteppedClock(), RememberedEvents(), []
    retries = Retries(attempts, first=1.0, longest=1.0, sleep=clock.sleep)

    async def fail(seconds):
        limits.append(seconds)
        clock.move(1.0)
        raise AgentError(Kind.FORGE_TIMEOUT, "too late")

    repeater = Repeater(events.FORGE_REQUEST_RETRIED, sink, clock, retries)
    with pytest.raises(AgentError, match="too late"):
        asyncio.run(repeater.ask("/path", fail, timeout=2.0, deadline=deadline))
    assert len(limits) == requests
    assert all(seconds <= 2.0 for seconds in limits)
    assert sink.names() == ["forge.request_retried"] * (requests - 1)
