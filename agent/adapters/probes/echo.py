"""ICMP echo with one address: requests out, replies in, until enough is known.

icmplib makes the sockets and the requests. Its own `async_ping` and `AsyncSocket.receive` are not
used, since (icmplib 3.0.4) they
  - swallow every error, so that "network is unreachable" looks like a silent host;
  - measure time by the wall clock: when it is set while they wait, a live host is called dead;
  - take a late reply to an earlier request for none;
  - read privileged sockets without looking where a packet comes from. The kernel gives each such
    socket every ICMP packet of the host: a thousand sockets make a million packets of a thousand
    replies, buffers overflow, and live hosts are called dead.
A connected socket gets its own peer's packets alone, and the errors that routers report.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

import icmplib  # type: ignore[import-untyped]
from icmplib.utils import unique_identifier  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from agent.adapters.probes.names import Address

_MAX_INTERVAL: Final = 1.0
"""Seconds until the next request while none is answered; less where the time is short."""
_MAX_PACKET: Final = 1500
_HEADER: Final = 8
_PAYLOAD: Final = b"nixos-hydra-agent".ljust(56, b".")
_TELL_ERRORS: Final = {  # IP_RECVERR and IPV6_RECVERR, which Python's socket module lacks
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
_ECHO_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}


class SocketRefusedError(OSError):
    """The process may open no ICMP socket of either kind."""


class Echo:
    """A conversation with one address: up to `count` requests, `required` replies wanted.

    Opens a datagram socket (net.ipv4.ping_group_range), or a raw one (CAP_NET_RAW) only where
    that is refused. Use it as a context manager, in a running loop.

    Raises:
        OSError: there is no such socket, or nothing can be sent to the address.
    """

    def __init__(self, address: Address, *, count: int, required: int) -> None:
        self._address = address
        self._count = count
        self._required = required
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._identifier = unique_identifier()
        self._sent_at: dict[int, float] = {}
        self._unanswered: set[int] = set()
        self._lost = 0
        self.replies = 0
        self.latency: float | None = None
        """Seconds from the newest answered request to its reply, as far as the loop had time."""
        self.fault: OSError | None = None
        """Why requests could not be sent, or what a router said of them; the newest."""
        self._icmp = _open(address.family)
        try:
            self._icmp.blocking = False
            self._icmp.sock.setsockopt(*_TELL_ERRORS[address.family], 1)
            self._icmp.sock.connect(address.sockaddr)
        except OSError:
            self._icmp.close()
            raise

    def __enter__(self) -> Self:
        self._loop.add_reader(self._icmp.sock, self._read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.remove_reader(self._icmp.sock)
        self._icmp.close()

    @property
    def has_enough(self) -> bool:
        """Whether the required replies have come."""
        return self.replies >= self._required

    @property
    def _is_decided(self) -> bool:
        return self.has_enough or self._count - self._lost < self._required

    async def converse(self, until: float) -> None:
        """Ask and listen until it is decided, or until this instant of the loop's clock.

        The next request goes out as soon as one is answered, or after a while without an answer.
        A late reply counts as much as a quick one; what a router objects to is lost.
        """
        interval = min(_MAX_INTERVAL, (until - self._loop.time()) / self._count)
        while not self._is_decided and self._loop.time() < until:
            self._news.clear()
            if len(self._sent_at) < self._count:
                self._send()
                await self._hear(min(until, self._loop.time() + interval))
            else:
                await self._hear(until)

    async def _hear(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
        except TimeoutError:
            return

    def _send(self) -> None:
        self._read()  # a router's objection that waits in the socket would keep it from sending
        sequence = len(self._sent_at)
        request = icmplib.ICMPRequest(
            self._address.text, self._identifier, sequence, payload=_PAYLOAD
        )
        self._sent_at[sequence] = self._loop.time()
        try:
            self._icmp.send(request)
        except icmplib.ICMPLibError as error:
            self._note_loss(_os_error(error))
            return
        self._unanswered.add(sequence)
        self._identifier = request.id  # the kernel chooses it for a datagram socket

    def _read(self) -> None:
        """Take all that the socket has."""
        while True:
            try:
                packet = self._icmp.sock.recv(_MAX_PACKET)
            except OSError:  # nothing more, or an objection: the queue of those has each one
                break
            self._take(packet)
        while True:
            try:
                _, details, _, _ = self._icmp.sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                return
            # struct sock_extended_err begins with the error's number (linux/errqueue.h).
            number = int.from_bytes(details[0][2][:4], sys.byteorder)
            self._note_loss(OSError(number, os.strerror(number)))

    def _take(self, packet: bytes) -> None:
        now = self._loop.time()
        if self._icmp.is_privileged and self._address.family is socket.AF_INET:
            packet = packet[(packet[0] & 0x0F) * 4 :]  # a raw IPv4 socket gives the IP header, too
        if len(packet) < _HEADER or packet[0] != _ECHO_REPLY[self._address.family]:
            return
        identifier = int.from_bytes(packet[4:6], "big")
        sequence = int.from_bytes(packet[6:8], "big")
        if identifier != self._identifier or sequence not in self._unanswered:
            return
        self._unanswered.remove(sequence)
        self.replies += 1
        self.latency = now - self._sent_at[sequence]
        self._news.set()

    def _note_loss(self, fault: OSError) -> None:
        self.fault = fault
        self._lost += 1
        if self._is_decided:
            self._news.set()


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
    """Return the system's own error, which icmplib replaces by prose."""
    cause = error.__context__
    return cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error))


def why_unsent(fault: OSError) -> str:
    """Return the reason for a person."""
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
