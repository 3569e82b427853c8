"""Judges an activated system: healthy, broken or inconclusive."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from agent.domain.unit_names import CONFIRM_UNIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.domain.check import CheckResult

Reason = tuple[str, str]
"""A machine-readable name and a sentence."""


class Verdict(StrEnum):
    """What the checks after an activation say."""

    HEALTHY = "healthy"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The state of the host before the activation; None, or a check not named, means unknown.

    What failed before is not the upgrade's fault, and what is unknown proves nothing.
    """

    checks: dict[str, bool] = field(default_factory=dict)
    """Whether each check passed, by name."""
    failed_units: frozenset[str] | None = None
    hydra: bool | None = None
    """Whether Hydra gave any answer."""
    outside_world: bool | None = None
    """Whether the default gateway or a substituter gave one."""
    clock: bool | None = None
    """Whether the clock was synchronised."""

    def serialise(self) -> str:
        """Return the baseline as one line of JSON."""
        units = None if self.failed_units is None else sorted(self.failed_units)
        return json.dumps(
            {
                "checks": self.checks,
                "failed_units": units,
                "hydra": self.hydra,
                "control": self.outside_world,
                "clock": self.clock,
            }
        )

    @classmethod
    def parse(cls, text: str | None) -> Baseline:
        """Return what `text` contains; what cannot be read is unknown.

        It may have been written by another version of the agent.
        """
        try:
            fields = json.loads(text or "{}")
        except (ValueError, RecursionError):
            fields = {}
        if not isinstance(fields, dict):
            fields = {}
        checks, units = fields.get("checks"), fields.get("failed_units")
        known = checks.items() if isinstance(checks, dict) else ()
        return cls(
            checks={name: well for name, well in known if isinstance(well, bool)},
            failed_units=(
                frozenset(units)
                if isinstance(units, list) and all(isinstance(unit, str) for unit in units)
                else None
            ),
            hydra=_truth(fields.get("hydra")),
            outside_world=_truth(fields.get("control")),
            clock=_truth(fields.get("clock")),
        )


@dataclass(frozen=True, slots=True)
class Findings:
    """The state of the host after the activation; None means unknown, or not asked."""

    checks: tuple[CheckResult, ...] = ()
    failed_units: frozenset[str] | None = frozenset()
    touched_units: frozenset[str] = frozenset()
    """Units that differ between the previous system and this one."""
    hydra: bool | None = None
    outside_world: bool | None = None
    clock: bool | None = None
    timer_jobs: frozenset[str] = frozenset()
    """Failed oneshots that were started by their timer and are not named by a check."""
    unclear_units: frozenset[str] = frozenset()
    """Failed units of which it is unknown whether their timer has started them."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """A verdict, the reasons for it, and the failures that do not change it."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()


def judge(baseline: Baseline, seen: Findings, ignored_units: tuple[str, ...]) -> Assessment:
    """Return what the findings prove; `ignored_units` are shell patterns.

    A system is broken if a required check passed before and fails now, if a unit that this switch
    has changed has newly failed, or if neither Hydra nor anything else outside answers any more
    and both did before.
    Anything else is inconclusive, and never a reason to roll back. A job that its timer, and not
    the switch, has started may fail for any reason.
    """
    failed = new_failures(baseline, seen.failed_units, ignored_units)
    notes = (*_excused(baseline, seen), *_untouched(failed, seen), *_of_timers(failed, seen))
    unproven = tuple(_unproven(baseline, seen, ignored_units))
    broken = (
        *_failed_checks(baseline, seen),
        *_broken_units(failed, seen),
        *_cut_off(baseline, seen),
    )
    if broken and baseline.clock is not False and seen.clock is False:
        lost = ("clock-unsynchronised", "the clock is no longer synchronised")
        return Assessment(Verdict.INCONCLUSIVE, (lost, *broken), notes)
    if broken:
        return Assessment(Verdict.BROKEN, broken, (*unproven, *notes))
    if unproven:
        return Assessment(Verdict.INCONCLUSIVE, unproven, notes)
    return Assessment(Verdict.HEALTHY, (), notes)


