"""The agenda: the same contract for the fake and for the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.adapters.state.pauses import SqliteAgenda
from agent.domain.errors import JournalError, Kind
from agent.domain.pause import Pause
from agent.domain.reboot import RebootPlan
from fakes.events import RememberedEvents
from fakes.pauses import FakeAgenda
from fakes.samples import NEW, OLD

NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["fake", "file"])
def agenda(request, tmp_path):
    if request.param == "fake":
        return FakeAgenda()
    return SqliteAgenda(tmp_path / "state", RememberedEvents())


def test_at_first_nothing_waits(agenda):
    assert agenda.pause(NOW) is None
    assert agenda.reboot_plan(NEW) == RebootPlan(NEW)


@pytest.mark.parametrize("until", [None, NOW + HOUR])
def test_a_pause_is_in_force_until_it_ends(agenda, until):
    pause = Pause("audit", "me", NOW, until)
    agenda.set_pause(pause)
    assert agenda.pause(NOW) == pause
    assert agenda.pause(NOW + HOUR) == (pause if until is None else None)
    agenda.set_pause(None)
    assert agenda.pause(NOW) is None


def test_the_last_pause_counts(agenda):
    agenda.set_pause(Pause("audit", "me", NOW))
    agenda.set_pause(Pause("holiday", "you", NOW, NOW + HOUR))
    assert agenda.pause(NOW).reason == "holiday"
    assert agenda.pause(NOW + 2 * HOUR) is None


@pytest.mark.parametrize(("since", "told"), [(None, None), (NOW, None), (NOW, NOW + HOUR)])
def test_a_plan_is_remembered_for_its_own_system(agenda, since, told):
    plan = RebootPlan(NEW, since, told)
    agenda.set_reboot_plan(plan)
    assert agenda.reboot_plan(NEW) == plan
    assert agenda.reboot_plan(OLD) == RebootPlan(OLD)


def test_only_one_reboot_is_planned(agenda):
    agenda.set_reboot_plan(RebootPlan(NEW, NOW))
    agenda.set_reboot_plan(RebootPlan(OLD, NOW))
    assert agenda.reboot_plan(NEW) == RebootPlan(NEW)
    agenda.set_reboot_plan(None)
    assert agenda.reboot_plan(OLD) == RebootPlan(OLD)


def test_a_cleaning_is_remembered_for_each_system(agenda):
    assert not agenda.is_boot_cleaned(NEW)
    agenda.note_boot_cleaned(NEW)
    agenda.note_boot_cleaned(NEW)
    assert agenda.is_boot_cleaned(NEW)
    assert not agenda.is_boot_cleaned(OLD)
    agenda.note_boot_cleaned(OLD)
    assert agenda.is_boot_cleaned(NEW)


def test_a_state_directory_that_is_none_is_told(tmp_path):
    (tmp_path / "state").write_text("a file")
    agenda = SqliteAgenda(tmp_path / "state", RememberedEvents())
    with pytest.raises(JournalError) as caught:
        agenda.set_pause(Pause("audit", "me", NOW))
    assert caught.value.kind is Kind.STATE_UNUSABLE
