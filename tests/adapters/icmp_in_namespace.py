"""Scenes of pinging, each run as a script of its own inside a network namespace.

    python icmp_scenes.py SCENE PING_GROUP_RANGE

A scene returns the reasons with which its checks ended, printed as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from agent.adapters import net
from agent.application.facts.run_checks import run_checks
from agent.checks.icmp import echo
from agent.checks.icmp.probe import IcmpProbe
from agent.checks.prober import Probes
from agent.checks.resolver import Address
from agent.domain.check import IcmpCheck
from fakes.events import RememberedEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOREVER = timedelta(hours=1)
"""A scene that waits for this never ends: its check must be decided before."""
BRIEFLY = timedelta(seconds=0.3)


# What the scenes are made of


def ping(host, timeout=FOREVER, count=3, required=1):
    return IcmpCheck(host, host, timeout, count=count, required_replies=required)


async def reasons_of(*checks):
    async with Probes() as prober:
        results = await run_checks(prober, checks, FOREVER, RememberedEvents())
    assert all(result.is_well == (not result.reason) for result in results)
    assert all(result.latency is not None for result in results if result.is_well)
    return [result.reason for result in results]


async def reason_of_name(check, *addresses: Address):
    """Probe a name that has these addresses."""

    async def resolve(_host):
        return addresses

    return [(await IcmpProbe(resolve).probe(check)).reason]


V4 = Address(socket.AF_INET, ("127.0.0.1", 0))
V6 = Address(socket.AF_INET6, ("::1", 0, 0, 0))
UNROUTED_V6 = Address(socket.AF_INET6, ("2001:db8::1", 0, 0, 0))


def set_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        get_flags, set_flags, up = 0x8913, 0x8914, 0x1
        asked = fcntl.ioctl(any_socket, get_flags, struct.pack("16sh14x", b"lo", 0))
        _, flags = struct.unpack("16sh14x", asked)
        fcntl.ioctl(
            any_socket,
            set_flags,
            struct.pack("16sh14x", b"lo", flags | up),
        )


def sysctl(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)


def ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def add_to_loopback(address: str) -> None:
    """Give lo an IPv6 address, and wait until the kernel takes what is sent to it.

    Even without duplicate address detection an address is tentative until a work queue has put its
    route into the local table (addrconf_dad_work in net/ipv6/addrconf.c); before, pings are lost.
    """
    ip(f"address add {address}/64 dev lo nodad")
    asked = ("ip", "-6", "route", "show", "table", "local", address)
    end = time.monotonic() + 60
    while address not in subprocess.run(asked, capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < end, f"{address} has no route"


def void_network() -> None:
    """Make 198.51.100.0/24 a network with nobody in it."""
    ip("link add void0 type veth peer name void1")
    ip("link set void0 arp off up")
    ip("link set void1 up")
    ip("address add 198.51.100.254/24 dev void0")


@contextlib.contextmanager
def answering(answer: Callable[[int, bytes], list[bytes]]) -> Iterator[list[int]]:
    """Let `answer` take the kernel's place on 127.0.0.1; yields the sequence numbers it has seen.

    `answer` gets the sequence number and the echo request, and gives the packets to send back.
    """
    sysctl("ipv4/icmp_echo_ignore_all", "1")
    seen: list[int] = []

    def serve(raw: socket.socket) -> None:
        while True:
            packet = raw.recv(1500)[20:]
            if packet[0] == 0xFF:  # the end
                return
            if packet[0] == 8:
                sequence = int.from_bytes(packet[6:8], "big")
                seen.append(sequence)
                for reply in answer(sequence, packet):
                    raw.sendto(reply, ("127.0.0.1", 0))

    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        thread = threading.Thread(target=serve, args=[raw])
        thread.start()
        try:
            yield seen
        finally:
            raw.sendto(b"\xff" * 8, ("127.0.0.1", 0))
            thread.join()


def reply_to(request: bytes) -> bytes:
    return with_checksum(b"\0\0\0\0" + request[4:])


def with_checksum(packet: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:]


# The scenes


async def alive():
    return await reasons_of(ping("127.0.0.1"), ping("::1"), ping("127.9.8.7"))


async def silent():
    sysctl("ipv4/icmp_echo_ignore_all", "1")
    sysctl("ipv6/icmp/echo_ignore_all", "1")
    return await reasons_of(ping("127.0.0.1", BRIEFLY), ping("::1", BRIEFLY, count=5))


async def unrouted():
    return await reasons_of(ping("198.51.100.1"), ping("2001:db8::1"))


async def broadcast():
    return await reasons_of(ping("127.255.255.255"))


async def prohibited_and_unreachable_routes():
    ip("route add prohibit 198.51.100.0/24")
    ip("route add unreachable 203.0.113.0/24")
    return await reasons_of(ping("198.51.100.1"), ping("203.0.113.1"))


async def many_alive():
    return await reasons_of(*[ping(f"127.0.{1 + i // 250}.{1 + i % 250}") for i in range(300)])


async def many_alive_with_few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    return await many_alive()


async def some_dead_among_many():
    void_network()
    hosts = [f"198.51.100.{i}" if i % 10 == 0 else f"127.1.0.{i}" for i in range(1, 251)]
    return await reasons_of(*[ping(host, timedelta(seconds=2)) for host in hosts])


async def scoped():
    # On lo, whose carrier never changes: the address of a veth end can be asked too early.
    add_to_loopback("fe80::77")
    return await reasons_of(ping("fe80::77%lo"), ping("fe80::77%none"))


async def some_replies_lost():
    with answering(lambda sequence, request: [reply_to(request)] if sequence == 1 else []):
        return await reasons_of(
            ping("127.0.0.1", BRIEFLY, count=3, required=2),
            ping("127.0.0.1", FOREVER, count=3, required=1),
        )


async def enough_replies():
    with answering(lambda sequence, request: [reply_to(request)] if sequence != 1 else []) as seen:
        told = await reasons_of(ping("127.0.0.1", timedelta(seconds=3), count=9, required=2))
    assert seen == [0, 1, 2], seen
    return told


async def one_reply_twice():
    with answering(lambda sequence, request: [reply_to(request)] * 2 if sequence == 0 else []):
        return await reasons_of(ping("127.0.0.1", BRIEFLY, count=2, required=2))


async def late_reply():
    first: list[bytes] = []

    def answer(sequence, request):
        first.append(request)
        return [reply_to(first[0])] if sequence == 1 else []

    with answering(answer):
        return await reasons_of(ping("127.0.0.1", FOREVER, count=3))


async def replies_to_someone_else():
    def answer(_sequence, request):
        other = (int.from_bytes(request[4:6], "big") ^ 1).to_bytes(2, "big")
        return [with_checksum(b"\0\0\0\0" + other + request[6:]), b"\0\0\xff"]

    with answering(answer):
        return await reasons_of(ping("127.0.0.1", BRIEFLY))


async def router_objects():
    def answer(_sequence, request):
        header = bytes.fromhex("45000054000040004001") + b"\0\0" + b"\x7f\0\0\x01" * 2
        return [with_checksum(b"\3\1" + b"\0" * 6 + header + request)]

    with answering(answer) as seen:
        told = await reasons_of(ping("127.0.0.1", FOREVER, count=3, required=2))
    assert len(seen) == 2, seen
    return told


async def network_goes_down():
    void_network()
    asyncio.get_running_loop().call_later(0.05, ip, "link set void0 down")
    return await reasons_of(ping("198.51.100.1", FOREVER, count=2, required=2))


async def no_descriptor_left():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as newest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (newest.fileno() + 1, hard))
        return await reason_of_name(ping("canary.example"), V4)


async def loop_held_up():
    asyncio.get_running_loop().call_later(0, time.sleep, 2 * BRIEFLY.total_seconds())
    return await reasons_of(ping("127.0.0.1", BRIEFLY, count=1))


def once_they_are_out(act: Callable[..., object], *values: object) -> None:
    """Let the loop do something between the first requests and the reading of their replies."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, act, *values)


