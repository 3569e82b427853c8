"""Gates: the reasons not to upgrade now, each a pure judgement of observed facts.

A gate is a name, the stages at which it is asked, the facts it needs (which
`agent.application.watch.ask_gates` collects) and a pure judgement. What can change between two
stages is asked again at the later one. A fact that is unknown never opens a gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from agent.domain.path_record import suspect_until
from agent.domain.reboot import told_instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent.domain.candidate import Candidate
    from agent.domain.check import CheckResult
    from agent.domain.errors import Kind
    from agent.domain.path_record import Standing, TakenBuild
    from agent.domain.pause import Pause
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath


_KIB: Final = 1024
_TOLD: Final = 5
"""How many failed checks a reason names."""


class Stage(StrEnum):
    """When gates are asked."""

    CHOOSE = "choose"
    """Before anything is evaluated or fetched."""
    BEFORE_ACTIVATION = "before-activation"
    """Once the candidate is built, which may be hours later."""
    BEFORE_REBOOT = "before-reboot"
    """Before the reboot into a staged system, and again once the boot loader is ready for it."""

    @property
    def is_late(self) -> bool:
        """Whether the answers of an earlier stage may have changed by now."""
        return self is not Stage.CHOOSE


_TO_ACTIVATE: Final = (Stage.CHOOSE, Stage.BEFORE_ACTIVATION)
_ALWAYS: Final = (*_TO_ACTIVATE, Stage.BEFORE_REBOOT)


class Gate(StrEnum):
    """The gates, in the order in which they are asked: cheap and local first.

    Each has its stages beside its name: a gate without them is a TypeError. A gate that is left out
    of a stage says why.
    """

    stages: frozenset[Stage]

    def __new__(cls, name: str, stages: tuple[Stage, ...]) -> Self:
        """Make a member of a name and the stages at which it is asked.

        Raises:
            TypeError: it would never be asked.
        """
        if not stages:
            raise TypeError(f"the gate {name!r} has no stage")
        gate = str.__new__(cls, name)
        gate._value_ = name
        gate.stages = frozenset(stages)
        return gate

    PAUSED = "paused", _ALWAYS
    HOST_UPGRADE = "host-upgrade", _TO_ACTIVATE
    """Of homes, which are never a reason to reboot."""
    BOOTED_UNEXPECTED = "booted-unexpected", _ALWAYS
    FOREIGN_SYSTEM = "foreign-system", _ALWAYS
    DENIED = "denied", _ALWAYS
    SUSPECT = "suspect", _ALWAYS
    DOWNGRADE = "downgrade", _TO_ACTIVATE
    """What waits for its reboot has been taken already."""
    CLOCK = "clock", _TO_ACTIVATE
    """Before the windows, of which a wrong clock says nothing. A reboot has it as an obstacle."""
    WINDOW = "upgrade-window", _TO_ACTIVATE
    """A reboot has windows of its own."""
    BOOT_SPACE = "boot-space", _TO_ACTIVATE
    """A reboot writes nothing there that is not there yet."""
    STORE_SPACE = "store-space", _TO_ACTIVATE
    """A reboot fetches nothing."""
    HEALTH = "health", _ALWAYS
    AGENT_REMOVED = "agent-removed", (Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT)
    """Nobody can look into the candidate before it is in the store."""
    SPECIALISATION_LOST = "specialisation-lost", (Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT)
    """As above."""


IGNORABLE: Final = frozenset(Gate) - {Gate.DENIED}
"""The gates that a person can pass; a denial is lifted instead."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one gate says: open, or held with a reason for a person."""

    gate: Gate
    is_open: bool
    reason: str
    fault: Kind | None = None
    """What kept the gate from being asked; a run ends with it, and not with the gate."""

    @property
    def name(self) -> str:
        """What holds: the gate, or the fault for which nothing is known of it."""
        return self.gate if self.fault is None else self.fault


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Bytes an unprivileged program may still write; `boot` is None without a boot partition."""

    store: int
    boot: int | None


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What substituting a candidate would bring: paths, bytes over the wire and on disk."""

    paths: int
    download_bytes: int
    unpacked_bytes: int


NOTHING_TO_FETCH: Final = FetchPlan(paths=0, download_bytes=0, unpacked_bytes=0)
"""Of what is in the store already."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A system that the agent has not brought here: which, and since when, as far as is known."""

    what: str
    path: StorePath | None
    since: datetime


