"""Good builds that were seen: the same contract for the fake and for the file of the history."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.adapters.state.good_builds import SqliteGoodBuilds
from agent.adapters.state.journal import SqliteJournal
from agent.domain.candidate import Candidate
from fakes.events import RememberedEvents
from fakes.good_builds import FakeGoodBuilds
from fakes.samples import JOB
from fakes.world import flake_of, system

OTHER_JOB = replace(JOB, name="other")


def a_build(number, **facts):
    finished_at = datetime(2026, 11, 21, 4, number, tzinfo=UTC)
    eval_id = number + 1000
    found = Candidate(
        JOB, number, system(number), "x86_64-linux", finished_at, eval_id, flake_of(eval_id)
    )
    return replace(found, **facts)


@pytest.fixture
def sink():
    return RememberedEvents()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "journal.sqlite"


@pytest.fixture
def real(file, sink):
    return SqliteGoodBuilds(file.parent, sink)


@pytest.fixture(params=["fake", "file"])
def builds(request):
    return FakeGoodBuilds() if request.param == "fake" else request.getfixturevalue("real")


def change(file, statement):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(statement)


# The contract


def test_at_first_none_is_known(builds):
    assert builds.read(JOB) == ()


def test_what_is_kept_is_read_as_it_was(builds):
    kept = (a_build(3), a_build(2, finished_at=None), a_build(1, eval_id=None, flake=None))
    builds.keep(JOB, kept)
    assert builds.read(JOB) == kept


def test_no_others_are_remembered(builds):
    builds.keep(JOB, (a_build(2), a_build(1)))
    builds.keep(JOB, (a_build(3),))
    assert builds.read(JOB) == (a_build(3),)
    builds.keep(JOB, ())
    assert builds.read(JOB) == ()


def test_builds_of_another_job_are_not_this_one_s(builds):
    builds.keep(JOB, (a_build(1),))
    assert builds.read(OTHER_JOB) == ()
    builds.keep(OTHER_JOB, (a_build(2, job=OTHER_JOB),))
    assert builds.read(JOB) == ()


# The file


def test_another_process_reads_what_was_kept(real, file, sink):
    real.keep(JOB, (a_build(1),))
    assert SqliteGoodBuilds(file.parent, sink).read(JOB) == (a_build(1),)


def test_to_read_makes_no_file(real, file):
    real.read(JOB)
    assert not file.exists()


def test_a_flake_with_a_password_is_not_kept(real):
    secret = flake_of(1).replace("https://", "https://me:s3cret@")
    real.keep(JOB, (a_build(1, flake=secret),))
    assert real.read(JOB) == (a_build(1, flake=None),)


@pytest.mark.parametrize(
    "damage",
    [
        "toplevel = '/etc/passwd'",
        "toplevel = 'x'",
        "build_id = -1",
        "finished_at = 'yesterday'",
        "eval_id = 9007199254740993",
        "flake = '--option'",
        "flake = 'git+https://git.example.org/hosts?ref=main'",
    ],
)
def test_a_row_that_cannot_be_read_whole_is_no_build(real, file, damage):
    real.keep(JOB, (a_build(2), a_build(1)))
    change(file, f"UPDATE good_builds SET {damage} WHERE build_id = 2")  # noqa: S608 - our own
    assert real.read(JOB) == (a_build(1),)


def test_in_a_history_that_cannot_be_used_there_are_none(real, file, sink):
    real.keep(JOB, (a_build(1),))
    change(file, "PRAGMA user_version = 99")
    assert real.read(JOB) == ()
    real.keep(JOB, (a_build(2),))
    assert sink.names() == ["journal.record_failed"]


def test_a_history_that_begins_anew_knows_none(real, file, sink):
    real.keep(JOB, (a_build(1),))
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    SqliteJournal(file.parent, sink).prepare()
    assert real.read(JOB) == ()
