"""Whether a reboot that is needed may be done: tables, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.facts import ClockState
from agent.domain.gate import Question, Stage, plan_after
from agent.domain.gates import asked_at
from agent.domain.pause import Pause
from agent.domain.reboot import Inhibitor, RebootConditions, RebootPlan, RebootPolicy
from agent.domain.window import Schedule, Window
from fakes import samples
from fakes.samples import NEW

NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
POLICY = RebootPolicy(
    schedule=Schedule(), inhibitor_limit=timedelta(days=1), user_notice=10 * MINUTE, tries_boot=True
)


@dataclass(frozen=True)
class Seen:
    """What a reboot would meet; None is unknown."""

    now: datetime
    is_clock_synchronised: bool | None = True
    pause: Pause | None = None
    inhibitors: tuple[Inhibitor, ...] | None = ()
    people: tuple[str, ...] | None = ()


@dataclass(frozen=True)
class Go:
    """It may be done now; `forced`: past inhibitors that have been respected long enough."""

    forced: bool = False


@dataclass(frozen=True)
class Wait:
    """Not now."""

    gate: str
    reason: str
    until: datetime | None
    plan: RebootPlan
    announces: bool


def judge_reboot(plan: RebootPlan, seen: Seen, policy: RebootPolicy) -> Go | Wait:
    """Ask the gates about the moment of a reboot, in order, as a run does."""
    conditions = RebootConditions(plan, seen.inhibitors, seen.people).as_of(seen.now, policy)
    facts = {"paused": seen.pause, "clock": ClockState(seen.is_clock_synchronised)}
    wanted = replace(samples.POLICY, host="h", reboot=policy)
    question = Question(Stage.BEFORE_REBOOT, wanted, NEW, None, seen.now)
    for gate in asked_at(Stage.BEFORE_REBOOT):
        if not gate.postpones:
            continue
        held = gate.judgement(question, facts.get(gate.name, conditions))
        assert held is not None
        if not held.is_open:
            after = plan_after(gate, held, conditions.plan)
            announces = after.announced_for not in (None, conditions.plan.announced_for)
            return Wait(held.gate, held.reason, held.opens_at, after, announces)
    return Go(forced=conditions.is_inhibited)


CALM = Seen(NOW)
BACKUP = Inhibitor("backup", "a dump is being written")
PLAN = RebootPlan(NEW)


def nightly(start=time(4, 0), length=2 * HOUR):
    window = Window(frozenset(range(7)), start, length, UTC)
    return replace(POLICY, schedule=Schedule((window,), margin=15 * MINUTE))


def test_where_nothing_is_in_the_way_it_is_done():
    assert judge_reboot(PLAN, CALM, POLICY) == Go()


@pytest.mark.parametrize(
    ("changes", "policy", "gate", "until"),
    [
        ({"pause": Pause("audit", "me", NOW, NOW + HOUR)}, POLICY, "paused", NOW + HOUR),
        ({"pause": Pause("audit", "me", NOW)}, POLICY, "paused", None),
        ({"is_clock_synchronised": False}, nightly(), "clock", NOW + 10 * MINUTE),
        ({"is_clock_synchronised": None}, nightly(), "clock", NOW + 10 * MINUTE),
        ({}, nightly(time(5, 0)), "reboot-window", NOW + 20 * MINUTE),
        ({"inhibitors": (BACKUP,)}, POLICY, "inhibited", NOW + 10 * MINUTE),
        ({"people": ("ann",)}, POLICY, "users", NOW + 10 * MINUTE),
        ({"inhibitors": None}, POLICY, "inhibited", NOW + 10 * MINUTE),
        ({"people": None}, POLICY, "users", NOW + 10 * MINUTE),
    ],
)
def test_what_is_in_the_way_is_named_with_when_to_look_again(changes, policy, gate, until):
    verdict = judge_reboot(PLAN, replace(CALM, **changes), policy)
    assert isinstance(verdict, Wait)
    assert (verdict.gate, verdict.until) == (gate, until)
    assert verdict.reason


def test_a_clock_that_is_right_is_relied_on():
    assert judge_reboot(PLAN, CALM, nightly()) == Go()


def test_without_windows_the_clock_does_not_matter():
    assert judge_reboot(PLAN, replace(CALM, is_clock_synchronised=False), POLICY) == Go()


def test_unknown_people_are_respected_as_known_ones_are():
    dumb = replace(CALM, inhibitors=None, people=None)
    first = judge_reboot(PLAN, dumb, POLICY)
    assert "logind does not say by whom" in first.reason
    a_day_later = replace(dumb, now=NOW + timedelta(days=1))
    second = judge_reboot(first.plan, a_day_later, POLICY)
    assert (second.gate, second.announces) == ("users", True)
    assert "logind does not say who is logged in" in second.reason
    due = replace(dumb, now=second.until)
    assert judge_reboot(second.plan, due, POLICY) == Go(forced=True)
    assert judge_reboot(second.plan, replace(due, inhibitors=()), POLICY) == Go(forced=False)


def test_an_inhibitor_is_respected_for_its_time_and_no_longer():
    seen = replace(CALM, inhibitors=(BACKUP,))
    first = judge_reboot(PLAN, seen, POLICY)
    assert isinstance(first, Wait)
    assert first.plan.inhibited_since == NOW
    later = judge_reboot(first.plan, replace(seen, now=NOW + timedelta(hours=23)), POLICY)
    assert isinstance(later, Wait)
    assert later.plan.inhibited_since == NOW
    assert judge_reboot(later.plan, replace(seen, now=NOW + timedelta(days=1)), POLICY) == Go(
        forced=True
    )


def test_an_inhibitor_is_not_respected_for_longer_where_windows_are_short():
    seen, policy = replace(CALM, inhibitors=(BACKUP,)), nightly()
    first = judge_reboot(PLAN, seen, policy)
    assert isinstance(first, Wait)
    noon = judge_reboot(first.plan, replace(seen, now=NOW + 7 * HOUR), policy)
    assert isinstance(noon, Wait)
    assert noon.gate == "reboot-window"
    next_night = judge_reboot(noon.plan, replace(seen, now=NOW + 24 * HOUR), policy)
    assert next_night == Go(forced=True)


def test_one_that_has_ended_does_not_count_for_the_next():
    inhibited = replace(PLAN, inhibited_since=NOW - 23 * HOUR)
    noon = judge_reboot(inhibited, replace(CALM, now=NOW + 7 * HOUR), nightly())
    assert isinstance(noon, Wait)
    assert noon.plan == PLAN
    next_night = replace(CALM, now=NOW + 24 * HOUR, inhibitors=(BACKUP,))
    assert isinstance(judge_reboot(noon.plan, next_night, nightly()), Wait)


def test_people_are_told_once_and_then_it_is_done():
    seen = replace(CALM, people=("ann", "ben"))
    first = judge_reboot(PLAN, seen, POLICY)
    assert isinstance(first, Wait)
    assert first.announces
    assert "ann, ben" in first.reason
    early = judge_reboot(first.plan, replace(seen, now=NOW + MINUTE), POLICY)
    assert isinstance(early, Wait)
    assert (early.announces, early.until) == (False, first.until)
    assert judge_reboot(first.plan, replace(seen, now=NOW + 10 * MINUTE), POLICY) == Go()


def test_it_need_not_wait_for_people_who_have_left():
    first = judge_reboot(PLAN, replace(CALM, people=("ann",)), POLICY)
    assert isinstance(first, Wait)
    assert judge_reboot(first.plan, replace(CALM, now=NOW + MINUTE), POLICY) == Go()


def test_a_word_that_was_given_long_ago_is_given_again():
    old = replace(PLAN, announced_for=NOW - 2 * HOUR)
    verdict = judge_reboot(old, replace(CALM, people=("ann",)), POLICY)
    assert isinstance(verdict, Wait)
    assert verdict.announces
    assert verdict.plan.announced_for == NOW + 10 * MINUTE


def test_times_of_a_clock_that_was_set_back_keep_nothing_waiting():
    later = datetime(9998, 12, 31, tzinfo=UTC)
    inhibited = judge_reboot(
        replace(PLAN, inhibited_since=later), replace(CALM, inhibitors=(BACKUP,)), POLICY
    )
    assert isinstance(inhibited, Wait)
    assert inhibited.plan.inhibited_since == NOW
    warned = judge_reboot(
        replace(PLAN, announced_for=later), replace(CALM, people=("ann",)), POLICY
    )
    assert isinstance(warned, Wait)
    assert (warned.announces, warned.until) == (True, NOW + 10 * MINUTE)


def test_an_announced_reboot_may_use_the_windows_margin():
    policy = nightly(time(4, 0), 50 * MINUTE)  # until 4:50, with a margin from 4:35 on
    announced = replace(PLAN, announced_for=NOW)
    assert judge_reboot(announced, CALM, policy) == Go()
    waits = judge_reboot(PLAN, CALM, policy)
    assert isinstance(waits, Wait)
    assert waits.gate == "reboot-window"


def test_what_has_waited_for_a_window_announces_itself_anew_in_the_next():
    policy = nightly(time(4, 0), 30 * MINUTE)
    waits = judge_reboot(replace(PLAN, announced_for=NOW - MINUTE), CALM, policy)
    assert isinstance(waits, Wait)
    assert waits.plan == PLAN


def test_windows_that_never_open_are_told_so():
    never = replace(POLICY, schedule=Schedule((Window(frozenset(), time(4, 0), HOUR, UTC),)))
    verdict = judge_reboot(PLAN, CALM, never)
    assert isinstance(verdict, Wait)
    assert verdict.until is None
    assert "never" in verdict.reason


@st.composite
def nights(draw):
    """What happens around a host in the minutes of some days."""
    window = Window(
        draw(st.frozensets(st.integers(0, 6), min_size=1)),
        time(draw(st.integers(0, 23)), draw(st.integers(0, 59))),
        draw(st.integers(40, 600)) * MINUTE,
        UTC,
    )
    schedule = Schedule((window,), draw(st.integers(0, 15)) * MINUTE, 15 * MINUTE)
    events = draw(
        st.lists(
            st.tuples(
                st.integers(1, 300),
                st.booleans(),
                st.booleans(),
                st.sampled_from([True, True, True, None, False]),
                st.sampled_from([None, None, None, "paused"]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    return replace(POLICY, schedule=schedule, inhibitor_limit=6 * HOUR), window, events


@given(nights())
@settings(max_examples=150)
def test_it_is_never_done_outside_of_a_window_nor_without_a_word(case):
    policy, window, happenings = case
    plan, now = PLAN, NOW
    told_for: datetime | None = None
    inhibited_since: datetime | None = None
    for minutes, has_people, is_inhibited, is_synchronised, pause in happenings:
        now += minutes * MINUTE
        seen = Seen(
            now=now,
            is_clock_synchronised=is_synchronised,
            pause=Pause("audit", "me", now) if pause else None,
            inhibitors=(BACKUP,) if is_inhibited else (),
            people=("ann",) if has_people else (),
        )
        verdict = judge_reboot(plan, seen, policy)
        if isinstance(verdict, Wait):
            assert verdict.until is None or verdict.until > now
            if verdict.announces:
                told_for = verdict.plan.announced_for
                assert told_for == now + policy.user_notice
            if verdict.gate == "inhibited":
                inhibited_since = inhibited_since or now
            elif verdict.gate in ("paused", "reboot-window"):
                told_for = None
            if not is_inhibited:
                inhibited_since = None
            plan = verdict.plan
            continue
        assert seen.pause is None
        assert seen.is_clock_synchronised is not False
        opened = [window.opening((now + d * timedelta(days=1)).date()) for d in (-1, 0)]
        days = [(now + d * timedelta(days=1)).date().weekday() in window.days for d in (-1, 0)]
        assert any(
            is_day and span.start <= now < span.end
            for span, is_day in zip(opened, days, strict=True)
        )
        if seen.people:
            assert told_for is not None
            assert told_for <= now
        if seen.inhibitors:
            assert verdict.forced
            assert inhibited_since is not None
            assert now - inhibited_since >= policy.inhibitor_limit
        return
