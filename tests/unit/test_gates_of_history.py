from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.domain.facts import AgentUnits, Foreign
from agent.domain.gates import (
    agent_removed,
    denied,
    foreign_system,
    ignorable,
    registered,
    suspect,
)
from agent.domain.path_record import Denial, Standing
from fakes.gate_questions import judge
from fakes.samples import NEW, OTHER, POLICY

AT = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAILY = replace(POLICY, foreign_hold=timedelta(days=1))


def test_a_host_where_nobody_else_was_is_open():
    judgement = judge(foreign_system, None, now=AT, policy=DAILY)
    assert (judgement.gate, judgement.is_open) == ("foreign-system", True)


@pytest.mark.parametrize(
    ("passed", "is_open"),
    [
        (timedelta(0), False),
        (timedelta(days=1) - MINUTE, False),
        (timedelta(days=1), True),
        (-MINUTE, False),
    ],
)
def test_someone_else_s_system_is_left_alone_for_a_time(passed, is_open):
    judgement = judge(foreign_system, Foreign("profile", OTHER, AT), now=AT + passed, policy=DAILY)
    assert (judgement.gate, judgement.is_open) == ("foreign-system", is_open)
    assert f"the profile is {OTHER}, which someone else has brought here" in judgement.reason
    assert ("held until 2026-11-22 04:40 UTC" in judgement.reason) is not is_open


def test_someone_else_s_system_is_not_left_alone_where_the_settings_say_so():
    now = replace(POLICY, foreign_hold=timedelta(0))
    assert judge(foreign_system, Foreign("running system", OTHER, AT), now=AT, policy=now).is_open


def test_someone_else_s_system_without_a_store_path_is_told_as_unknown():
    reason = judge(foreign_system, Foreign("running system", None, AT), now=AT, policy=DAILY).reason
    assert "the running system is unknown" in reason


def test_what_is_not_denied_is_open():
    judgement = judge(denied, [Standing(suspicions=9, suspected_at=AT, roll_backs=1)])
    assert (judgement.gate, judgement.is_open) == ("denied", True)


@pytest.mark.parametrize(
    ("until", "told"),
    [(None, "until it is allowed"), (AT, "until 2026-11-21 04:40 UTC")],
)
def test_what_is_denied_is_held_and_the_reason_told(until, told):
    denial = Denial(NEW, "web is down", AT, "anna", build_id=7, until=until)
    judgement = judge(denied, [Standing(), Standing(denial)])
    assert (judgement.gate, judgement.is_open) == ("denied", False)
    assert judgement.reason == f"{NEW} is denied {told} (by anna: web is down)"


@pytest.mark.parametrize(
    ("standing", "passed", "is_open"),
    [
        (Standing(), timedelta(0), True),
        (Standing(suspicions=1, suspected_at=AT), 9 * MINUTE, False),
        (Standing(suspicions=1, suspected_at=AT), 10 * MINUTE, True),
        (Standing(suspicions=2, suspected_at=AT), 19 * MINUTE, False),
        (Standing(suspicions=2, suspected_at=AT), 20 * MINUTE, True),
        (Standing(suspicions=99, suspected_at=AT), timedelta(days=1) - MINUTE, False),
        (Standing(suspicions=99, suspected_at=AT), timedelta(days=1), True),
    ],
)
def test_what_is_suspect_is_held_for_a_while(standing, passed, is_open):
    judgement = judge(suspect, [Standing(), standing], now=AT + passed)
    assert (judgement.gate, judgement.is_open) == ("suspect", is_open)


def test_a_suspicion_tells_how_often_and_until_when():
    judgement = judge(suspect, [Standing(suspicions=2, suspected_at=AT)], now=AT)
    assert judgement.reason == "failed here 2 times: tried again from 2026-11-21 05:00 UTC on"


@pytest.mark.parametrize(
    ("has_it", "would_have_it", "is_open"),
    [(True, True, True), (False, True, True), (False, False, True), (True, False, False)],
)
def test_an_agent_is_not_lost_by_accident(has_it, would_have_it, is_open):
    judgement = judge(agent_removed, AgentUnits(has_it, would_have_it))
    assert (judgement.gate, judgement.is_open) == ("agent-removed", is_open)


def test_a_person_can_pass_any_gate_but_the_one_of_denials():
    assert set(registered()) - set(ignorable()) == {"denied"}
