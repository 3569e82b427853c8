"""What everybody may rely on of a Prober, be it real or fake."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from agent.application.facts.run_checks import run_checks
from agent.checks.command import CommandCheck
from agent.checks.dns import DnsCheck
from agent.checks.prober import Probes
from agent.checks.tcp import TcpCheck
from agent.domain.check import HttpCheck, IcmpCheck, UnitCheck
from fakes.events import RememberedEvents
from fakes.prober import FakeProber

LONG = timedelta(seconds=30)


@pytest.fixture
def service():
    """Give the URL of a service that answers every request with 200."""

    def serve():
        with contextlib.suppress(OSError):  # the end: the listener was shut down
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def nobody():
    """Give a URL where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


@pytest.fixture(params=["real", "fake"])
def prober(request, nobody):
    """Give a context manager of the prober."""
    if request.param == "real":
        return Probes()
    reasons = {nobody: "connection refused", "no..name": "name does not resolve"}
    return contextlib.nullcontext(FakeProber(reasons))


def probe(prober, check):
    async def play():
        async with prober as opened, opened.room_for(check):
            return await opened.probe(check)

    return asyncio.run(play())


def test_a_well_check_has_a_latency_and_no_reason(prober, service):
    result = probe(prober, HttpCheck("service", service, LONG))
    assert (result.is_well, result.reason) == (True, "")
    assert timedelta(0) < result.latency < LONG


def test_a_failed_check_has_a_reason(prober, nobody):
    result = probe(prober, HttpCheck("service", nobody, LONG))
    assert (result.is_well, result.reason) == (False, "connection refused")


def test_a_ping_that_cannot_even_begin_is_a_failed_check(prober):
    result = probe(prober, IcmpCheck("canary", "no..name", LONG))
    assert (result.is_well, result.reason) == (False, "name does not resolve")


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (TcpCheck("n", "no..name", 9, LONG), "name does not resolve"),
        (DnsCheck("n", "no..name", LONG), "name does not resolve"),
        (CommandCheck("n", ("sh", "-c", "exit 3"), LONG), "exit code 3"),
        (CommandCheck("n", ("true",), LONG), ""),
    ],
)
def test_every_kind_of_check_is_run(check, reason):
    result = probe(Probes(), check)
    assert (result.check, result.reason, result.is_well) == (check, reason, not reason)


def test_a_unit_is_asked_for_where_there_is_no_systemd_either(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    result = probe(Probes(), UnitCheck("n", "x.service", LONG))
    assert (result.is_well, result.is_conclusive) == (False, False)


@pytest.mark.parametrize("kind", ["tcp", "dns", "command"])
def test_an_answer_that_came_in_time_counts_however_late_it_is_read(kind, service):
    soon, port = timedelta(seconds=0.2), int(service.rstrip("/").rpartition(":")[2])
    check = {
        "tcp": TcpCheck("n", "127.0.0.1", port, soon),
        "dns": DnsCheck("n", "localhost", soon),
        "command": CommandCheck("n", ("true",), soon),
    }[kind]

    async def play():
        async with Probes() as prober:
            checks = run_checks(prober, [check], LONG, RememberedEvents())
            running = asyncio.create_task(checks)
            for _ in range(2):  # the probe has its first turn
                await asyncio.sleep(0)
            time.sleep(1)  # noqa: ASYNC251 - the loop is held up
            return await running

    assert [result.reason for result in asyncio.run(play())] == [""]


def test_nothing_is_loaded_in_the_time_of_a_request():
    code = """
import asyncio, sys, socket
from datetime import timedelta
from agent.checks.prober import Probes
from agent.domain.check import HttpCheck
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
    writer.close()
async def play():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    check = HttpCheck("n", f"http://localhost:{port}/", timedelta(seconds=30))
    async with Probes() as prober:
        prober.room_for(check)
        before = set(sys.modules)
        assert (await prober.probe(check)).is_well
    server.close()
    print(*(set(sys.modules) - before))
asyncio.run(play())
"""
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert told == "\n"


def test_the_result_is_of_the_check_that_was_asked(prober, service):
    check = HttpCheck("service", service, LONG, is_wanted=True)
    assert probe(prober, check).check is check


def test_the_fake_remembers_what_it_was_asked(nobody):
    fake, check = FakeProber(), HttpCheck("service", nobody, LONG)
    probe(contextlib.nullcontext(fake), check)
    assert fake.asked == [check]


def test_a_hundred_http_checks_have_room_at_once():
    async def play():
        room = Probes().room_for(HttpCheck("service", "http://localhost/", LONG))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(room)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await stack.enter_async_context(room)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("check", "room"),
    [
        (DnsCheck("n", "localhost", LONG), 32),
        (CommandCheck("n", ("true",), LONG), 16),
        (UnitCheck("n", "x.service", LONG), 16),
    ],
)
def test_threads_and_programs_are_not_without_number(check, room):
    async def play():
        place = Probes().room_for(check)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(room):
                await stack.enter_async_context(place)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await stack.enter_async_context(place)

    asyncio.run(play())


def test_there_is_room_for_a_ping_even_where_descriptors_are_scarce():
    async def play():
        async with Probes().room_for(IcmpCheck("canary", "192.0.2.1", LONG)):
            return True

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        assert asyncio.run(play())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("check", "library", "other"),
    [
        ('IcmpCheck("n", "no..name", timedelta(1))', "icmplib", "httpx"),
        ('HttpCheck("n", "no-url", timedelta(1))', "httpx", "icmplib"),
    ],
)
def test_only_the_library_that_a_check_needs_is_loaded(check, library, other):
    code = f"""
import asyncio, sys
from datetime import timedelta
from agent.checks.prober import Probes
from agent.checks.command import CommandCheck
from agent.checks.dns import DnsCheck
from agent.checks.tcp import TcpCheck
from agent.domain.check import HttpCheck, IcmpCheck, UnitCheck
async def play():
    async with Probes() as prober:
        await prober.probe({check})
assert "httpx" not in sys.modules and "icmplib" not in sys.modules
asyncio.run(play())
assert {library!r} in sys.modules and {other!r} not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
