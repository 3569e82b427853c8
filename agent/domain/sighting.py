"""How long something has been seen on this host, across boots and changes of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_NOTHING: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, by the wall clock and by the uptime.

    `now` is aware, in UTC; `uptime` is monotonic within a boot (CLOCK_BOOTTIME). `boot_id` is empty
    if unknown.
    """

    now: datetime
    is_clock_right: bool
    """Whether the wall clock was synchronised; if not, it may jump by years at any time."""
    boot_id: str
    uptime: timedelta


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen last, and how long it had been there by then."""

    about: str
    age: timedelta
    at: Moment


def look(
    last: Sighting | None, about: str, moment: Moment, known: timedelta = _NOTHING
) -> Sighting:
    """Return the sighting of `about` at a moment, given the last one.

    For what was not seen before, `known` is its age according to its own traces. A trace older than
    the boot dates from before a change of the clock, so the age is limited to the uptime.
    """
    if last is None or last.about != about:
        return Sighting(about, min(max(known, _NOTHING), moment.uptime), moment)
    return Sighting(about, last.age + _passed(last.at, moment), moment)


def _passed(then: Moment, now: Moment) -> timedelta:
    """Return how much time has certainly passed between two moments.

    The wall clock is used, which includes the time that the host was off, if it was synchronised at
    both moments; otherwise only the uptime counts.
    """
    up = _up_between(then, now)
    if then.is_clock_right and now.is_clock_right:
        return max(up, now.now - then.now)
    return up


def _up_between(then: Moment, now: Moment) -> timedelta:
    if not now.boot_id:
        return _NOTHING
    return max(now.uptime - then.uptime, _NOTHING) if then.boot_id == now.boot_id else now.uptime