def judge_paused(pause: Pause | None) -> Judgement:
    """Hold while a person has said so."""
    if pause is None:
        return Judgement(Gate.PAUSED, is_open=True, reason="not paused")
    ends = f"until {_instant(pause.until)}" if pause.until else "until `agent resume`"
    reason = f"paused {ends} by {pause.by}: {pause.reason}"
    return Judgement(Gate.PAUSED, is_open=False, reason=reason)


def judge_host_upgrade(*, is_at_work: bool | None) -> Judgement:
    """Hold a home while the system below it is, or may be, upgraded: that one goes first."""
    reason = {
        True: "the system below is being upgraded",
        False: "the system below is at rest",
        None: "systemd does not say whether the system below is being upgraded",
    }[is_at_work]
    return Judgement(Gate.HOST_UPGRADE, is_open=is_at_work is False, reason=reason)


def judge_booted(unexpected: Foreign | None, now: datetime, policy: Policy) -> Judgement:
    """Hold while a host has come up with a system that is not the profile's.

    Somebody has picked an older entry of the boot loader's menu, and may need it.
    """
    if unexpected is None:
        reason = "the host has booted what the profile has, or has had since"
        return Judgement(Gate.BOOTED_UNEXPECTED, is_open=True, reason=reason)
    told = f"the host has booted {unexpected.path}, which is not the profile's system"
    until = unexpected.since + policy.foreign_hold
    if now < until:
        reason = f"{told}: held until {_instant(until)}"
        return Judgement(Gate.BOOTED_UNEXPECTED, is_open=False, reason=reason)
    return Judgement(Gate.BOOTED_UNEXPECTED, is_open=True, reason=f"{told}, long enough ago")


def judge_window(now: datetime, policy: Policy) -> Judgement:
    """Hold outside of `upgrade.windows`."""
    schedule = policy.upgrade_schedule
    if schedule.is_open(now, policy.host):
        reason = "open" if schedule.windows else "no windows"
        return Judgement(Gate.WINDOW, is_open=True, reason=reason)
    opens = schedule.next_opening(now, policy.host)
    reason = f"outside of upgrade.windows, which open next {told_instant(opens)}"
    return Judgement(Gate.WINDOW, is_open=False, reason=reason)


def judge_clock(
    *, is_synchronised: bool | None, policy: Policy, unknown_for: timedelta = timedelta(0)
) -> Judgement:
    """Hold where windows rely on a clock that is not known to be synchronised.

    `unknown_for` is how long that has been so. The hold never opens by itself: after
    `clock.patience` the run fails.
    """
    if not policy.upgrade_schedule.windows:
        return Judgement(Gate.CLOCK, is_open=True, reason="nothing relies on it")
    if is_synchronised:
        return Judgement(Gate.CLOCK, is_open=True, reason="synchronised")
    what = "is not synchronised" if is_synchronised is False else "may not be synchronised"
    hours = unknown_for // timedelta(hours=1)
    since = f", for {hours} hours by now" if hours else ""
    reason = f"the clock {what}, and upgrade.windows rely on it{since}"
    return Judgement(Gate.CLOCK, is_open=False, reason=reason)


def judge_foreign(foreign: Foreign | None, now: datetime, policy: Policy) -> Judgement:
    """Hold while somebody else's system is younger than `upgrade.foreign_hold`."""
    if foreign is None:
        reason = "the agent itself has brought what is here"
        return Judgement(Gate.FOREIGN_SYSTEM, is_open=True, reason=reason)
    told = (
        f"the {foreign.what} is {foreign.path or 'unknown'}, which somebody else has brought here"
    )
    until = foreign.since + policy.foreign_hold
    if now < until:
        reason = f"{told}: held until {_instant(until)}"
        return Judgement(Gate.FOREIGN_SYSTEM, is_open=False, reason=reason)
    return Judgement(Gate.FOREIGN_SYSTEM, is_open=True, reason=f"{told} long enough ago")


def judge_denied(standing: Standing) -> Judgement:
    """Hold what is denied on this host."""
    denial = standing.denial
    if denial is None:
        return Judgement(Gate.DENIED, is_open=True, reason="not denied")
    ends = f"until {_instant(denial.until)}" if denial.until else "until it is allowed"
    reason = f"{denial.toplevel} is denied {ends} (by {denial.by}: {denial.reason})"
    return Judgement(Gate.DENIED, is_open=False, reason=reason)


