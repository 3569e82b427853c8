"""ICMP echo with one address: sends requests and reads replies until the result is clear.

icmplib creates the sockets and the requests. Its own `async_ping` and `AsyncSocket.receive` are not
used, because in icmplib 3.0.4 they
  - swallow every error, so that "network is unreachable" looks like a host that does not reply;
  - measure time by the wall clock: if it is set while they wait, a live host is reported as dead;
  - ignore a late reply to an earlier request;
  - read privileged sockets without checking where a packet comes from. The kernel delivers every
    ICMP packet of the host to each such socket: for a thousand sockets, a thousand replies become a
    million packets, buffers overflow, and live hosts are reported as dead.
A connected socket only receives its own peer's packets, and the errors that routers report.

The arrival time of a reply is the kernel's timestamp (SO_TIMESTAMPNS,
Documentation/networking/timestamping.rst): a busy machine may read it long after that. It is a wall
clock time, and is only used if the clock was not set between the request and the reading.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import icmplib  # type: ignore[import-untyped]
from icmplib.utils import unique_identifier  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from agent.checks.resolver import Address

_MAX_INTERVAL: Final = 1.0
"""Seconds until the next request if none is answered; less if the timeout is short."""
_MAX_PACKET: Final = 1500
_HEADER: Final = 8
_PAYLOAD: Final = b"nixos-hydra-agent".ljust(56, b".")
_TELL_ERRORS: Final = {  # IP_RECVERR and IPV6_RECVERR, which Python's socket module lacks
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
_ECHO_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}
_STAMPED: Final = 64
"""SO_TIMESTAMPNS_NEW, the option and the type of its message (asm-generic/socket.h)."""
_STAMP: Final = struct.Struct("=qq")
"""Seconds and nanoseconds: `struct __kernel_timespec`."""
_ONLY_REPLIES: Final = {  # ICMP_FILTER and ICMPV6_FILTER: a bit that is set drops a type
    socket.AF_INET: (255, 1, struct.pack("=I", 0xFFFFFFFF ^ 1)),
    socket.AF_INET6: (
        *(socket.IPPROTO_ICMPV6, 1),
        struct.pack("=8I", *(0xFFFFFFFF ^ 2 * (word == 129 // 32) for word in range(8))),
    ),
}
_BUFFER: Final = 212_992
"""Receive buffer in bytes, Linux's own default: a hundred replies take some 77,000."""
_CLOCK_SET: Final = 5_000_000
"""Nanoseconds by which the wall clock may drift from the monotonic one without having been set."""


