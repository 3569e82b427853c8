from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.domain.path_record import Fault, Standing, fault_of, suspect_until

AT = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("suspicions", "wait"),
    [
        (1, timedelta(minutes=10)),
        (2, timedelta(minutes=20)),
        (3, timedelta(minutes=40)),
        (8, timedelta(minutes=1280)),
        (9, timedelta(days=1)),
        (1_000_000, timedelta(days=1)),
    ],
)
def test_a_suspect_path_waits_twice_as_long_each_time_up_to_a_day(suspicions, wait):
    assert suspect_until(Standing(suspicions=suspicions, suspected_at=AT)) == AT + wait


@pytest.mark.parametrize(
    "standing", [Standing(), Standing(suspicions=1), Standing(suspected_at=AT, roll_backs=1)]
)
def test_what_never_was_suspect_does_not_wait(standing):
    assert suspect_until(standing) is None


@pytest.mark.parametrize(
    ("cause", "roll_backs", "fault"),
    [
        (Fault.BROKEN, 0, Fault.BROKEN),
        (Fault.BROKEN, 1, Fault.BROKEN),
        (Fault.SUSPECT, 0, Fault.SUSPECT),
        (Fault.SUSPECT, 1, Fault.BROKEN),
        (Fault.SUSPECT, 2, Fault.BROKEN),
        (None, 0, None),
        (None, 1, None),
    ],
)
def test_what_is_rolled_back_from_again_is_broken_whatever_the_cause(cause, roll_backs, fault):
    assert fault_of(cause, Standing(roll_backs=roll_backs)) is fault
