"""How long something has been seen, over boots and past clocks that are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.domain.sighting import Moment, Sighting, look

NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
BATTERYLESS = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def at(now, uptime, boot="a", *, is_right=True):
    return Moment(now, is_right, boot, uptime)


def test_what_was_never_seen_has_no_age_but_what_its_traces_say():
    moment = at(NOW, 2 * HOUR)
    assert look(None, "x", moment) == Sighting("x", timedelta(0), moment)
    assert look(None, "x", moment, HOUR).age == HOUR
    assert look(Sighting("y", DAY, moment), "x", moment).age == timedelta(0)


@pytest.mark.parametrize(
    ("known", "age"), [(20000 * DAY, 2 * HOUR), (-DAY, timedelta(0)), (2 * HOUR, 2 * HOUR)]
)
def test_a_trace_counts_for_no_longer_than_the_host_is_up(known, age):
    assert look(None, "x", at(NOW, 2 * HOUR), known).age == age


@pytest.mark.parametrize(
    ("then", "now", "passed"),
    [
        # One boot: the kernel's time, and the wall clock's where it is right and says more.
        (at(NOW, HOUR), at(NOW + HOUR, 2 * HOUR), HOUR),
        (at(NOW, HOUR), at(NOW + DAY, 2 * HOUR), DAY),
        (at(NOW, HOUR), at(NOW - DAY, 2 * HOUR), HOUR),
        # A clock that was wrong, at either look, proves nothing.
        (at(BATTERYLESS, MINUTE, is_right=False), at(NOW, HOUR), HOUR - MINUTE),
        (at(NOW, HOUR), at(BATTERYLESS, 2 * HOUR, is_right=False), HOUR),
        (at(NOW + 30000 * DAY, HOUR, is_right=False), at(NOW, 2 * HOUR), HOUR),
        # Another boot: it was off in between, which the wall clock alone knows.
        (at(NOW, 9 * HOUR), at(NOW + DAY, MINUTE, "b"), DAY),
        (at(NOW, 9 * HOUR), at(NOW - DAY, MINUTE, "b"), MINUTE),
        (at(NOW, 9 * HOUR), at(BATTERYLESS, MINUTE, "b", is_right=False), MINUTE),
        (at(BATTERYLESS, MINUTE, is_right=False), at(NOW, HOUR, "b"), HOUR),
        # Nobody knows which boot it is.
        (at(NOW, MINUTE, ""), at(BATTERYLESS, 9 * HOUR, "", is_right=False), timedelta(0)),
        (at(NOW, MINUTE, ""), at(NOW + HOUR, 9 * HOUR, ""), HOUR),
        # Time of a boot that has gone back is none.
        (at(NOW, HOUR), at(NOW, MINUTE), timedelta(0)),
    ],
)
def test_only_time_that_has_surely_passed_counts(then, now, passed):
    assert look(Sighting("x", DAY, then), "x", now, 99 * DAY) == Sighting("x", DAY + passed, now)


def test_a_host_that_boots_daily_without_a_battery_reaches_any_age():
    seen = None
    for day in range(30):
        for uptime in (MINUTE, 6 * HOUR):
            seen = look(seen, "x", at(BATTERYLESS + uptime, uptime, f"{day}", is_right=False))
    assert 7 * DAY < seen.age < 8 * DAY
