"""Windows, against tables and against a reference that walks from minute to minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.domain.window import Schedule, Window, place_of

EVERY_DAY = frozenset(range(7))
SUNDAY = frozenset({6})
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("Pacific/Apia", "America/Santiago", "Africa/Casablanca", "Pacific/Kiritimati"),
)


def window(start="03:00", length=HOUR, days=EVERY_DAY, zone="UTC"):
    return Window(frozenset(days), time.fromisoformat(start), length, ZoneInfo(zone))


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_a_window_it_is_always_open():
    assert Schedule().is_open(at("2026-11-21T12:00"), "h")
    assert Schedule().next_opening(at("2026-11-21T12:00"), "h") == at("2026-11-21T12:00")


@pytest.mark.parametrize(
    ("given_window", "now", "opens"),
    [
        (window(), "2026-11-21T03:00", "2026-11-21T03:00"),
        (window(), "2026-11-21T03:59", "2026-11-21T03:59"),
        (window(), "2026-11-21T04:00", "2026-11-22T03:00"),
        (window(), "2026-11-21T02:59", "2026-11-21T03:00"),
        # Over midnight, and over the end of the week.
        (window("23:00", 2 * HOUR, SUNDAY), "2026-11-23T00:30", "2026-11-23T00:30"),
        (window("23:00", 2 * HOUR, SUNDAY), "2026-11-23T01:00", "2026-11-29T23:00"),
        # By the clock on the wall there.
        (window("03:00", HOUR, zone="Europe/Berlin"), "2026-07-01T01:30", "2026-07-01T01:30"),
        (window("03:00", HOUR, zone="Europe/Berlin"), "2026-12-01T01:30", "2026-12-01T02:00"),
        # 2026-03-29: two o'clock is three o'clock; an hour's window stays one.
        (window("02:30", HOUR, zone="Europe/Berlin"), "2026-03-29T01:00", "2026-03-29T01:30"),
        (window("02:30", HOUR, zone="Europe/Berlin"), "2026-03-29T02:29", "2026-03-29T02:29"),
        (window("02:30", HOUR, zone="Europe/Berlin"), "2026-03-29T02:30", "2026-03-30T00:30"),
        (window("01:30", HOUR, zone="Europe/Berlin"), "2026-03-29T01:29", "2026-03-29T01:29"),
        # 2026-10-25: half past two comes twice, and the window opens once.
        (window("02:30", HOUR, zone="Europe/Berlin"), "2026-10-25T00:30", "2026-10-25T00:30"),
        (window("02:30", HOUR, zone="Europe/Berlin"), "2026-10-25T01:30", "2026-10-26T01:30"),
        # All week long, with the hour that the autumn adds left out.
        (window("00:00", 168 * HOUR, SUNDAY), "2026-11-21T12:00", "2026-11-21T12:00"),
        (
            window("00:00", 168 * HOUR, SUNDAY, "Europe/Berlin"),
            "2026-10-31T22:30",
            "2026-10-31T23:00",
        ),
    ],
)
def test_a_window_opens_when_its_wall_clock_says_so(given_window, now, opens):
    assert Schedule((given_window,)).next_opening(at(now), "h") == at(opens)


def test_windows_that_meet_are_one():
    night = (window("22:00", 2 * HOUR), window("00:00", 2 * HOUR))
    schedule = Schedule(night, margin=HOUR)
    assert schedule.is_open(at("2026-11-21T23:30"), "h")
    assert schedule.is_open(at("2026-11-22T00:59"), "h")
    assert not schedule.is_open(at("2026-11-22T01:00"), "h")


def test_a_window_with_no_day_never_opens():
    schedule = Schedule((window(days=()),))
    assert not schedule.is_open(at("2026-11-21T03:30"), "h")
    assert schedule.next_opening(at("2026-11-21T03:30"), "h") is None


def test_a_host_has_its_own_place_in_the_splay():
    schedule = Schedule((window(length=2 * HOUR),), splay=HOUR)
    opens = {h: schedule.next_opening(at("2026-11-21T00:00"), h) for h in map(str, range(200))}
    assert all(
        at("2026-11-21T03:00") <= moment < at("2026-11-21T04:00") for moment in opens.values()
    )
    assert len(set(opens.values())) == len(opens)
    assert min(opens.values()) < at("2026-11-21T03:05")
    assert max(opens.values()) > at("2026-11-21T03:55")


# The reference


@lru_cache(maxsize=64)
def walls(zone, day):
    """Each minute of a few days around `day`, with what the wall clock shows then."""
    begin = datetime.combine(day, time(), UTC) - timedelta(days=2)
    minutes = [begin + n * MINUTE for n in range(4 * 24 * 60)]
    return [(m, m.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)) for m in minutes]


def opening_by_walking(zone, day, start):
    wanted = datetime.combine(day, start)
    last = None
    for moment, wall in walls(zone, day):
        if wall == wanted:
            return moment
        if wall > wanted:
            # The clock has leapt over it.
            return last[0] + (wanted - last[1])
        last = (moment, wall)
    raise AssertionError("the day has no such time")


def spans_by_walking(windows, zone, now):
    open_minutes = set()
    for one in windows:
        for days in range(-9, 10):
            day = now.date() + timedelta(days=days)
            if day.weekday() in one.days:
                start = opening_by_walking(zone, day, one.start)
                open_minutes |= {start + n * MINUTE for n in range(one.length // MINUTE)}
    return open_minutes


def walk(minutes, moment, step):
    while moment in minutes:
        moment += step
    return moment


def is_open_by_walking(minutes, now, shift, margin):
    if now not in minutes:
        return False
    start = walk(minutes, now, -MINUTE) + MINUTE
    end = walk(minutes, now, MINUTE)
    return start + shift <= now < end - margin


@st.composite
def cases(draw):
    zone = draw(st.sampled_from(ZONES))
    windows = tuple(
        Window(
            draw(st.frozensets(st.integers(0, 6), min_size=1, max_size=3)),
            time(draw(st.integers(0, 23)), draw(st.integers(0, 59))),
            draw(st.integers(1, 30 * 60)) * MINUTE,
            ZoneInfo(zone),
        )
        for _ in range(draw(st.integers(1, 3)))
    )
    # Most often near a day on which the clock changes somewhere.
    day = draw(
        st.one_of(
            st.sampled_from(
                [
                    date(y, m, d)
                    for y in (2011, 2024, 2026)
                    for m in (3, 4, 10, 11, 12)
                    for d in (1, 5, 25, 29, 30)
                ]
            ),
            st.dates(date(2010, 1, 1), date(2035, 12, 31)),
        )
    )
    now = datetime.combine(day, time(), UTC) + draw(st.integers(0, 1439)) * MINUTE
    return zone, windows, now


@given(cases(), st.integers(0, 90), st.integers(0, 90), st.sampled_from(["a", "b", "web-1"]))
@settings(max_examples=10)
def test_the_arithmetic_is_that_of_someone_who_walks(case, splay, margin, host):
    walk_along(case, splay, margin, host)


@pytest.mark.long
@given(cases(), st.integers(0, 90), st.integers(0, 90), st.sampled_from(["a", "b", "web-1"]))
@settings(max_examples=600)
def test_the_arithmetic_is_that_of_someone_who_walks_for_years(case, splay, margin, host):
    walk_along(case, splay, margin, host)


def walk_along(case, splay, margin, host):
    zone, windows, now = case
    schedule = Schedule(windows, splay * MINUTE, margin * MINUTE)
    minutes = spans_by_walking(windows, zone, now)
    # What never closes has no beginning within sight of the reference.
    assume(len(minutes) < 7 * 24 * 60)
    shift = splay * MINUTE * place_of(host)
    for offset in (-61, -1, 0, 1, 60, 720):
        moment = now + offset * MINUTE
        is_open = is_open_by_walking(minutes, moment, shift, margin * MINUTE)
        assert schedule.is_open(moment, host) == is_open
    opens = schedule.next_opening(now, host)
    if opens is not None and opens > now:
        assert schedule.is_open(opens, host)
        assert not schedule.is_open(opens - MINUTE / 60, host)
        step = 7 * MINUTE
        between = (now + n * step for n in range((opens - now) // step))
        assert not any(schedule.is_open(moment, host) for moment in between)
