from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from adapters.network_namespace import NAMES, play
from agent.checks.resolver import Address
from agent.checks.tcp import TcpCheck
from agent.checks.tcp.probe import TcpProbe

LONG = timedelta(seconds=30)
BRIEFLY = timedelta(seconds=0.3)
V4 = Address(socket.AF_INET, ("127.0.0.1", 0))
V6 = Address(socket.AF_INET6, ("::1", 0, 0, 0))


def probe(port, host="127.0.0.1", timeout=LONG, addresses=()):
    """Probe a port, by its real name or by the addresses of one that nobody knows."""

    async def resolve(_host):
        return addresses

    asked = TcpProbe(resolve) if addresses else TcpProbe()
    return asyncio.run(asked.probe(TcpCheck("n", host, port, timeout)))


@contextmanager
def listening(host="127.0.0.1", family=socket.AF_INET):
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        yield server


@contextmanager
def refusing():
    """A port that nobody else can have, and nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def silent():
    """A port that answers nothing: its queue of connections is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = server.getsockname()[1]
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(("127.0.0.1", port))
        yield port


def test_a_port_that_accepts_is_well_and_is_sent_nothing():
    with listening() as server:
        result = probe(server.getsockname()[1])
        with server.accept()[0] as connection:
            assert connection.recv(1) == b""
    assert (result.is_well, result.reason) == (True, "")
    assert timedelta(0) < result.latency < LONG


def test_a_port_where_nobody_listens_is_told():
    with refusing() as port:
        result = probe(port)
    assert (result.is_well, result.reason) == (False, "connection refused")
    assert result.is_conclusive


def test_a_port_that_stays_silent_has_its_time_and_no_more():
    with silent() as port:
        result = probe(port, timeout=BRIEFLY)
    assert (result.is_well, result.reason) == (False, "no answer within 0.3 s")
    assert result.is_conclusive


def test_the_other_family_has_its_turn():
    with listening("::1", socket.AF_INET6) as server:
        result = probe(server.getsockname()[1], "n.example", addresses=(V4, V6))
    assert result.is_well


def test_a_silent_family_leaves_time_for_the_other_one():
    with silent() as port:
        result = probe(port, "n.example", timeout=BRIEFLY, addresses=(V4, V6))
    assert "127.0.0.1: no answer within 0.3 s" in result.reason
    assert "::1: " in result.reason


def test_a_name_that_nobody_knows_is_told():
    result = probe(9, "no..name")
    assert (result.is_well, result.reason) == (False, "name does not resolve")


def test_a_name_that_takes_too_long_is_told():
    async def resolve(_host):
        await asyncio.Event().wait()

    check = TcpCheck("n", "slow.example", 9, BRIEFLY)
    result = asyncio.run(TcpProbe(resolve).probe(check))
    assert result.reason == "name does not resolve within 0.3 s"


def test_without_a_descriptor_left_nothing_is_proven():
    async def ask():
        asked = TcpProbe()
        await asked.probe(TcpCheck("n", "127.0.0.1", 9, LONG))  # what is loaded when first needed
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            return await asked.probe(TcpCheck("n", "127.0.0.1", 9, LONG))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    result = asyncio.run(ask())
    assert (result.is_well, result.is_conclusive) == (False, False)
    assert result.reason == os.strerror(errno.EMFILE).lower()


def test_a_socket_that_meets_itself_has_met_nobody():
    assert set(play("only_itself", script=NAMES)) == {"connection refused"}
