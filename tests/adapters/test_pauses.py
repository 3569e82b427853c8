"""What waits on a host, a pause or a reboot: the same contract for the fake and for the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.adapters.state.journal import SqliteJournal
from agent.domain.errors import JournalError, Kind
from agent.domain.pause import Pause
from agent.domain.reboot import RebootPlan
from fakes.events import RememberedEvents
from fakes.journal import FakeJournal
from fakes.samples import NEW, OLD

NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["fake", "file"])
def journal(request, tmp_path):
    if request.param == "fake":
        return FakeJournal()
    return SqliteJournal(tmp_path / "state", RememberedEvents())


def test_at_first_nothing_waits(journal):
    assert journal.pause(NOW) is None
    assert journal.reboot_plan(NEW) == RebootPlan(NEW)


@pytest.mark.parametrize("until", [None, NOW + HOUR])
def test_a_pause_is_in_force_until_it_ends(journal, until):
    pause = Pause("audit", "me", NOW, until)
    journal.set_pause(pause)
    assert journal.pause(NOW) == pause
    assert journal.pause(NOW + HOUR) == (pause if until is None else None)
    journal.set_pause(None)
    assert journal.pause(NOW) is None


def test_the_last_pause_counts(journal):
    journal.set_pause(Pause("audit", "me", NOW))
    journal.set_pause(Pause("holiday", "you", NOW, NOW + HOUR))
    assert journal.pause(NOW).reason == "holiday"
    assert journal.pause(NOW + 2 * HOUR) is None


@pytest.mark.parametrize(("since", "told"), [(None, None), (NOW, None), (NOW, NOW + HOUR)])
def test_a_plan_is_remembered_for_its_own_system(journal, since, told):
    plan = RebootPlan(NEW, since, told)
    journal.set_reboot_plan(plan)
    assert journal.reboot_plan(NEW) == plan
    assert journal.reboot_plan(OLD) == RebootPlan(OLD)


def test_only_one_reboot_is_planned(journal):
    journal.set_reboot_plan(RebootPlan(NEW, NOW))
    journal.set_reboot_plan(RebootPlan(OLD, NOW))
    assert journal.reboot_plan(NEW) == RebootPlan(NEW)
    journal.set_reboot_plan(None)
    assert journal.reboot_plan(OLD) == RebootPlan(OLD)


def test_a_cleaning_is_remembered_for_each_system(journal):
    assert not journal.is_boot_cleaned(NEW)
    journal.note_boot_cleaned(NEW)
    journal.note_boot_cleaned(NEW)
    assert journal.is_boot_cleaned(NEW)
    assert not journal.is_boot_cleaned(OLD)
    journal.note_boot_cleaned(OLD)
    assert journal.is_boot_cleaned(NEW)


def test_a_state_directory_that_is_none_is_told(tmp_path):
    (tmp_path / "state").write_text("a file")
    journal = SqliteJournal(tmp_path / "state", RememberedEvents())
    with pytest.raises(JournalError) as caught:
        journal.set_pause(Pause("audit", "me", NOW))
    assert caught.value.kind is Kind.STATE_UNUSABLE