def hold_up(seconds: float) -> None:
    once_they_are_out(time.sleep, seconds)


@contextlib.contextmanager
def stamping() -> Iterator[None]:
    """Let the kernel stamp packets; that begins a moment after the first socket has asked for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, echo._STAMPED, 1)
        receiver.bind(("127.0.0.1", 0))
        is_stamped = False
        while not is_stamped:
            receiver.sendto(b"", receiver.getsockname())
            asked = time.time_ns()
            is_stamped = echo._stamp(receiver.recvmsg(1, 512)[1]) < asked
        yield


async def loop_held_up_for_longer_than_any_patience():
    checks = [ping("127.0.0.1", BRIEFLY, count=n, required=n) for n in (1, 2)]
    hold_up(BRIEFLY.total_seconds() + 0.7)
    with stamping():
        return await reasons_of(*checks, ping("::1", BRIEFLY, count=1))


async def reply_that_comes_too_late_while_the_loop_is_held_up():
    answered = threading.Event()

    def answer(_sequence, request):
        time.sleep(BRIEFLY.total_seconds() + 0.1)
        threading.Timer(0.1, answered.set).start()  # once it is sent
        return [reply_to(request)]

    once_they_are_out(answered.wait)
    with stamping(), answering(answer):
        return await reasons_of(ping("127.0.0.1", BRIEFLY, count=1))


async def reply_that_lay_unread():
    hold_up(1)
    with stamping():
        result = await IcmpProbe().probe(ping("127.0.0.1", count=1))
    assert result.latency < timedelta(seconds=1), result
    return [result.reason]


async def kernel_that_stamps_nothing():
    echo._STAMPED = 0x7FFF
    hold_up(2 * BRIEFLY.total_seconds())
    return await reasons_of(ping("127.0.0.1", BRIEFLY, count=1))


async def clock_set_meanwhile():
    """The clock is an hour behind when the request is sent, and right when the reply comes."""
    shifted = -int(3600e9)

    def set_clock() -> None:
        nonlocal shifted
        shifted = 0

    echo.time = SimpleNamespace(
        time_ns=lambda: time.time_ns() + shifted, monotonic_ns=time.monotonic_ns
    )
    once_they_are_out(set_clock)
    hold_up(2 * BRIEFLY.total_seconds())
    with stamping():
        return await reasons_of(ping("127.0.0.1", BRIEFLY, count=1))


async def other_family_when_the_first_is_unrouted():
    return await reason_of_name(ping("both.example"), UNROUTED_V6, V4)


async def other_family_when_the_first_is_silent():
    sysctl("ipv6/icmp/echo_ignore_all", "1")
    return await reason_of_name(ping("both.example", 2 * BRIEFLY), V6, V4)


async def both_families_fail():
    sysctl("ipv4/icmp_echo_ignore_all", "1")
    return await reason_of_name(ping("both.example", BRIEFLY), UNROUTED_V6, V4)


async def both_families_are_silent():
    sysctl("ipv4/icmp_echo_ignore_all", "1")
    sysctl("ipv6/icmp/echo_ignore_all", "1")
    return await reason_of_name(ping("both.example", BRIEFLY), V6, V4)


@contextlib.contextmanager
def silent_dns() -> Iterator[socket.socket]:
    """Let names be asked of a name server that never answers, and of nothing else."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server,
    ):
        name_server.bind(("127.0.0.1", 53))
        for name, text in {
            "resolv.conf": "nameserver 127.0.0.1\n",
            "nsswitch.conf": "hosts: dns\n",
        }.items():
            own = Path(folder, name)
            own.write_text(text)
            subprocess.run(["mount", "--bind", own, f"/etc/{name}"], check=True)
        try:
            yield name_server
        finally:
            subprocess.run(["umount", "/etc/resolv.conf", "/etc/nsswitch.conf"], check=True)


async def silent_name_server():
    net.install(asyncio.get_running_loop())
    with silent_dns() as name_server:
        told = await reasons_of(ping("canary.example", BRIEFLY), ping("127.0.0.1"))
        assert name_server.recv(1500)
    return told


async def names_without_a_name_server():
    return await reasons_of(ping("canary.example"), ping("label-of-no-length..example"))


if __name__ == "__main__":
    set_up_loopback()
    if sys.argv[2]:
        sysctl("ipv4/ping_group_range", sys.argv[2])
    print(json.dumps(asyncio.run(globals()[sys.argv[1]]())))  # noqa: T201 - for the test
