from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from agent.application.facts.ask_gates import earliest
from agent.domain.check import CheckResult, IcmpCheck, StatusRange
from agent.domain.facts import (
    AgentUnits,
    Booted,
    ClockState,
    FetchPlan,
    Foreign,
    FreeSpace,
    SystemBelow,
)
from agent.domain.gate import Judgement
from agent.domain.gates import (
    agent_removed,
    boot_space,
    booted_unexpected,
    clock,
    denied,
    downgrade,
    foreign_system,
    health,
    host_upgrade,
    ignorable,
    paused,
    registered,
    store_space,
    suspect,
    upgrade_window,
)
from agent.domain.path_record import Denial, Standing, TakenBuild
from agent.domain.pause import Pause
from agent.domain.policy import Action
from agent.domain.window import Schedule, Window
from fakes.gate_questions import judge
from fakes.runs import NOW
from fakes.samples import NEW, OTHER, POLICY

MIB = 1 << 20


@pytest.mark.parametrize(
    ("highest", "is_open"), [(None, True), (27, True), (28, True), (32, False)]
)
def test_an_older_build_than_was_taken_before_is_held(highest, is_open):
    taken = None if highest is None else TakenBuild(highest, OTHER, NOW)
    judgement = judge(downgrade, taken)
    assert judgement.is_open is is_open
    assert is_open or "28 is older than build 32" in judgement.reason


def test_the_build_that_set_the_measure_is_named():
    assert judge(downgrade, TakenBuild(32, OTHER, NOW)).reason == (
        "build 28 is older than build 32, which this host has taken on 2026-11-21 04:40 UTC as"
        f" {OTHER}; if Hydra's numbers have begun anew, or that one was wrong, `agent allow"
        " downgrade` forgets it"
    )
    reason = judge(downgrade, TakenBuild(32, None, None)).reason
    assert "than build 32, which this host has taken, or is on, as an unknown path; if" in reason
    assert judge(downgrade, None).reason == "not older than what was here"


def test_a_closed_window_says_when_it_opens_next():
    night = replace(
        POLICY,
        upgrade_schedule=Schedule((Window(frozenset(range(7)), time(4), timedelta(hours=2), UTC),)),
    )
    assert judge(upgrade_window, None, policy=POLICY).reason == "no windows"
    is_open = judge(upgrade_window, None, policy=night, now=datetime(2026, 11, 21, 5, tzinfo=UTC))
    assert (is_open.is_open, is_open.reason) == (True, "open")
    at = datetime(2026, 11, 21, 7, tzinfo=UTC)
    closed = judge(upgrade_window, None, policy=night, now=at)
    assert (closed.is_open, closed.opens_at) == (False, datetime(2026, 11, 22, 4, tzinfo=UTC))
    assert closed.reason == ("outside of upgrade.windows, which open next 2026-11-22 04:00 UTC")


@pytest.mark.parametrize(
    ("has_windows", "is_synchronised", "is_open"),
    [
        (True, True, True),
        (True, None, False),
        (True, False, False),
        (False, False, True),
        (False, None, True),
    ],
)
def test_a_wrong_clock_holds_where_windows_stand_on_it(has_windows, is_synchronised, is_open):
    night = Window(frozenset(range(7)), time(4), timedelta(hours=2), UTC)
    schedule = Schedule((night,) if has_windows else ())
    policy = replace(POLICY, upgrade_schedule=schedule)
    judgement = judge(clock, ClockState(is_synchronised), policy=policy)
    assert (judgement.gate, judgement.is_open) == ("clock", is_open)


def test_a_clock_that_holds_says_for_how_long():
    night = Window(frozenset(range(7)), time(4), timedelta(hours=2), UTC)
    policy = replace(POLICY, upgrade_schedule=Schedule((night,)))
    told = judge(clock, ClockState(None, timedelta(hours=30)), policy=policy)
    assert told.reason.endswith(
        "may not be synchronised, and upgrade.windows rely on it, for 30 hours by now"
    )
    assert "hours" not in judge(clock, ClockState(is_synchronised=False), policy=policy).reason


def test_where_nobody_else_was_nothing_is_foreign():
    assert judge(foreign_system, None).is_open


@pytest.mark.parametrize(
    ("age", "is_open"),
    [(timedelta(0), False), (timedelta(hours=23, minutes=59), False), (timedelta(days=1), True)],
)
def test_someone_elses_system_is_left_alone_for_a_time(age, is_open):
    judgement = judge(foreign_system, Foreign("profile", OTHER, NOW - age))
    assert judgement.is_open is is_open
    assert f"the profile is {OTHER}, which someone else has brought here" in judgement.reason


def test_a_foreign_hold_tells_when_it_ends():
    judgement = judge(foreign_system, Foreign("running system", None, NOW))
    assert judgement.reason.endswith("held until 2026-11-22 04:40 UTC")
    assert "the running system is unknown" in judgement.reason


@pytest.mark.parametrize(
    ("until", "told"),
    [(None, "until it is allowed"), (NOW + timedelta(days=2), "until 2026-11-23 04:40 UTC")],
)
def test_what_is_denied_is_held_with_who_why_and_until_when(until, told):
    denial = Denial(NEW, "it broke sshd", NOW, "eve", until=until)
    judgement = judge(denied, [Standing(denial=denial)])
    assert not judgement.is_open
    assert judgement.reason == f"{NEW} is denied {told} (by eve: it broke sshd)"
    assert judge(denied, [Standing(suspicions=3, suspected_at=NOW)]).is_open


