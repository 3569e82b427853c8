"""Names asked of a small name server, by the system's own resolver."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

from adapters.network_namespace import NAMES, play
from agent.checks.dns import DnsCheck
from agent.checks.dns.probe import DnsProbe
from agent.checks.resolver import Address


def test_a_name_with_an_address_is_well_whoever_knows_it():
    assert play("answers", script=NAMES) == [["", True]] * 5


def test_a_name_without_the_address_it_should_have_is_told():
    assert play("wrong_answers", script=NAMES) == [
        [
            (
                "resolves to 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4 and 5 more,"
                " expected 192.0.2.77"
            ),
            True,
        ],
        ["resolves to 192.0.2.7, expected 192.0.2.1, 192.0.2.2", True],
        *[["name does not resolve", True]] * 3,
    ]


def test_a_name_server_that_is_ill_is_told_from_a_name_that_is_unknown():
    assert play("no_answers", script=NAMES) == [
        ["name does not resolve: no name server answers", True],
        ["name does not resolve: no name server answers", True],
        ["name does not resolve within 0.3 s", True],
    ]


def test_where_no_socket_can_be_opened_nothing_is_proven():
    ((reason, is_conclusive),) = play("no_descriptor", script=NAMES)
    assert reason.startswith("name does not resolve")
    assert not is_conclusive


def test_a_scope_is_no_part_of_an_address():
    async def resolve(_host):
        return (Address(socket.AF_INET6, ("fe80::1", 0, 0, 2)),)

    asked = DnsCheck("n", "n.example", timedelta(seconds=9), ("fe80::1",))
    assert asyncio.run(DnsProbe(resolve).probe(asked)).is_well


def test_a_resolver_without_an_answer_is_a_name_without_an_address():
    async def resolve(_host):
        return ()

    result = asyncio.run(DnsProbe(resolve).probe(DnsCheck("n", "n", timedelta(seconds=9))))
    assert (result.is_well, result.reason) == (False, "name does not resolve")