class SocketRefusedError(OSError):
    """The process may not open an ICMP socket of either kind."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """When a request was sent, by two clocks in nanoseconds, and the seconds left for its reply."""

    wall: int
    monotonic: int
    allowed: float


class Echo:
    """An exchange with one address: up to `count` requests, of which `required` must be answered.

    Opens a datagram socket (net.ipv4.ping_group_range), or a raw one (CAP_NET_RAW) if that is
    refused. Use it as a context manager, in a running loop.

    Raises:
        OSError: the socket cannot be opened, or nothing can be sent to the address.
    """

    def __init__(self, address: Address, *, count: int, required: int) -> None:
        self._address = address
        self._count = count
        self._required = required
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._identifier = unique_identifier()
        self._sent: dict[int, _Sent] = {}
        self._unanswered: set[int] = set()
        self._lost = 0
        self.replies = 0
        self.latency: float | None = None
        """Seconds from the newest answered request to its reply."""
        self.fault: OSError | None = None
        """The newest error from sending, or from a router."""
        self._icmp = _open(address.family)
        try:
            self._icmp.blocking = False
            self._prepare(self._icmp.sock)
        except OSError:
            self._icmp.close()
            raise

    def __enter__(self) -> Self:
        self._loop.add_reader(self._icmp.sock, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._icmp.sock)
        self._icmp.close()

    @property
    def has_enough(self) -> bool:
        """Whether the required replies have arrived."""
        return self.replies >= self._required

    @property
    def _is_decided(self) -> bool:
        return self.has_enough or self._count - self._lost < self._required

    async def converse(self, within: float) -> None:
        """Send requests and read replies until the result is clear, or for so many seconds.

        The next request is sent as soon as one is answered, or after a while without an answer.
        Late replies count; a request that a router rejects is lost. Each reply may take the time
        that is left when its request is sent. A delay of the event loop uses up no more time than
        the wait was to take.
        """
        interval = min(_MAX_INTERVAL, within / self._count)
        left = within
        while not self._is_decided and left > 0:
            self._news.clear()
            is_asking = len(self._sent) < self._count
            if is_asking:
                self._send(left)
            left -= await self._receive(min(left, interval) if is_asking else left)
        self._read()

    async def _receive(self, seconds: float) -> float:
        """Wait for a packet or an error, and return how many of the seconds that took."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return seconds
        return min(self._loop.time() - began, seconds)

    def _prepare(self, sock: socket.socket) -> None:
        family = self._address.family
        sock.setsockopt(*_TELL_ERRORS[family], 1)
        with suppress(OSError):  # an older kernel: arrival times are unknown
            sock.setsockopt(socket.SOL_SOCKET, _STAMPED, 1)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < _BUFFER:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if self._icmp.is_privileged:
            sock.setsockopt(*_ONLY_REPLIES[family])
        sock.connect(self._address.sockaddr)

    def _send(self, allowed: float) -> None:
        self._read()  # a pending error from a router would make sending fail
        sequence = len(self._sent)
        request = icmplib.ICMPRequest(
            self._address.text, self._identifier, sequence, payload=_PAYLOAD
        )
        self._sent[sequence] = _Sent(time.time_ns(), time.monotonic_ns(), allowed)
        try:
            self._icmp.send(request)
        except icmplib.ICMPLibError as error:
            self._note_loss(_os_error(error))
            return
        self._unanswered.add(sequence)
        self._identifier = request.id  # the kernel chooses it for a datagram socket

    def _read(self) -> None:
        """Read everything that the socket has received."""
        while True:
            try:
                asked = time.time_ns()
                packet, details, _, _ = self._icmp.sock.recvmsg(_MAX_PACKET, 512)
            except OSError:  # nothing more, or an error, which is in the error queue
                break
            stamp = _stamp(details)
            # The kernel starts to timestamp packets with a delay; until then, it gives the time of
            # the reading instead.
            self._take(packet, stamp if stamp is not None and stamp < asked else None)
        while True:
            try:
                _, details, _, _ = self._icmp.sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                return
            for level, kind, data in details:
                if (level, kind) != _TELL_ERRORS[self._address.family]:
                    continue
                # struct sock_extended_err begins with the error's number (linux/errqueue.h).
                number = int.from_bytes(data[:4], sys.byteorder)
                self._note_loss(OSError(number, os.strerror(number)))

    def _take(self, packet: bytes, stamp: int | None) -> None:
        if self._icmp.is_privileged and self._address.family is socket.AF_INET:
            packet = packet[(packet[0] & 0x0F) * 4 :]  # a raw IPv4 socket gives the IP header, too
        if len(packet) < _HEADER or packet[0] != _ECHO_REPLY[self._address.family]:
            return
        identifier = int.from_bytes(packet[4:6], "big")
        sequence = int.from_bytes(packet[6:8], "big")
        if identifier != self._identifier or sequence not in self._unanswered:
            return
        self._unanswered.remove(sequence)
        sent = self._sent[sequence]
        took = _seconds_by_stamp(sent, stamp)
        if took is not None and took > sent.allowed:
            return
        self.replies += 1
        # Without a timestamp, a reply counts as in time.
        self.latency = (time.monotonic_ns() - sent.monotonic) / 1e9 if took is None else took
        self._news.set()

    def _note_loss(self, fault: OSError) -> None:
        self.fault = fault
        self._lost += 1
        if self._is_decided:
            self._news.set()


def _stamp(details: Sequence[tuple[int, int, bytes]]) -> int | None:
    """Return when a packet arrived, in nanoseconds of the wall clock."""
    for level, kind, data in details:
        if (level, kind, len(data)) == (socket.SOL_SOCKET, _STAMPED, _STAMP.size):
            seconds, nanoseconds = _STAMP.unpack(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def _seconds_by_stamp(sent: _Sent, stamp: int | None) -> float | None:
    """Return how long a reply took by the kernel's timestamp; None if that cannot be used."""
    by_wall, by_monotonic = time.time_ns() - sent.wall, time.monotonic_ns() - sent.monotonic
    if stamp is None or abs(by_wall - by_monotonic) > _CLOCK_SET:
        return None
    return max(stamp - sent.wall, 0) / 1e9


def _open(family: socket.AddressFamily) -> icmplib.ICMPv4Socket | icmplib.ICMPv6Socket:
    make = icmplib.ICMPv4Socket if family is socket.AF_INET else icmplib.ICMPv6Socket
    try:
        try:
            return make(privileged=False)
        except icmplib.SocketPermissionError:
            return make(privileged=True)
    except icmplib.SocketPermissionError as error:
        raise SocketRefusedError(
            errno.EPERM,
            "neither datagram ICMP sockets (net.ipv4.ping_group_range) nor raw ones (CAP_NET_RAW)",
        ) from error
    except icmplib.ICMPLibError as error:
        raise _os_error(error) from error


def _os_error(error: icmplib.ICMPLibError) -> OSError:
    """Return the system's own error, which icmplib replaces."""
    cause = error.__context__
    return cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error))


def why_unsent(fault: OSError) -> str:
    """Return the human-readable reason."""
    if isinstance(fault, SocketRefusedError):
        return f"not permitted: {fault.strerror}"
    match fault.errno:
        case errno.ENETUNREACH:
            return "network is unreachable"
        case errno.EHOSTUNREACH:
            return "host is unreachable"
        case errno.EPERM:
            return "not permitted: this host's firewall refuses to send"
        case errno.EACCES:
            return "not permitted: a broadcast address, or prohibited by a route or firewall"
        case _:
            return (fault.strerror or str(fault)).lower()
