from __future__ import annotations

import asyncio
import errno
import os
import socket
from datetime import timedelta

import pytest

from adapters.network_namespace import BOTH, DATAGRAM, NEITHER, RAW, needs_iproute2, play
from agent.checks.icmp.echo import why_unsent
from agent.checks.icmp.probe import IcmpProbe
from agent.domain.check import IcmpCheck

WELL = ""
NOT_PERMITTED = (
    "not permitted: neither datagram ICMP sockets (net.ipv4.ping_group_range) nor raw ones"
    " (CAP_NET_RAW)"
)
both_kinds_of_socket = pytest.mark.parametrize(
    "permitted", [pytest.param(DATAGRAM, id="datagram"), pytest.param(RAW, id="raw")]
)
either_kind_of_socket = pytest.mark.parametrize(
    "permitted",
    [
        pytest.param(DATAGRAM, id="datagram"),
        pytest.param(RAW, id="raw", marks=pytest.mark.long),
    ],
)
"""A raw socket differs in what it is sent, which `both_kinds_of_socket` show each time."""


@both_kinds_of_socket
def test_a_host_that_answers_is_well_by_ipv4_and_ipv6(permitted):
    assert play("alive", **permitted) == [WELL, WELL, WELL]


def test_without_permission_for_either_kind_of_socket_the_check_fails_and_says_so():
    assert play("alive", **NEITHER) == [NOT_PERMITTED] * 3


@both_kinds_of_socket
def test_a_silent_host_gives_no_reply(permitted):
    assert play("silent", **permitted) == ["no reply (0 of 3)", "no reply (0 of 5)"]


@either_kind_of_socket
def test_a_host_without_a_route_is_told_at_once(permitted):
    assert play("unrouted", **permitted) == ["network is unreachable"] * 2


def test_a_broadcast_address_is_no_host():
    (reason,) = play("broadcast", **DATAGRAM)
    assert reason == "not permitted: a broadcast address, or prohibited by a route or firewall"


@needs_iproute2
def test_a_route_that_prohibits_is_told_from_one_that_ends():
    assert play("prohibited_and_unreachable_routes", **DATAGRAM) == [
        "not permitted: a broadcast address, or prohibited by a route or firewall",
        "host is unreachable",
    ]


@either_kind_of_socket
def test_none_of_three_hundred_living_hosts_is_called_dead(permitted):
    assert play("many_alive", **permitted) == [WELL] * 300


def test_more_hosts_than_descriptors_are_asked_one_after_the_other():
    assert play("many_alive_with_few_descriptors", **DATAGRAM) == [WELL] * 300


@needs_iproute2
@both_kinds_of_socket
def test_of_many_hosts_the_dead_alone_are_called_dead(permitted):
    assert play("some_dead_among_many", **permitted) == [
        "no reply (0 of 3)" if number % 10 == 0 else WELL for number in range(1, 251)
    ]


@needs_iproute2
@either_kind_of_socket
def test_a_link_local_address_is_asked_in_its_scope(permitted):
    assert play("scoped", **permitted) == [WELL, "name does not resolve"]


def test_too_few_replies_are_counted():
    assert play("some_replies_lost", **BOTH) == ["1 of 3 replies, 2 required", WELL]


def test_with_enough_replies_nothing_more_is_sent():
    assert play("enough_replies", **BOTH) == [WELL]


def test_one_reply_that_comes_twice_is_one_reply():
    assert play("one_reply_twice", **BOTH) == ["1 of 2 replies, 2 required"]


def test_a_late_reply_counts():
    assert play("late_reply", **BOTH) == [WELL]


def test_replies_to_another_program_do_not_count():
    assert play("replies_to_someone_else", **RAW) == ["no reply (0 of 3)"]


@pytest.mark.parametrize("permitted", [BOTH, RAW], ids=["datagram", "raw"])
def test_a_router_that_objects_ends_the_check_once_too_few_replies_can_come(permitted):
    assert play("router_objects", **permitted) == ["host is unreachable"]


@needs_iproute2
@either_kind_of_socket
def test_a_network_that_goes_down_meanwhile_is_told(permitted):
    assert play("network_goes_down", **permitted) == ["network is unreachable"]


def test_a_process_without_a_descriptor_left_says_so():
    assert play("no_descriptor_left", **DATAGRAM) == ["too many open files"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENETUNREACH, "network is unreachable"),
        (errno.EHOSTUNREACH, "host is unreachable"),
        (errno.EPERM, "not permitted: this host's firewall refuses to send"),
        (errno.EAFNOSUPPORT, "address family not supported by protocol"),
    ],
)
def test_the_systems_faults_are_told_in_words(number, reason):
    assert why_unsent(OSError(number, os.strerror(number))) == reason


@either_kind_of_socket
def test_a_reply_that_came_while_the_agent_was_held_up_counts(permitted):
    assert play("loop_held_up", **permitted) == [WELL]


@either_kind_of_socket
def test_a_reply_that_came_in_time_counts_however_late_it_is_read(permitted):
    assert play("loop_held_up_for_longer_than_any_patience", **permitted) == [WELL] * 3


def test_a_reply_that_came_too_late_does_not_count_though_it_is_read_with_others():
    assert play("reply_that_comes_too_late_while_the_loop_is_held_up", **BOTH) == [
        "no reply (0 of 1)"
    ]


def test_the_latency_is_that_of_the_reply_and_not_of_who_reads_it():
    assert play("reply_that_lay_unread", **DATAGRAM) == [WELL]


@pytest.mark.parametrize("scene", ["kernel_that_stamps_nothing", "clock_set_meanwhile"])
def test_a_reply_counts_where_it_cannot_be_known_when_it_came(scene):
    assert play(scene, **DATAGRAM) == [WELL]


def test_the_other_family_is_asked_where_the_first_has_no_route():
    assert play("other_family_when_the_first_is_unrouted", **DATAGRAM) == [WELL]


def test_the_other_family_is_asked_where_the_first_is_silent():
    assert play("other_family_when_the_first_is_silent", **DATAGRAM) == [WELL]


def test_two_families_that_fail_differently_are_both_told():
    assert play("both_families_fail", **DATAGRAM) == [
        "2001:db8::1: network is unreachable; 127.0.0.1: no reply (0 of 3)"
    ]


def test_two_families_that_fail_alike_are_told_once():
    assert play("both_families_are_silent", **DATAGRAM) == ["no reply (0 of 3)"]


def test_a_name_server_that_is_silent_delays_neither_the_check_nor_the_end():
    assert play("silent_name_server", **DATAGRAM) == ["name does not resolve within 0.3 s", WELL]


def test_a_name_without_an_address_is_a_failed_check():
    assert play("names_without_a_name_server", **DATAGRAM) == [
        "name does not resolve: no name server answers",
        "name does not resolve",
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "name does not resolve"),
        (
            socket.gaierror(socket.EAI_AGAIN, "busy"),
            "name does not resolve: no name server answers",
        ),
        (UnicodeError("label too long"), "name does not resolve"),
        (None, "name does not resolve"),
    ],
)
def test_the_resolvers_fault_is_the_checks_reason(fault, reason):
    async def resolve(_host):
        if fault is not None:
            raise fault
        return ()

    check = IcmpCheck("canary", "canary.example", timedelta(seconds=5))
    result = asyncio.run(IcmpProbe(resolve).probe(check))
    assert (result.is_well, result.reason) == (False, reason)