@pytest.mark.parametrize(
    ("suspicions", "minutes"),
    [(1, 10), (2, 20), (3, 40), (8, 1280), (9, 1440), (10**6, 1440)],
)
def test_what_is_suspect_is_left_alone_longer_each_time_up_to_a_day(suspicions, minutes):
    found = Standing(suspicions=suspicions, suspected_at=NOW)
    end = NOW + timedelta(minutes=minutes)
    judgement = judge(suspect, [found], now=end - timedelta(seconds=1))
    assert not judgement.is_open
    assert f"failed here {suspicions} times" in judgement.reason
    assert judge(suspect, [found], now=end).is_open


def test_a_failure_that_is_still_to_come_holds_nothing():
    """The clock was set back since: nobody knows when it was."""
    later = NOW + timedelta(days=3000)
    assert judge(suspect, [Standing(suspicions=1, suspected_at=later)]).is_open


def test_what_never_failed_is_not_suspect():
    assert judge(suspect, [Standing()]).is_open


@pytest.mark.parametrize(
    ("has_it", "would_have_it", "is_open"),
    [(True, True, True), (True, False, False), (False, True, True), (False, False, True)],
)
def test_a_system_that_would_lose_the_agent_is_held(has_it, would_have_it, is_open):
    assert judge(agent_removed, AgentUnits(has_it, would_have_it)).is_open is is_open


def test_a_person_can_pass_every_gate_but_a_denial():
    assert set(registered()) - set(ignorable()) == {"denied"}


@pytest.mark.parametrize(
    ("free", "unpacked", "is_open"),
    [(1024 * MIB, 0, True), (1024 * MIB, 1, False), (2048 * MIB, 1024 * MIB, True)],
)
def test_the_store_keeps_its_reserve(free, unpacked, is_open):
    judgement = judge(store_space, (FetchPlan(3, 10, unpacked), FreeSpace(free, None)))
    assert judgement.is_open is is_open


@pytest.mark.parametrize(
    ("boot", "action", "is_open"),
    [
        (64 * MIB, Action.SWITCH, True),
        (64 * MIB - 1, Action.SWITCH, False),
        (64 * MIB - 1, Action.BOOT, False),
        (64 * MIB - 1, Action.TEST, True),
        (0, Action.DRY_ACTIVATE, True),
    ],
)
def test_the_boot_partition_keeps_its_reserve_where_it_is_written(boot, action, is_open):
    wanted = replace(POLICY, action=action)
    assert judge(boot_space, FreeSpace(0, boot), policy=wanted).is_open is is_open


@pytest.mark.parametrize(
    ("free", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (84 * MIB, "84.0 MiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_room_is_told_in_units_that_people_read(free, told):
    reason = judge(store_space, (FetchPlan(0, 0, 0), FreeSpace(free, None))).reason
    assert f"0 B to fetch, {told} free" in reason


def result(name, *, well, wanted=False):
    check = IcmpCheck(name, name, timedelta(seconds=1), is_wanted=wanted)
    return CheckResult(check, well, "" if well else "no reply")


def test_all_checks_well_is_open():
    assert judge(health, [result("a", well=True), result("b", well=True)]).reason == "2 checks well"


def test_no_checks_is_open():
    assert judge(health, []).is_open


def test_a_failed_check_holds_and_is_named():
    judgement = judge(health, [result("a", well=True), result("b", well=False)])
    assert not judgement.is_open
    assert judgement.reason == "b: no reply"


def test_a_failed_check_that_is_merely_wanted_does_not_hold():
    assert judge(health, [result("a", well=False, wanted=True)]).is_open


def test_of_many_failed_checks_the_first_are_named_and_the_rest_counted():
    judgement = judge(health, [result(f"h{n}", well=False) for n in range(8)])
    assert judgement.reason.count("no reply") == 5
    assert judgement.reason.endswith("; and 3 more")
    assert "more" not in judge(health, [result(f"h{n}", well=False) for n in range(5)]).reason


def test_a_status_range_holds_both_its_ends():
    bounds = StatusRange(200, 299)
    assert 200 in bounds
    assert 299 in bounds
    assert 300 not in bounds
    assert str(bounds) == "200-299"
    assert str(StatusRange(204, 204)) == "204"


def test_targets_are_told_for_both_kinds_of_check():
    from agent.domain.check import HttpCheck

    assert IcmpCheck("n", "192.0.2.1", timedelta(seconds=1)).target == "192.0.2.1"
    assert HttpCheck("n", "http://x/", timedelta(seconds=1)).target == "http://x/"


LATER = NOW + timedelta(hours=5)
FOREIGN = Foreign("profile", OTHER, LATER - POLICY.foreign_hold)


@pytest.mark.parametrize(
    ("gate", "known", "opens_at"),
    [
        (paused, Pause("audit", "eve", NOW, LATER), LATER),
        (paused, Pause("audit", "eve", NOW), None),
        (host_upgrade, SystemBelow(is_upgrading=True), NOW + timedelta(minutes=2)),
        (booted_unexpected, Booted(FOREIGN), LATER),
        (foreign_system, FOREIGN, LATER),
        (denied, [Standing(Denial(NEW, "it broke", NOW, "eve", until=LATER))], LATER),
        (denied, [Standing(Denial(NEW, "it broke", NOW, "eve"))], None),
        (suspect, [Standing(suspicions=1, suspected_at=NOW)], NOW + timedelta(minutes=10)),
        (downgrade, TakenBuild(32, OTHER, NOW), None),
    ],
)
def test_a_gate_that_holds_says_when_it_may_open_as_far_as_it_knows(gate, known, opens_at):
    judgement = judge(gate, known)
    assert (judgement.is_open, judgement.opens_at) == (False, opens_at)


def test_what_several_gates_hold_may_go_on_when_the_last_of_them_opens():
    def held(at):
        return Judgement("paused", is_open=False, reason="", opens_at=at)

    assert earliest([held(None)]) is None
    assert earliest([held(LATER), held(None), held(NOW)]) == LATER
