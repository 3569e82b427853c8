"""Counts living hosts that are called dead where the machine is busy: 20 runs of 1000 pings.

    python benchmarks/busy_hosts.py

Every core is kept busy by a process of its own meanwhile. As with check_hosts.py, pings run in a
network namespace of their own; HTTP checks, a hundred a run, ask a server on loopback.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from check_hosts import Silence, in_namespace, prepare_network, server, url

from agent.application.facts.run_checks import run_checks
from agent.checks.prober import Probes
from agent.domain.check import HttpCheck, IcmpCheck

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.domain.check import Check

RUNS = 20
TIMEOUT = timedelta(seconds=0.5)


def main() -> None:
    if "--inside" not in sys.argv:
        in_namespace(__file__)
        return
    prepare_network()
    asyncio.run(measure_all())


async def measure_all() -> None:
    async with server() as port:
        hosts = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
        pings = [IcmpCheck(host, host, TIMEOUT) for host in hosts]
        requests = [HttpCheck(host, url(host, port), TIMEOUT) for host in hosts[:100]]
        print(f"{'':<5} {'runs':>5} {'hosts':>6} {'longest run':>12} {'called dead':>12}")
        with busy_cores():
            await measure("icmp", pings)
            await measure("http", requests)


async def measure(kind: str, checks: Sequence[Check]) -> None:
    dead, longest = 0, 0.0
    for _ in range(RUNS):
        began = time.perf_counter()
        async with Probes() as prober:
            results = await run_checks(prober, checks, timedelta(seconds=60), Silence())
        longest = max(longest, time.perf_counter() - began)
        dead += sum(not result.is_well for result in results)
    print(f"{kind:<5} {RUNS:>5} {len(checks):>6} {longest:>10.2f} s {dead:>12}")


@contextmanager
def busy_cores() -> Iterator[None]:
    processes = [
        multiprocessing.Process(target=burn, daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def burn() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
