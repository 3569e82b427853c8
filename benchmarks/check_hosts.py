"""Measures health checks: wall and CPU time of 1, 10, 100 and 1000 living hosts, and with one dead.

    python benchmarks/check_hosts.py

Pings run in a network namespace of their own (root, or user namespaces), where an interface with
nobody behind it makes the dead host; HTTP checks ask a server on loopback, in a process of its
own. Needs unshare and ip.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.application.facts.run_checks import run_checks
from agent.checks.prober import Probes
from agent.domain.check import HttpCheck, IcmpCheck

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from agent.application.events import Event
    from agent.domain.check import Check

TIMEOUT = timedelta(seconds=1)
SIZES = (1, 10, 100, 1000)


class Silence:
    """An event sink that drops everything."""

    def emit(self, event: Event, /, **fields: object) -> None:
        """Drop it."""

    def bind(self, **fields: object) -> None:
        """Drop them."""


def main() -> None:
    if "--inside" not in sys.argv:
        in_namespace(__file__)
        return
    prepare_network()
    asyncio.run(measure_all())


def in_namespace(script: str) -> None:
    """Run a benchmark again, with `--inside`, where it may make networks."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *as_root, "--net", "--", sys.executable, script, "--inside"]
    root = str(Path(__file__).parents[1])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": root})


def prepare_network() -> None:
    for arguments in (
        "link set lo up",
        "link add void0 type veth peer name void1",
        "link set void0 arp off up",
        "link set void1 up",
        "address add 198.51.100.1/24 dev void0",
    ):
        subprocess.run(["ip", *arguments.split()], check=True)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")


async def measure_all() -> None:
    print(f"{'':<5} {'alive':>6} {'dead':>5} {'wall':>10} {'CPU':>10} {'called dead':>12}")
    await measure_kind("icmp", ping)
    async with server() as port:
        await measure_kind("http", lambda host: HttpCheck(host, url(host, port), TIMEOUT))


async def measure_kind(kind: str, make: Callable[[str], Check]) -> None:
    await measure([make("127.0.0.1")])  # the libraries are loaded once
    for dead in (0, 1):
        for size in SIZES:
            hosts = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(size)]
            checks = [make(host) for host in [*["198.51.100.9"] * dead, *hosts]]
            wall, cpu, failed = await measure(checks)
            print(f"{kind:<5} {size:>6} {dead:>5} {wall:>7.1f} ms {cpu:>7.1f} ms {failed:>12}")


async def measure(checks: Sequence[Check]) -> tuple[float, float, int]:
    """Return wall and CPU time in milliseconds, and how many checks failed."""
    began, used = time.perf_counter(), time.process_time()
    async with Probes() as prober:
        results = await run_checks(prober, checks, timedelta(seconds=60), Silence())
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return wall * 1000, cpu * 1000, sum(not result.is_well for result in results)


def ping(host: str) -> IcmpCheck:
    return IcmpCheck(host, host, TIMEOUT)


def url(host: str, port: int) -> str:
    return f"http://{host}:{port}/"


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    """Serve 200 to every request on all loopback addresses, in another process; yields the port."""
    code = """
import asyncio
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    main()
