"""Decides whether a reboot that is needed may be done now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.pause import Pause
    from agent.domain.store_path import StorePath
    from agent.domain.window import Schedule

_LOOK_AGAIN: Final = timedelta(minutes=10)
"""How often to look whether something has passed that does not say when it will."""
_WORD_HOLDS: Final = timedelta(hours=1)
"""How late an announced reboot may be; then it is announced again."""


class Obstacle(StrEnum):
    """Why a reboot waits, in the order in which it is asked."""

    PAUSED = "paused"
    CLOCK = "clock"
    WINDOW = "reboot-window"
    INHIBITED = "inhibited"
    USERS = "users"


@dataclass(frozen=True, slots=True)
class RebootPolicy:
    """When the host may reboot."""

    schedule: Schedule
    inhibitor_limit: timedelta
    """How long an inhibitor is respected."""
    user_notice: timedelta
    """How long people who are logged in are warned before."""
    tries_boot: bool
    """Whether the default entry stays on the confirmed system until the new one is confirmed."""


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """Somebody who blocks a shutdown, as logind tells."""

    who: str
    why: str


@dataclass(frozen=True, slots=True)
class RebootPlan:
    """What is remembered of a reboot that waits, by the system that it is for."""

    toplevel: StorePath
    inhibited_since: datetime | None = None
    announced_for: datetime | None = None
    """When it was told to happen, to those who were logged in."""


@dataclass(frozen=True, slots=True)
class RebootConditions:
    """What a reboot would meet; None is unknown."""

    now: datetime
    host: str
    is_clock_synchronised: bool | None
    pause: Pause | None
    inhibitors: tuple[Inhibitor, ...] | None
    people: tuple[str, ...] | None
    """The names of those who are logged in."""


@dataclass(frozen=True, slots=True)
class Go:
    """It may be done now; `forced`: past inhibitors that have been respected long enough."""

    forced: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now; `until` is when to look again, None where nobody knows."""

    obstacle: Obstacle
    reason: str
    until: datetime | None
    plan: RebootPlan
    announces: bool = False
    """Whether those who are logged in have to be told of `plan.announced_for`."""


def judge_reboot(plan: RebootPlan, seen: RebootConditions, policy: RebootPolicy) -> Go | Wait:
    """Return whether the reboot that `plan` is about may be done now.

    An announcement keeps its word: its reboot is neither early, nor held again by those who stay.
    How long it was inhibited counts on from one window to the next: few are as long as the limit.
    Who cannot be asked about may be there: they are respected and warned as those who are known.
    """
    now, schedule = seen.now, policy.schedule
    plan = _as_of_now(plan, now, policy)
    is_free = seen.inhibitors == ()
    if is_free:
        plan = replace(plan, inhibited_since=None)
    unannounced = replace(plan, announced_for=None)
    is_due = plan.announced_for is not None and (
        plan.announced_for <= now < plan.announced_for + _WORD_HOLDS
    )
    if seen.pause is not None:
        told = f"paused by {seen.pause.by}: {seen.pause.reason}"
        return Wait(Obstacle.PAUSED, told, seen.pause.until, unannounced)
    if schedule.windows and not seen.is_clock_synchronised:
        what = "is not" if seen.is_clock_synchronised is False else "may not be"
        told = f"the clock {what} synchronised, and reboot.windows rely on it"
        return Wait(Obstacle.CLOCK, told, now + _LOOK_AGAIN, plan)
    if not schedule.is_open(now, seen.host, has_begun=is_due):
        opens = schedule.next_opening(now, seen.host)
        told = f"outside of reboot.windows, which open next {told_instant(opens)}"
        return Wait(Obstacle.WINDOW, told, opens, unannounced)
    if not is_free and now < (limit := _limit(plan, now, policy)):
        return _inhibited(plan, seen, limit)
    if seen.people != () and not is_due:
        return _warned(plan, seen, policy)
    return Go(forced=not is_free)


def _as_of_now(plan: RebootPlan, now: datetime, policy: RebootPolicy) -> RebootPlan:
    """Return a plan without times of a clock that was set back since: nothing waits for those."""
    since, at = plan.inhibited_since, plan.announced_for
    return replace(
        plan,
        inhibited_since=None if since is not None and since > now else since,
        announced_for=None if at is not None and at > now + policy.user_notice else at,
    )


def _limit(plan: RebootPlan, now: datetime, policy: RebootPolicy) -> datetime:
    return (plan.inhibited_since or now) + policy.inhibitor_limit


def _inhibited(plan: RebootPlan, seen: RebootConditions, limit: datetime) -> Wait:
    who = "perhaps: logind does not say by whom"
    if seen.inhibitors:
        who = "by " + "; ".join(f"{one.who} ({one.why})" for one in seen.inhibitors)
    return Wait(
        Obstacle.INHIBITED,
        f"inhibited {who}; respected until {told_instant(limit)}",
        min(limit, seen.now + _LOOK_AGAIN),
        replace(plan, inhibited_since=plan.inhibited_since or seen.now),
    )


def _warned(plan: RebootPlan, seen: RebootConditions, policy: RebootPolicy) -> Wait:
    at, is_new = plan.announced_for, False
    if at is None or at <= seen.now:
        at, is_new = seen.now + policy.user_notice, True
    who = "logind does not say who is"
    if seen.people:
        who = ", ".join(seen.people)
    return Wait(
        Obstacle.USERS,
        f"{who} logged in: the reboot is at {told_instant(at)}",
        at,
        replace(plan, announced_for=at),
        announces=is_new,
    )


def told_instant(moment: datetime | None) -> str:
    """Return an instant for a person."""
    return "never" if moment is None else moment.strftime("%Y-%m-%d %H:%M UTC")