def last_known(
    earlier: tuple[CheckResult, ...], now: tuple[CheckResult, ...]
) -> tuple[CheckResult, ...]:
    """Return `now`, with the earlier result in place of each check that was cut short."""
    before = {result.check.name: result for result in earlier}
    return tuple(
        before.get(result.check.name, result) if result.is_cut_short else result for result in now
    )


def new_failures(
    baseline: Baseline, failed: frozenset[str] | None, ignored: tuple[str, ...]
) -> frozenset[str]:
    """Return the units that have failed since the baseline; none if either side is unknown."""
    if failed is None or baseline.failed_units is None:
        return frozenset()
    return _not_ignored(failed - baseline.failed_units, ignored)


def touched_among(units: frozenset[str], touched: frozenset[str]) -> frozenset[str]:
    """Return those of `units` that are in `touched`, or are instances of a template in it."""
    return frozenset(
        unit for unit in units if unit in touched or re.sub("@.*[.]", "@.", unit) in touched
    )


def _failed_checks(baseline: Baseline, seen: Findings) -> Iterator[Reason]:
    for result in seen.checks:
        name = result.check.name
        if result.is_blocking and result.is_conclusive and baseline.checks.get(name) is True:
            yield "check-failed", f"{name}: {result.reason}"


def _broken_units(failed: frozenset[str], seen: Findings) -> Iterator[Reason]:
    touched = touched_among(failed, seen.touched_units)
    for unit in sorted(touched - seen.timer_jobs - seen.unclear_units):
        yield "unit-failed", f"{unit} has failed, and this switch has changed it"


def _cut_off(baseline: Baseline, seen: Findings) -> Iterator[Reason]:
    was_connected = baseline.hydra is True and baseline.outside_world is True
    if was_connected and seen.hydra is False and seen.outside_world is False:
        yield "cut-off", "neither Hydra nor the default gateway nor any substituter answers"


def _unproven(baseline: Baseline, seen: Findings, ignored: tuple[str, ...]) -> Iterator[Reason]:
    for result in seen.checks:
        name, before = result.check.name, baseline.checks.get(result.check.name)
        if not result.is_blocking or before is False:
            continue
        if not result.is_conclusive:
            yield "check-impossible", f"{name}: {result.reason}"
        elif before is None:
            yield "check-new", f"{name}: {result.reason}; it was not checked before the switch"
    if seen.failed_units is None:
        yield "units-unknown", "systemd did not say which units have failed"
    elif baseline.failed_units is None:
        touched = _not_ignored(touched_among(seen.failed_units, seen.touched_units), ignored)
        for unit in sorted(touched - seen.timer_jobs):
            yield "units-unknown", f"{unit} has failed, perhaps already before the switch"
    else:
        newly = new_failures(baseline, seen.failed_units, ignored)
        for unit in sorted(touched_among(newly, seen.touched_units) & seen.unclear_units):
            what = "it is unknown whether its timer or the switch has started it"
            yield "units-unknown", f"{unit} has failed; {what}"
    if seen.hydra is False and not list(_cut_off(baseline, seen)):
        yield "hydra-unreachable", "Hydra does not answer, which proves nothing about this host"


def _excused(baseline: Baseline, seen: Findings) -> Iterator[Reason]:
    for result in seen.checks:
        if not result.is_well and (
            result.check.is_wanted or baseline.checks.get(result.check.name) is False
        ):
            yield "check-excused", f"{result.check.name}: {result.reason}"


def _untouched(failed: frozenset[str], seen: Findings) -> Iterator[Reason]:
    for unit in sorted(failed - touched_among(failed, seen.touched_units)):
        yield "unit-excused", f"{unit} has failed, and this switch has not changed it"


def _of_timers(failed: frozenset[str], seen: Findings) -> Iterator[Reason]:
    for unit in sorted(touched_among(failed, seen.touched_units) & seen.timer_jobs):
        yield "unit-excused", f"{unit} has failed, but its timer has started it, not the switch"


def _not_ignored(units: frozenset[str], ignored: tuple[str, ...]) -> frozenset[str]:
    return frozenset(
        unit
        for unit in units
        # The agent's own unit is judged by its verdict, and waits while the switch is running.
        if unit != CONFIRM_UNIT and not any(fnmatchcase(unit, pattern) for pattern in ignored)
    )


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
