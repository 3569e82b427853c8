"""What an update changes on each host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.domain.flake_update.lock_file import InputChange
    from agent.domain.flake_update.package_change import PackageChange
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class System:
    """A host's toplevel as the flake evaluates it, built or not."""

    derivation: StorePath
    toplevel: StorePath


class Stage(StrEnum):
    """Where a host fails."""

    EVALUATION = "evaluation"
    BUILD = "build"


@dataclass(frozen=True, slots=True)
class Broken:
    """A host without a toplevel: `reason` is one line, `tail` the last lines of its log."""

    stage: Stage
    reason: str
    tail: str = ""


class Effect(StrEnum):
    """What the update does to a host."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    BREAKS = "breaks"
    """It could be built before."""
    FIXED = "fixed"
    STILL_BROKEN = "still-broken"


@dataclass(frozen=True, slots=True)
class HostComparison:
    """One host before and after; `packages` is None where the closures could not be compared."""

    host: str
    before: System | Broken
    after: System | Broken
    packages: tuple[PackageChange, ...] | None = None

    @property
    def verdict(self) -> Effect:
        """What the update does to it; a system is identified by its toplevel."""
        match self.before, self.after:
            case System() as before, System() as after:
                same = before.toplevel == after.toplevel
                return Effect.UNCHANGED if same else Effect.CHANGED
            case System(), Broken():
                return Effect.BREAKS
            case Broken(), System():
                return Effect.FIXED
            case _:
                return Effect.STILL_BROKEN


class DiffExit(IntEnum):
    """The exit codes of `agent flake-update diff`, on which scripts rely."""

    CHANGED = 0
    FAILED = 1
    LOCK_UNCHANGED = 2
    HOSTS_UNCHANGED = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an update of the lock file changes; no inputs if the lock file is unchanged."""

    inputs: tuple[InputChange, ...]
    hosts: tuple[HostComparison, ...] = ()

    def of(self, *verdicts: Effect) -> tuple[HostComparison, ...]:
        """Return the hosts with one of these verdicts."""
        return tuple(one for one in self.hosts if one.verdict in verdicts)

    @property
    def changed(self) -> tuple[HostComparison, ...]:
        """The hosts that get another system than before."""
        return self.of(Effect.CHANGED, Effect.FIXED)

    @property
    def broken(self) -> tuple[HostComparison, ...]:
        """The hosts that the update leaves without a system."""
        return self.of(Effect.BREAKS, Effect.STILL_BROKEN)

    @property
    def exit_code(self) -> DiffExit:
        """The exit code; hosts that were broken before do not count, unless all are broken."""
        if self.changed:
            return DiffExit.CHANGED
        if self.of(Effect.BREAKS) or (self.hosts and len(self.broken) == len(self.hosts)):
            return DiffExit.FAILED
        return DiffExit.HOSTS_UNCHANGED
