"""Lookups that nobody waits for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import CancelledError

import pytest

from agent.adapters.net import DaemonThreads, install, system_trust


def test_what_is_submitted_runs_and_its_result_or_error_arrives():
    threads = DaemonThreads()
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(5)


def test_no_more_runs_at_once_than_there_may_be_threads_and_nothing_is_lost():
    threads = DaemonThreads(max_threads=2)
    both, gate = threading.Barrier(3), threading.Event()
    highest, now, guard = [0], [0], threading.Lock()

    def work(number):
        with guard:
            now[0] += 1
            highest[0] = max(highest[0], now[0])
        if number < 2:
            both.wait(5)
        gate.wait(5)
        with guard:
            now[0] -= 1
        return number

    futures = [threads.submit(work, number) for number in range(20)]
    both.wait(5)
    gate.set()
    assert [future.result(5) for future in futures] == list(range(20))
    assert highest == [2]


def test_what_was_cancelled_before_its_turn_does_not_run():
    threads = DaemonThreads(max_threads=1)
    gate, ran = threading.Event(), []
    first = threads.submit(gate.wait, 5)
    second = threads.submit(ran.append, 1)
    third = threads.submit(ran.append, 2)
    assert second.cancel()
    gate.set()
    assert first.result(5)
    assert third.result(5) is None
    assert ran == [2]


def test_after_its_shutdown_it_takes_nothing_and_cancels_what_waits_if_asked():
    threads = DaemonThreads(max_threads=1)
    gate = threading.Event()
    first, second = threads.submit(gate.wait, 5), threads.submit(print)
    threads.shutdown(wait=True, cancel_futures=True)
    with pytest.raises(RuntimeError):
        threads.submit(print)
    gate.set()
    assert first.result(5)
    with pytest.raises(CancelledError):
        second.result(5)


def test_a_loop_that_uses_it_resolves_names_in_daemon_threads():
    async def run():
        loop = asyncio.get_running_loop()
        install(loop)
        found = await loop.getaddrinfo("127.0.0.1", 80)
        is_daemon = await asyncio.to_thread(lambda: threading.current_thread().daemon)
        return bool(found), is_daemon

    assert asyncio.run(run()) == (True, True)


_BLOCKED = """
    import asyncio, socket, sys, threading
    from agent.adapters import net
    from agent.adapters.clock import SystemClock
    from agent.adapters.hydra.client import HydraClient
    from agent.adapters.http.retries import Retries
    from agent.domain.errors import HydraError

    asked = []

    def never(*arguments, **options):
        asked.append(arguments[0])
        threading.Event().wait()

    socket.getaddrinfo = never

    class Silent:
        def emit(self, event, /, **fields): pass

    async def main():
        net.install(asyncio.get_running_loop())
        async with HydraClient("http://hydra.example.org", timeout=0.2, deadline=9, sink=Silent(),
                               clock=SystemClock(), retries=Retries(attempts=2, first=0)) as client:
            try:
                await client.build(7)
            except HydraError as error:
                print(error.kind, error.message)

    asyncio.run(main())
    print(asked)
"""


def test_a_resolver_that_never_answers_delays_neither_the_request_nor_the_end_of_the_process():
    # Without daemon threads this process would never end.
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_BLOCKED)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert "hydra-timeout" in told
    assert "no connection came about within 0.2 s" in told
    assert "hydra.example.org" in told.splitlines()[-1]


# Trust


@pytest.fixture(name="environment")
def _environment(monkeypatch):
    def only(**variables):
        for name in ("SSL_CERT_FILE", "NIX_SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return only


@pytest.fixture(name="no_own_bundle")
def _no_own_bundle(monkeypatch):
    """A Python that was built to look for certificates where there are none."""
    monkeypatch.setattr("ssl.SSLContext.load_default_certs", lambda *_: None)


@pytest.mark.usefixtures("no_own_bundle")
def test_where_the_system_trusts_nobody_certifi_serves(environment, tmp_path):
    environment(SSL_CERT_DIR=tmp_path / "nowhere")
    assert system_trust().cert_store_stats()["x509_ca"] > 100


@pytest.mark.usefixtures("no_own_bundle")
def test_a_directory_of_certificates_is_trust_enough(environment, tmp_path):
    (tmp_path / "0a1b2c3d.0").write_text("a certificate, read when it is asked for")
    environment(SSL_CERT_DIR=tmp_path)
    assert system_trust().cert_store_stats()["x509_ca"] == 0
