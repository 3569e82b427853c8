"""A roll-back is remembered where the history cannot be written, or is lost."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from functools import partial

import pytest

from adapters.journal_tasks import ENVIRONMENT, PYTHON
from agent.adapters.state.journal import SqliteJournal
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.domain.errors import JournalError
from agent.domain.marks import Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial, Standing
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.events import RememberedEvents
from fakes.pending import NEW, pending_world
from fakes.runs import NOW, an_arrival
from fakes.samples import OLD


@pytest.fixture
def journal(tmp_path):
    return SqliteJournal(tmp_path, RememberedEvents())


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "upgrades.json"


@pytest.fixture
def world(journal):
    world = pending_world()
    for row in world.journal.rows:
        journal.record(row)
    world.journal = journal
    return world


def lose(directory):
    for path in directory.glob("journal.sqlite*"):
        path.unlink()


def block(directory):
    """Let the history be one that nobody can read or write."""
    lose(directory)
    (directory / "journal.sqlite").mkdir()


def unblock(directory):
    (directory / "journal.sqlite").rmdir()


def roll_back(world):
    world.service_breaks()
    assert world.carry_out(verdicts.confirm).outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)


@pytest.mark.parametrize("damage", [lose, block])
def test_a_verdict_needs_no_history(world, tmp_path, damage):
    """How things were before is known from beside it."""
    damage(tmp_path)
    roll_back(world)
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_denial_that_the_history_could_not_take_is_in_force_and_is_folded_in(
    world, journal, kept, tmp_path
):
    block(tmp_path)
    roll_back(world)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (denial,) = journal.denials(world.clock.now())
    assert "no reply" in denial.reason
    standing = journal.standing_of(NEW, world.clock.now())
    assert (standing.denial, standing.roll_backs) == (denial, 1)
    unblock(tmp_path)
    journal.prepare()
    assert not kept.exists()
    assert journal.standing_of(NEW, world.clock.now()) == standing
    (row,) = journal.runs(9)
    assert (row.outcome, row.fault, row.build_id) == ("rolled-back", "broken", 1)


def test_the_cause_is_written_before_the_effects(world, kept):
    seen = []
    world.steps.at("set-profile", lambda: seen.append(json.loads(kept.read_text())["runs"]))
    roll_back(world)
    ((row,), *_) = seen
    assert (row["outcome"], row["fault"], row["toplevel"]) == ("rolling-back", "broken", NEW)
    assert row["denial"]["toplevel"] == NEW


@pytest.mark.parametrize("damage", [lose, block])
def test_a_roll_back_that_is_cut_short_denies_all_the_same(world, tmp_path, damage):
    journal = world.journal
    record = an_arrival(7, NEW, "rolling-back", fault="broken", reasons=(("check", "no reply"),))
    denial = Denial(NEW, "no reply", NOW, "agent", 7)
    journal.record(record)
    journal.deny(denial, record)
    damage(tmp_path)
    assert journal.standing_of(NEW, NOW).denial == denial
    assert journal.under_way() == record


def test_a_run_that_has_ended_is_kept_no_longer(journal, kept):
    for phase in ("armed", "activating", "pending"):
        journal.record(an_arrival(1, NEW, phase))
        assert json.loads(kept.read_text())["runs"][0]["outcome"] == phase
    journal.record(an_arrival(1, NEW, "confirmed"))
    assert not kept.exists()


@pytest.mark.parametrize("phase", ["selected", "verified", "fetched", "held", "failed"])
def test_what_has_touched_nothing_is_not_kept(journal, kept, phase):
    journal.record(an_arrival(1, NEW, phase, previous=None))
    assert not kept.exists()


def test_nothing_is_begun_where_only_this_file_can_be_written(journal, tmp_path):
    block(tmp_path)
    for phase in ("armed", "activating"):
        with pytest.raises(JournalError):
            journal.record(an_arrival(1, NEW, phase))


def test_a_person_lifts_such_a_denial(world, journal, tmp_path):
    block(tmp_path)
    roll_back(world)
    with pytest.raises(JournalError):
        journal.allow(NEW, "looked at it", "me", NOW)
    unblock(tmp_path)
    assert journal.allow(NEW, "looked at it", "me", NOW)
    journal.prepare()
    assert journal.standing_of(NEW, NOW) == Standing()


HOSTILE = [
    b"",
    b"no JSON",
    b"[" * 10_000,
    b"\xff\xfe",
    b'{"runs": 7}',
    b'{"runs": [7, null, "x", {"run_id": 1}]}',
    b"{}",
]


@pytest.mark.parametrize("content", HOSTILE)
def test_what_the_file_says_stops_no_verdict(world, kept, content):
    kept.write_bytes(content)
    roll_back(world)


@pytest.mark.parametrize(
    "changed",
    [
        {"build_id": 10**30, "eval_id": -(10**30), "exit_code": 10**30, "repeats": 10**30},
        {"build_id": True},
        {"run_id": "\ud800"},
        {"run_id": "", "host": None, "job": 7, "boot_id": {}, "error_message": "\0\udfff"},
    ],
)
def test_what_no_history_could_take_stops_no_verdict(world, kept, tmp_path, changed):
    rows = json.loads(kept.read_text())
    rows["runs"] = [row | changed for row in rows["runs"]]
    kept.write_text(json.dumps(rows))
    lose(tmp_path)
    roll_back(world)
    world.all_is_well()
    assert world.run().outcome is Outcome.HELD


def test_a_pipe_in_its_place_keeps_nobody_waiting(world, kept):
    kept.unlink()
    os.mkfifo(kept)
    roll_back(world)


@pytest.mark.parametrize("denial", [7, {}, {"toplevel": 5}, {"until": "x", "reason": []}])
def test_a_denial_that_cannot_be_read_denies_what_was_rolled_back_from(journal, kept, denial):
    journal.record(an_arrival(7, NEW, "rolling-back", fault="broken"))
    rows = json.loads(kept.read_text())
    rows["runs"][0]["denial"] = denial
    kept.write_text(json.dumps(rows))
    assert journal.standing_of(NEW, NOW).denial is not None


def test_not_more_than_some_are_kept(journal, kept):
    for number in range(20):
        journal.record(an_arrival(number, NEW, "pending"))
    assert len(json.loads(kept.read_text())["runs"]) == 8


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root")
def test_a_full_disk_loses_no_denial(tmp_path):
    script = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@" "$0"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(tmp_path), *PYTHON, "deny_without_room"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT,
    )
    if "mount:" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    assert done.stdout.split() == ["full", "denied", "denied"]


def test_the_dead_man_needs_no_history_either(world, tmp_path):
    block(tmp_path)
    del world.systemd.programs[CONFIRM_UNIT]
    report = world.carry_out(partial(dead_man, toplevel=NEW))
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.journal.standing_of(NEW, world.clock.now()).denial is not None
