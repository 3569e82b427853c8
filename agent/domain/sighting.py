"""How long something has been seen on this host: over boots, and past a clock that is set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_NOTHING: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Moment:
    """The instant of a look, by the wall clock and by the time since the boot.

    `now` is aware, in UTC; `uptime` goes only forward within a boot (CLOCK_BOOTTIME). `boot_id` is
    empty where it is unknown.
    """

    now: datetime
    is_clock_right: bool
    """Whether the wall clock was synchronised; otherwise it may be set by years at any time."""
    boot_id: str
    uptime: timedelta


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was there at the last look, and how long it had been there by then."""

    about: str
    age: timedelta
    at: Moment


def look(
    last: Sighting | None, about: str, moment: Moment, known: timedelta = _NOTHING
) -> Sighting:
    """Return the sighting of `about` at a moment, given the last one.

    Of what was not seen before, `known` is how long it has been there as far as its own traces say;
    a trace that is older than the boot is of a clock that has been set since, and counts for
    nothing beyond it.
    """
    if last is None or last.about != about:
        return Sighting(about, min(max(known, _NOTHING), moment.uptime), moment)
    return Sighting(about, last.age + _passed(last.at, moment), moment)


def _passed(then: Moment, now: Moment) -> timedelta:
    """Return how much time has surely passed between two moments.

    The wall clock counts, and with it the time in which the host was off, where it was right at
    both; otherwise only the time in which the host was up.
    """
    up = _up_between(then, now)
    if then.is_clock_right and now.is_clock_right:
        return max(up, now.now - then.now)
    return up


def _up_between(then: Moment, now: Moment) -> timedelta:
    if not now.boot_id:
        return _NOTHING
    return max(now.uptime - then.uptime, _NOTHING) if then.boot_id == now.boot_id else now.uptime
