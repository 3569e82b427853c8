"""Deciding, rolling back and confirming never need the history.

A host with the real history file waits for its verdict; the file is damaged in generated ways; what
then comes of the host must be right whatever the file holds.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from functools import partial

import pytest

from adapters.journal_damage import HOSTILE, flip, loosen, put, put_bytes
from agent.adapters.state.journal import SqliteJournal
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.domain.choose import History
from agent.domain.errors import JournalError, Kind
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.pause import Pause
from agent.domain.reboot import RebootPlan
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.events import RememberedEvents
from fakes.pending import NEW, pending_world
from fakes.runs import NOW, a_run, an_arrival, highest
from fakes.samples import JOB, OLD, a_candidate
from fakes.world import system

RUN_COLUMNS = (
    *("run_id", "started_at", "host", "job", "outcome", "finished_at", "decision", "action"),
    *("build_id", "eval_id", "flake", "toplevel", "boot_id", "previous", "reasons", "baseline"),
    *("invocation", "fault", "sets_measure", "ignored_gates", "target"),
    *("error_kind", "error_message", "exit_code", "repeats"),
)
DENIED = system(66)
HOUR = timedelta(hours=1)


@pytest.fixture
def sink():
    return RememberedEvents()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(tmp_path, sink):
    return SqliteJournal(tmp_path, sink)


@pytest.fixture
def world(journal):
    """A world with a real history, in which an upgrade waits for its verdict."""
    world = pending_world()
    for number in range(20, 40):
        journal.record(an_arrival(number, system(number)))
    for row in world.journal.rows:
        journal.record(row)
    journal.deny(Denial(DENIED, "why", NOW, "me"))
    journal.allow(system(20), "why", "me", NOW)
    world.journal = journal
    return world


def assert_it_is_rolled_back_from(world):
    world.service_breaks()
    report = world.carry_out(verdicts.confirm)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)
    assert world.marks.read().confirmed == OLD
    assert world.marks.read().left is None


def assert_it_can_be_confirmed(world):
    report = world.carry_out(verdicts.confirm)
    assert report.outcome is Outcome.CONFIRMED
    assert world.marks.read().confirmed == NEW


def assert_the_dead_man_leaves_it(world):
    del world.systemd.programs[CONFIRM_UNIT]
    report = world.carry_out(partial(dead_man, toplevel=NEW))
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)


ENDS = {
    "broken": assert_it_is_rolled_back_from,
    "well": assert_it_can_be_confirmed,
    "dead-man": assert_the_dead_man_leaves_it,
}
# A denial by what the column then says, or a fault, is a reason that counts.
SAYS_NOTHING = [
    name for name in RUN_COLUMNS if name not in ("run_id", "outcome", "toplevel", "baseline")
]


def damage_all(file, name):
    """Put one hostile value into every column that can be without a value that says something."""
    loosen(file)
    for column in SAYS_NOTHING:
        if (name, column) != ("nothing", "previous"):  # it would say that nothing was touched
            put(file, "runs", column, HOSTILE[name])
    for table in ("allowances", "reboot_plans"):
        for column in ("after_run", "inhibited_since", "announced_for"):
            put(file, table, column, HOSTILE[name])


@pytest.mark.parametrize("name", HOSTILE)
def test_no_value_in_the_history_keeps_a_broken_system(world, file, name):
    damage_all(file, name)
    assert_it_is_rolled_back_from(world)


@pytest.mark.parametrize("end", ["well", "dead-man"])
@pytest.mark.parametrize("name", ["half-closed", "bytes", "deep", "number"])
def test_no_value_in_the_history_stops_a_verdict(world, file, name, end):
    damage_all(file, name)
    ENDS[end](world)


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(RUN_COLUMNS)))
@pytest.mark.parametrize("name", [*HOSTILE, "no-utf-8"])
def test_no_value_in_any_column_stops_a_verdict(world, file, name, number):
    column = RUN_COLUMNS[number]
    end = list(ENDS)[(number + len(name)) % 3]
    loosen(file)
    if name == "no-utf-8":
        put_bytes(file, "runs", column)
    else:
        put(file, "runs", column, HOSTILE[name])
    ENDS[end](world)


def assert_flips_harm_nobody(world, file, seed, end):
    flip(file, seed)
    ENDS[end](world)
    world.all_is_well()
    world.run()  # sets the file aside where it is damaged
    assert world.run().outcome is not Outcome.FAILED


@pytest.mark.parametrize("seed", range(6))
def test_no_flipped_bytes_stop_a_roll_back_or_the_next_run(world, file, seed):
    assert_flips_harm_nobody(world, file, seed, "broken")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6, 200))
def test_no_flipped_bytes_stop_a_verdict_or_the_next_run(world, file, seed):
    assert_flips_harm_nobody(world, file, seed, list(ENDS)[seed % 3])


# What holds the host back is kept, as far as anybody can say.


@pytest.mark.parametrize("column", ["reason", "by", "denied_at", "until", "build_id"])
def test_a_denial_denies_while_its_path_can_be_read(journal, file, column):
    journal.deny(Denial(DENIED, "why", NOW, "me", until=NOW + HOUR))
    loosen(file)
    for name, value in HOSTILE.items():
        put(file, "denials", column, value)
        assert journal.standing_of(DENIED, NOW).denial is not None, name
        assert [told.toplevel for told in journal.denials(NOW)] == [DENIED], name
    put_bytes(file, "denials", column)
    assert journal.standing_of(DENIED, NOW).denial is not None
    assert journal.allow(DENIED, "looked at it", "me", NOW)
    assert journal.denials(NOW) == ()


def test_a_denial_whose_end_cannot_be_read_has_none(journal, file):
    journal.deny(Denial(DENIED, "why", NOW, "me", until=NOW + HOUR))
    put(file, "denials", "until", "2026-11-21T05:40:00")
    assert journal.standing_of(DENIED, NOW + 99 * HOUR).denial is not None


@pytest.mark.parametrize("name", ["number", "no-path", "nul", "bytes", "deep", "empty"])
def test_a_denial_without_a_path_is_of_nothing(journal, file, sink, name):
    journal.deny(Denial(DENIED, "why", NOW, "me"))
    journal.deny(Denial(NEW, "why", NOW, "me"))
    loosen(file)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE denials SET toplevel = ? WHERE toplevel = ?", (HOSTILE[name], DENIED))
    assert [told.toplevel for told in journal.denials(NOW)] == [NEW]
    assert sink.names() == ["journal.row_unreadable"]


def test_a_path_written_as_bytes_is_denied_all_the_same(journal, file):
    journal.deny(Denial(DENIED, "why", NOW, "me"))
    loosen(file)
    put(file, "denials", "toplevel", DENIED.encode())
    assert journal.standing_of(DENIED, NOW).denial is not None
    assert journal.allow(DENIED, "", "me", NOW)
    assert journal.standing_of(DENIED, NOW).denial is None


@pytest.mark.parametrize("column", ["reason", "by", "since", "until"])
def test_a_pause_that_cannot_be_read_lasts_until_a_person_ends_it(journal, file, sink, column):
    journal.set_pause(Pause("audit", "me", NOW, NOW + HOUR))
    loosen(file)
    put(file, "pauses", column, HOSTILE["bytes"])
    assert journal.pause(NOW + 99 * HOUR) is not None
    assert sink.names() == ["journal.row_unreadable"]
    journal.set_pause(None)
    assert journal.pause(NOW) is None


@pytest.mark.parametrize("name", ["half-closed", "naive-time", "last-time", "no-time", "nul"])
def test_a_pause_whose_times_cannot_be_read_has_no_end(journal, file, name):
    for column in ("since", "until"):
        journal.set_pause(Pause("audit", "me", NOW, NOW + HOUR))
        put(file, "pauses", column, HOSTILE[name])
        assert journal.pause(NOW + 99 * HOUR).until is None


@pytest.mark.parametrize("name", HOSTILE)
def test_of_a_reboot_that_waits_nothing_need_be_known(journal, file, name):
    journal.set_reboot_plan(RebootPlan(NEW, NOW, NOW))
    loosen(file)
    for column in ("inhibited_since", "announced_for"):
        put(file, "reboot_plans", column, HOSTILE[name])
    assert journal.reboot_plan(NEW) == RebootPlan(NEW)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "number"])
def test_an_allowance_that_cannot_be_read_forgives_nothing(journal, file, name):
    journal.record(an_arrival(1, NEW, "rolled-back", fault="suspect"))
    journal.allow(NEW, "why", "me", NOW)
    journal.record(an_arrival(2, NEW, "rolled-back", fault="suspect"))
    loosen(file)
    put(file, "allowances", "after_run", HOSTILE[name])
    assert journal.standing_of(NEW, NOW).roll_backs == 2


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "number"])
def test_the_highest_build_is_one_that_can_be(journal, file, name):
    for number in (3, 5):
        journal.record(an_arrival(number))
    loosen(file)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE runs SET build_id = ? WHERE build_id = 5", (HOSTILE[name],))
    assert highest(journal, JOB) == 3


@pytest.mark.parametrize("name", ["no-path", "number", "nul", "empty"])
def test_what_is_no_path_was_activated_by_nobody(journal, file, name):
    journal.record(an_arrival(4))
    put(file, "runs", "toplevel", HOSTILE[name])
    assert journal.toplevel_of(4) is None
    assert journal.history_of(a_candidate(NEW, build_id=4)) == History()


def test_a_row_is_named_once_and_keeps_its_readable_part(journal, file, sink):
    journal.record(an_arrival(4, reasons=(("a", "b"),)))
    put(file, "runs", "reasons", "[]}")
    put(file, "runs", "finished_at", "yesterday")
    for _ in range(3):
        (run,) = journal.runs(9)
        assert (run.build_id, run.reasons, run.finished_at) == (4, (), None)
    (told,) = [fields for event, fields in sink.said if event.name == "journal.row_unreadable"]
    assert told == {"table": "runs", "row": 1, "columns": ["finished_at", "reasons"]}


def test_not_every_unreadable_row_is_named(journal, file, sink):
    for number in range(30):
        journal.record(an_arrival(number))
    put(file, "runs", "reasons", "[]}")
    assert len(journal.runs(99)) == 30
    assert len(sink.said) == 10


def test_a_run_without_a_name_is_skipped_and_the_next_one_counts(journal, file):
    journal.record(an_arrival(1, outcome="activating"))
    journal.record(an_arrival(2, outcome="activating"))
    loosen(file)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE runs SET run_id = NULL WHERE build_id = 2")
    assert journal.under_way().run_id == "run-2"  # as is written beside the history
    file.with_name("upgrades.json").unlink()
    assert journal.under_way().run_id == "run-1"


def test_a_run_is_counted_on_from_the_largest_number(journal, file):
    held = {"outcome": "held", "build_id": 7}
    journal.record(a_run(1, **held))
    put(file, "runs", "repeats", HOSTILE["huge"])
    journal.record(a_run(2, **held))
    assert journal.runs(1)[0].repeats == 1


# Damage for which the whole file is set aside


def with_a_null(file):
    """One value that its column may not have: SQLite calls the whole file damaged then."""
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
    put(file, "runs", "started_at", None)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'started_at TEXT', 'started_at TEXT NOT NULL')"
        )


def with_a_number_of_no_run(file):
    put(file, "runs", "id", HOSTILE["huge"])


def without_a_column(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("ALTER TABLE runs DROP COLUMN reasons")


def of_no_version(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA user_version = -5")


def of_an_earlier_version(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA user_version = 1")


def with_a_trigger(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TRIGGER t BEFORE INSERT ON runs BEGIN SELECT RAISE(IGNORE); END")


def with_a_view_for_a_table(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("ALTER TABLE runs RENAME TO others")
        db.execute("CREATE VIEW runs AS SELECT * FROM others")


def without_numbers(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("ALTER TABLE runs RENAME TO others")
        db.execute("CREATE TABLE runs AS SELECT * FROM others")
        db.execute("DROP TABLE others")


DAMAGES = (
    *(with_a_null, with_a_number_of_no_run, without_a_column),
    *(of_no_version, of_an_earlier_version),
    *(with_a_trigger, with_a_view_for_a_table, without_numbers),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_denials_and_a_pause_outlive_a_file_that_is_set_aside(journal, file, sink, damage):
    journal.record(an_arrival(1))
    denial = Denial(DENIED, "why", NOW, "me", build_id=7, until=NOW + HOUR)
    journal.deny(denial)
    pause = Pause("audit", "me", NOW, NOW + HOUR)
    journal.set_pause(pause)
    damage(file)
    journal.prepare()
    assert sink.names() == ["journal.set_aside"]
    assert journal.runs(9) == ()
    assert journal.denials(NOW) == (denial,)
    assert journal.pause(NOW) == pause
    assert file.with_name("journal.damaged").exists()


def root_page_of(file, table):
    with closing(sqlite3.connect(file)) as db:
        (number,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    return (number - 1) * size


def overwrite_the_page_of(file, table):
    start = root_page_of(file, table)
    content = bytearray(file.read_bytes())
    content[start : start + 4096] = b"\xff" * 4096
    file.write_bytes(content)


@pytest.mark.parametrize("was_paused", [True, False])
def test_where_nobody_can_say_whether_there_is_a_pause_there_is_one(journal, file, was_paused):
    journal.deny(Denial(DENIED, "why", NOW, "me"))
    journal.set_pause(Pause("audit", "me", NOW) if was_paused else None)
    overwrite_the_page_of(file, "pauses")
    journal.prepare()
    assert "cannot be read" in journal.pause(NOW).reason
    assert journal.standing_of(DENIED, NOW).denial is not None
    journal.set_pause(None)
    assert journal.pause(NOW) is None


def test_a_file_that_is_no_database_says_nothing_about_a_pause(journal, file):
    journal.set_pause(Pause("audit", "me", NOW))
    file.write_bytes(b"no database at all " * 1000)
    journal.prepare()
    assert journal.pause(NOW) is None


def test_a_denial_is_saved_by_its_path_alone(journal, file):
    """The rest of the row is on a page that is lost."""
    journal.deny(Denial(DENIED, "x" * 20_000, NOW, "me"))
    for number in range(20):
        journal.deny(Denial(system(number), "why", NOW, "me"))
    content = bytearray(file.read_bytes())
    place = content.find(b"x" * 4000)
    content[place - 4 : place + 4092] = b"\xff" * 4096
    file.write_bytes(content)
    journal.prepare()
    assert {told.toplevel for told in journal.denials(NOW)} >= {
        DENIED,
        *(system(number) for number in range(20)),
    }


def test_a_kill_while_a_file_is_set_aside_loses_no_denial(journal, file, tmp_path):
    journal.deny(Denial(DENIED, "why", NOW, "me"))
    file.rename(tmp_path / "journal.sqlite.new")  # complete, and not yet in its place
    journal.prepare()
    assert journal.standing_of(DENIED, NOW).denial is not None


# What is no file


@pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"])
def test_a_pipe_in_its_place_keeps_nobody_waiting(journal, world, tmp_path, name):
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"journal.sqlite{suffix}").unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    for use in (journal.prepare, lambda: journal.pause(NOW)):
        with pytest.raises(JournalError) as caught:
            use()
        assert caught.value.kind is Kind.STATE_UNUSABLE
    assert_the_dead_man_leaves_it(world)


def test_a_pipe_in_the_place_of_the_last_contact_keeps_nobody_waiting(journal, tmp_path):
    os.mkfifo(tmp_path / "last-contact")
    with pytest.raises(JournalError):
        journal.note_contact(NOW)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("damage", [with_a_trigger, with_a_view_for_a_table, without_numbers])
def test_a_schema_of_someone_elses_stops_no_verdict(world, file, damage, end):
    damage(file)
    ENDS[end](world)


@pytest.mark.parametrize(
    "baseline",
    [
        "{}",
        '{"checks": null, "failed_units": []}',
        '{"checks": {"service": 1}}',
        '{"checks": {}, "failed_units": 3}',
        '{"checks": {}, "failed_units": [null]}',
        '{"checks": {}, "hydra": "yes"}',
    ],
)
def test_a_baseline_of_another_shape_is_taken_from_what_is_kept(world, file, baseline):
    put(file, "runs", "baseline", baseline)
    assert_it_is_rolled_back_from(world)


@pytest.mark.parametrize("run_id", ["upper(run_id)", "run_id || ' '"])
def test_a_row_that_only_looks_like_the_one_under_way_is_not_taken_for_it(world, file, run_id):
    columns = "started_at, host, job, outcome, toplevel, previous"
    which = f"INSERT INTO runs (run_id, {columns}) SELECT {run_id}, {columns} FROM runs"  # noqa: S608
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"{which} WHERE outcome = 'pending'")
    assert_it_is_rolled_back_from(world)


def of_a_newer_agent(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA user_version = 99")


def a_directory(file):
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.mkdir()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("state", [of_a_newer_agent, a_directory])
def test_a_history_that_cannot_be_used_stops_no_verdict(world, file, state, end):
    state(file)
    ENDS[end](world)


def test_a_history_that_another_process_locks_stops_no_verdict(world, file, monkeypatch):
    monkeypatch.setattr("agent.adapters.state.journal_file._PATIENCE", 0.01)
    monkeypatch.setattr("agent.adapters.state.journal_file._SHORT_PATIENCE", 0.01)
    world.journal = SqliteJournal(file.parent, world.told)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("DELETE FROM reboot_plans")
        assert_the_dead_man_leaves_it(world)


def test_a_lock_is_waited_for_only_once(file, journal, monkeypatch):
    """A roll-back asks several times: each may not take as long as the first."""
    journal.prepare()
    monkeypatch.setattr("agent.adapters.state.journal_file._PATIENCE", 0.01)
    impatient = SqliteJournal(file.parent, RememberedEvents())
    monkeypatch.setattr("agent.adapters.state.journal_file._SHORT_PATIENCE", 0.0)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="locked") as caught:
            impatient.record(a_run())
        assert "another process" in caught.value.hint
        assert impatient._file._patience == 0.0


# A disk that fails is not a full one.


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_IOERR_WRITE", Kind.STATE_IO_ERROR),
        ("SQLITE_IOERR_SHMSIZE", Kind.STATE_IO_ERROR),
        ("SQLITE_IOERR_READ", Kind.STATE_IO_ERROR),
        ("SQLITE_FULL", Kind.STATE_FULL),
        ("SQLITE_READONLY", Kind.STATE_READ_ONLY),
        ("SQLITE_ERROR", Kind.STATE_UNUSABLE),
    ],
)
def test_each_error_of_sqlite_has_its_own_kind(journal, name, kind):
    class Said(sqlite3.OperationalError):
        sqlite_errorname = name

    with pytest.raises(JournalError) as caught, journal._file.errors_translated():
        raise Said("disk I/O error")
    assert caught.value.kind is kind


def test_a_write_that_fails_for_want_of_room_is_reported_as_that(journal, monkeypatch):
    """SQLite says the same of a quota, and of a disk that fails."""
    monkeypatch.setattr("agent.adapters.state.journal_file.is_without_room", lambda _: True)

    class Said(sqlite3.OperationalError):
        sqlite_errorname = "SQLITE_IOERR_WRITE"

    with pytest.raises(JournalError) as caught, journal._file.errors_translated():
        raise Said("disk I/O error")
    assert caught.value.kind is Kind.STATE_FULL