def judge_suspect(standing: Standing, now: datetime) -> Judgement:
    """Hold what has failed for a reason that may pass, longer each time.

    A failure that is still to come is of a clock that was set back since: nobody knows when it was.
    """
    until = suspect_until(standing)
    is_known = standing.suspected_at is not None and standing.suspected_at <= now
    if is_known and until is not None and now < until:
        reason = f"failed here {standing.suspicions} times: tried again from {_instant(until)} on"
        return Judgement(Gate.SUSPECT, is_open=False, reason=reason)
    return Judgement(Gate.SUSPECT, is_open=True, reason="not suspect")


def judge_agent_removed(*, has_it: bool, would_have_it: bool) -> Judgement:
    """Hold a system without the confirm unit that the running one has."""
    if has_it and not would_have_it:
        reason = "the candidate has no unit of this agent: nothing would confirm or upgrade it"
        return Judgement(Gate.AGENT_REMOVED, is_open=False, reason=reason)
    return Judgement(Gate.AGENT_REMOVED, is_open=True, reason="the agent stays")


def judge_specialisation(wanted: str, found: Sequence[str]) -> Judgement:
    """Hold a system that lacks the specialisation which is to run; `found` are those it has."""
    if wanted not in found:
        has = f"it has {', '.join(found)}" if found else "it has none"
        reason = f"the candidate has no specialisation {wanted!r}, which is to run here; {has}"
        return Judgement(Gate.SPECIALISATION_LOST, is_open=False, reason=reason)
    reason = f"the candidate has the specialisation {wanted!r}"
    return Judgement(Gate.SPECIALISATION_LOST, is_open=True, reason=reason)


def judge_downgrade(candidate: Candidate, taken: TakenBuild | None) -> Judgement:
    """Hold a build older than the newest one this host has already taken from the same job.

    Hydra's `latest` can go backwards when an administrator restarts a build (recorded
    `restart-4-latest-regressed.json`). A Hydra whose numbers begin anew, or that has named one of
    far too high a number once, is a person's affair: passing the gate sets a new measure.
    """
    if taken is not None and candidate.build_id < taken.build_id:
        when = f" on {_instant(taken.taken_at)}" if taken.taken_at else ""
        reason = (
            f"build {candidate.build_id} is older than build {taken.build_id}, which this host has"
            f" taken{when} as {taken.toplevel or 'an unknown path'}; if Hydra's numbers have begun"
            " anew, or that one was wrong, `agent allow downgrade` forgets it"
        )
        return Judgement(Gate.DOWNGRADE, is_open=False, reason=reason)
    return Judgement(Gate.DOWNGRADE, is_open=True, reason="not older than what was here")


def judge_store_space(plan: FetchPlan, space: FreeSpace, policy: Policy) -> Judgement:
    """Hold when fetching would leave less than the reserve in the store's file system."""
    left = space.store - plan.unpacked_bytes
    told = f"{_size(plan.unpacked_bytes)} to fetch, {_size(space.store)} free"
    if left < policy.store_reserve:
        reserve = _size(policy.store_reserve)
        reason = f"{told}: less than disk.store_reserve ({reserve}) would be left"
        return Judgement(Gate.STORE_SPACE, is_open=False, reason=reason)
    return Judgement(Gate.STORE_SPACE, is_open=True, reason=told)


def judge_boot_space(free: int, policy: Policy) -> Judgement:
    """Hold when the boot partition has less room than its reserve; `test` leaves it alone.

    `free` is in bytes.
    """
    if not policy.action.moves_profile:
        reason = f"{policy.action} does not write to it"
        return Judgement(Gate.BOOT_SPACE, is_open=True, reason=reason)
    told = f"{_size(free)} free"
    if free < policy.boot_reserve:
        reason = f"{told}: less than disk.boot_reserve ({_size(policy.boot_reserve)})"
        return Judgement(Gate.BOOT_SPACE, is_open=False, reason=reason)
    return Judgement(Gate.BOOT_SPACE, is_open=True, reason=told)


def judge_health(results: Sequence[CheckResult]) -> Judgement:
    """Hold when a check has failed that is not merely wanted."""
    held = [result for result in results if result.is_blocking]
    if held:
        told = "; ".join(f"{result.check.name}: {result.reason}" for result in held[:_TOLD])
        more = f"; and {len(held) - _TOLD} more" if len(held) > _TOLD else ""
        return Judgement(Gate.HEALTH, is_open=False, reason=told + more)
    reason = f"{len(results)} checks well" if results else "no checks"
    return Judgement(Gate.HEALTH, is_open=True, reason=reason)


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _size(count: int) -> str:
    """Return bytes for a person, in binary units with one decimal."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} TiB"
