"""Measures whole runs of the agent, as processes, on the demo's throw-away host.

    .venv/bin/python benchmarks/runs.py [ROUNDS]

Prints the median of wall and CPU milliseconds (children included) of: an idle run; a full run that
finds nothing to do; a run that upgrades; `nixos-rebuild switch` alone to the same system; and
`python -c pass`. The upgrades begin on a freshly installed host, with an empty cache of narinfos.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from typing import TYPE_CHECKING

from agent.adapters.process import watch_now
from agent.demo.stage import HOST, open_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.demo.stage import Stage


def measure(prepare: Callable[[], object], run: Callable[[], object], rounds: int) -> str:
    """Return the medians of `rounds` runs, each after `prepare`, as a row."""
    walls, cpus = [], []
    for _ in range(rounds):
        prepare()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        run()
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    low, high = min(walls) * 1000, max(walls) * 1000
    wall, cpu = statistics.median(walls) * 1000, statistics.median(cpus) * 1000
    return f"{wall:8.0f} ms wall ({low:.0f} to {high:.0f}), {cpu:6.0f} ms CPU"


def expect(stage: Stage, outcome: str) -> None:
    """Run the agent, and stop the benchmark if it did something else than is measured."""
    run = stage.upgrade()
    told = run.summary.get("outcome") or run.summary.get("event")
    if told != outcome:
        raise SystemExit(f"expected {outcome}, and the agent told {told}: {run.stderr}")


def rebuild(stage: Stage) -> None:
    """Switch by nixos-rebuild alone to what the agent would switch to."""
    reference = f"{stage.releases[1].flake}#{HOST}"
    argv = ("nixos-rebuild", "switch", "--flake", reference, "--no-update-lock-file", "--no-reexec")
    environment = {**os.environ, **stage.layout.environment()}
    ended = watch_now(argv, env=environment)
    if ended.returncode != 0:
        raise SystemExit(ended.tail)


def main() -> None:
    """Print a row for each kind of run."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with open_stage() as stage:
        first = stage.releases[0].toplevel
        note = stage.layout.state_dir / "idle.json"
        stage.upgrade()
        stage.upgrade()
        idle = measure(lambda: None, lambda: expect(stage, "run.idle"), rounds)
        full = measure(note.unlink, lambda: expect(stage, "nothing-to-do"), rounds)
        stage.build(stage.releases[1])
        upgrade = measure(
            lambda: stage.host.begin(first), lambda: expect(stage, "confirmed"), rounds
        )
        bare = measure(lambda: stage.host.begin(first), lambda: rebuild(stage), rounds)
    python = (sys.executable, "-c", "pass")
    nothing = measure(lambda: None, lambda: watch_now(python, env=os.environ), rounds)
    print(f"idle run                {idle}")
    print(f"full run, nothing to do {full}")
    print(f"run that upgrades       {upgrade}")
    print(f"nixos-rebuild alone     {bare}")
    print(f"python -c pass          {nothing}")


if __name__ == "__main__":
    main()
