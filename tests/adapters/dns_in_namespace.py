"""Scenes of names and connections, each run as a script of its own inside a network namespace.

    python dns_scenes.py SCENE PING_GROUP_RANGE

A small name server answers over UDP. A scene returns the reasons with which its checks ended,
printed as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.icmp_in_namespace import set_up_loopback, sysctl
from agent.adapters import net
from agent.checks.dns import DnsCheck
from agent.checks.dns.probe import DnsProbe
from agent.checks.prober import Probes
from agent.checks.tcp import TcpCheck
from agent.checks.tcp.probe import TcpProbe

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = timedelta(seconds=20)
BRIEFLY = timedelta(seconds=0.3)
A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME, REFUSED = 0, 2, 3, 5
ZONE = {
    "web.example": ["192.0.2.1", "2001:db8::1"],
    "many.example": [f"192.0.2.{number}" for number in range(1, 10)],
    "empty.example": [],
}
FAULTS = {"broken.example": SERVER_FAILURE, "secret.example": REFUSED}


def reply_to(question: bytes) -> bytes | None:
    """Return a name server's reply; None for a name of which it says nothing."""
    at, labels = 12, []
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    asked = question[12 : at + 5]
    (kind,) = struct.unpack("!H", question[at + 1 : at + 3])
    name = ".".join(labels)
    if name == "silent.example":
        return None
    family, size = (socket.AF_INET, 4) if kind == A else (socket.AF_INET6, 16)
    records = [
        struct.pack("!HHHIH", 0xC00C, kind, 1, 60, size) + socket.inet_pton(family, address)
        for address in ZONE.get(name, [])
        if (":" in address) == (kind == AAAA)
    ]
    code = FAULTS.get(name, NO_ERROR if name in ZONE else NO_SUCH_NAME)
    header = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
    return header + asked + b"".join(records)


@contextlib.contextmanager
def name_server() -> Iterator[None]:
    """Let names be asked of a server of our own, and of nothing else."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
    ):
        server.bind(("127.0.0.1", 53))
        for name, text in {
            "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
            "nsswitch.conf": "hosts: files dns\n",
            "hosts": "192.0.2.7 of-the-file.example\n",
        }.items():
            own = Path(folder, name)
            own.write_text(text)
            subprocess.run(["mount", "--bind", own, f"/etc/{name}"], check=True)

        def serve() -> None:
            while True:
                question, whom = server.recvfrom(1500)
                if (reply := reply_to(question)) is not None:
                    server.sendto(reply, whom)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            files = ["/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts"]
            subprocess.run(["umount", *files], check=True)


def check(host, *addresses, timeout=LONG):
    return DnsCheck(host, host, timeout, addresses)


async def results_of(*checks):
    net.install(asyncio.get_running_loop())
    with name_server():
        async with Probes() as prober:
            results = [await prober.probe(check) for check in checks]
    assert all(result.is_well == (not result.reason) for result in results)
    assert all((result.latency is not None) >= result.is_well for result in results)
    return [[result.reason, result.is_conclusive] for result in results]


async def answers():
    return await results_of(
        check("web.example"),
        check("web.example", "192.0.2.9", "192.0.2.1"),
        check("web.example", "2001:0db8:0:0::1"),
        check("of-the-file.example", "192.0.2.7"),
        check("192.0.2.3"),
    )


async def wrong_answers():
    return await results_of(
        check("many.example", "192.0.2.77"),
        check("of-the-file.example", "192.0.2.1", "192.0.2.2"),
        check("empty.example"),
        check("nobody.example"),
        check("label-of-no-length..example"),
    )


async def no_answers():
    return await results_of(
        check("broken.example"),
        check("secret.example"),
        check("silent.example", timeout=BRIEFLY),
    )


async def no_descriptor():
    """A name cannot be asked for where no socket can be opened."""
    net.install(asyncio.get_running_loop())
    probe = DnsProbe()
    with name_server():
        await probe.probe(check("web.example"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            result = await probe.probe(check("web.example"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return [[result.reason, result.is_conclusive]]


async def only_itself():
    """Where only two ports are left for connections, the kernel connects a socket to itself."""
    sysctl("ipv4/ip_local_port_range", "40000 40001")
    probe = TcpProbe()
    checks = [TcpCheck("n", "127.0.0.1", port, LONG) for port in (40000, 40001) * 20]
    return [(await probe.probe(check)).reason for check in checks]


if __name__ == "__main__":
    set_up_loopback()
    print(json.dumps(asyncio.run(globals()[sys.argv[1]]())))  # noqa: T201 - for the test
