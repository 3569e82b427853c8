"""Compares all hosts of a flake with two lock files: evaluates, builds, takes the packages."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.application.flake_update import events
from agent.application.shielded import together
from agent.domain.errors import FlakeError, Kind
from agent.domain.flake_update.comparison import Broken, Effect, HostComparison, System
from agent.domain.flake_update.lock_file import LOCK_FILE, parse_lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.application.flake_update.ports import UpdatePorts
    from agent.application.ports import EventSink
    from agent.domain.flake_update.hosts import HostPatterns
    from agent.domain.flake_update.lock_file import LockFile
    from agent.domain.store_path import StorePath


@contextmanager
def step(sink: EventSink, title: str) -> Iterator[None]:
    """Let what is logged meanwhile belong to a step."""
    sink.emit(events.STEP_STARTED, title=title)
    try:
        yield
    finally:
        sink.emit(events.STEP_ENDED, title=title)


def committed_lock(text: str | None) -> LockFile:
    """Return the committed lock file. FlakeError: LOCK_FILE_MISSING, LOCK_FILE_UNREADABLE."""
    if text is None:
        raise FlakeError(
            Kind.LOCK_FILE_MISSING,
            f"no {LOCK_FILE} is committed beside flake.nix",
            hint=f"commit one first: `nix flake lock`, `git add {LOCK_FILE}`",
        )
    return parse_lock_file(text)


async def find_hosts(ports: UpdatePorts, flake: Path, patterns: HostPatterns) -> tuple[str, ...]:
    """Return the hosts to look at. FlakeError: HOSTS_MISSING; NixError."""
    with step(ports.sink, "Discovering hosts"):
        hosts = patterns.choose(await ports.builds.host_names(flake))
        ports.sink.emit(events.HOSTS_FOUND, hosts=list(hosts))
    return hosts


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What every host evaluates to, before and after."""

    hosts: tuple[str, ...]
    before: Mapping[str, System | Broken]
    after: Mapping[str, System | Broken]

    def unbuilt(self) -> tuple[HostComparison, ...]:
        """Return what becomes of each host as far as an evaluation shows."""
        return tuple(HostComparison(one, self.before[one], self.after[one]) for one in self.hosts)


async def evaluate_hosts(
    ports: UpdatePorts, before: Path, after: Path, hosts: tuple[str, ...]
) -> Evaluated:
    """Evaluate the hosts of the flake in both directories.

    An input that nobody has locked yet is new, and makes no host one that was broken before.
    """
    with step(ports.sink, f"Evaluating {len(hosts)} host(s) before and after"):
        of_before, of_after = await together(
            (
                ports.builds.evaluate(before, hosts, locks_new=True),
                ports.builds.evaluate(after, hosts),
            )
        )
    return Evaluated(hosts, of_before, of_after)


async def build_hosts(
    ports: UpdatePorts, evaluated: Evaluated, *, is_proof: bool
) -> tuple[HostComparison, ...]:
    """Return what becomes of each host; what is the same before and after is built once.

    Unless `is_proof` what cannot be brought into the store is not broken, and its packages are not
    compared.
    """
    before, after = evaluated.before, evaluated.after
    systems = _unique((*before.values(), *after.values()))
    with step(ports.sink, f"Building {len(systems)} system(s)"):
        failed = await ports.builds.realise(systems)
    if is_proof:
        before, after = _built(before, failed), _built(after, failed)
    with step(ports.sink, "Comparing packages"):
        found = await together(
            _compare(ports, one, (before[one], after[one]), failed) for one in evaluated.hosts
        )
    for one in found:
        _log(ports.sink, one)
    return tuple(found)


def _unique(sides: Sequence[System | Broken]) -> tuple[System, ...]:
    """Return each system once, whatever hosts it is of."""
    return tuple({one.derivation: one for one in sides if isinstance(one, System)}.values())


def _built(
    sides: Mapping[str, System | Broken], failed: Mapping[StorePath, Broken]
) -> Mapping[str, System | Broken]:
    return {
        host: failed.get(side.derivation, side) if isinstance(side, System) else side
        for host, side in sides.items()
    }


async def _compare(
    ports: UpdatePorts,
    host: str,
    sides: tuple[System | Broken, System | Broken],
    failed: Mapping[StorePath, Broken],
) -> HostComparison:
    before, after = sides
    one = HostComparison(host, before, after)
    if not (isinstance(before, System) and isinstance(after, System)):
        return one
    if one.verdict is Effect.UNCHANGED or {before.derivation, after.derivation} & set(failed):
        return one
    packages = await ports.builds.closure_diff(before.toplevel, after.toplevel)
    return HostComparison(host, before, after, packages)


def _log(sink: EventSink, one: HostComparison) -> None:
    broken = one.after if isinstance(one.after, Broken) else None
    sink.emit(
        events.HOST_COMPARED,
        host=one.host,
        verdict=one.verdict.value,
        packages=None if one.packages is None else len(one.packages),
        reason=broken.reason if broken else "",
        log=broken.tail if broken else "",
    )
