from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.state.journal import SqliteJournal
from agent.adapters.state_dir import check_owner
from agent.application import events
from agent.domain.choose import History
from agent.domain.errors import JournalError, Kind
from agent.domain.ignored_gate import IgnoredGate
from agent.domain.outcome import UNDER_WAY, Outcome
from agent.domain.path_record import Denial, Fault, Standing, TakenBuild
from agent.domain.policy import Action
from agent.domain.run_record import COLUMNS, altered, recorded
from fakes.events import RememberedEvents
from fakes.journal import FakeJournal
from fakes.runs import NOW, a_run, an_arrival, highest
from fakes.samples import JOB, NEW, OLD, OTHER, SPECIAL, a_candidate

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-P", str(Path(__file__).with_name("journal_tasks.py"))]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
ELSEWHERE = replace(JOB, jobset="other")
PASSED = IgnoredGate("health", "eve", "a fix", "canary: no reply")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def sink():
    return RememberedEvents()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def real(tmp_path, sink):
    return SqliteJournal(tmp_path, sink)


def last_of(journal):
    """The newest row, None if there is none."""
    return next(iter(journal.runs(1)), None)


def a_denial(toplevel=NEW, **facts):
    return Denial(**({"toplevel": toplevel, "reason": "why", "denied_at": NOW, "by": "me"} | facts))


@pytest.fixture(params=["sqlite", "fake"])
def journal(request):
    return FakeJournal() if request.param == "fake" else request.getfixturevalue("real")


# What every journal does.


def test_when_hydra_last_answered_is_remembered(journal):
    assert journal.last_contact() is None
    for instant in (NOW, NOW + timedelta(days=1)):
        journal.note_contact(instant)
        assert journal.last_contact() == instant


@pytest.mark.parametrize("content", [b"", b"soon\n", b"\xff" * 20, b"2026-11-21T04:40:00Z" * 9])
def test_a_last_contact_that_is_no_time_is_unknown(tmp_path, sink, content):
    (tmp_path / "last-contact").write_bytes(content)
    assert SqliteJournal(tmp_path, sink).last_contact() is None
    (tmp_path / "last-contact").unlink()
    (tmp_path / "last-contact").mkdir()
    assert SqliteJournal(tmp_path, sink).last_contact() is None


def test_a_new_journal_knows_nothing(journal):
    assert last_of(journal) is None
    assert highest(journal, JOB) is None
    assert journal.history_of(a_candidate(NEW)) == History()


def test_what_is_recorded_is_read_back_whole(journal):
    run = an_arrival(
        7,
        decision="upgrade",
        action="switch",
        eval_id=18,
        flake="github:o/r/abc",
        reasons=(("health", "a: no answer; b: 500"), ("x", "“é”\0\n")),
        baseline='{"hydra": true}',
        invocation="1f2e3d4c5b6a79881f2e3d4c5b6a7988",
        fault=Fault.SUSPECT,
        sets_measure=True,
        ignored_gates=(PASSED, IgnoredGate("clock", "eve", "“é”\0\n", "")),
        target=OLD,
        error_kind="locked",
        error_message="why",
        exit_code=75,
        repeats=3,
    )
    unset = [one.name for one in fields(run) if getattr(run, one.name) == one.default]
    assert unset == [], "a column that is not here could be forgotten"
    journal.record(run)
    assert last_of(journal) == run


def test_a_check_named_as_a_credential_keeps_its_reason(journal):
    run = an_arrival(1, reasons=(("password", "no answer"), ("SECRET", "")))
    journal.record(run)
    assert last_of(journal) == run


def test_a_run_is_rewritten_as_it_goes_on(journal):
    journal.record(an_arrival(1, outcome="activating"))
    journal.record(an_arrival(1, outcome="confirmed"))
    journal.record(an_arrival(2, outcome="activating"))
    assert last_of(journal).outcome == "activating"
    assert highest(journal, JOB) == 1


def test_a_run_that_ends_as_the_last_one_did_is_only_counted(journal):
    held = (("health", "a: no answer within 5 s"),)
    journal.record(a_run(1, reasons=held, build_id=7, toplevel=NEW))
    journal.record(
        a_run(2, reasons=(("health", "a: other words"),), build_id=7, toplevel=NEW, eval_id=9)
    )
    journal.record(a_run(3, reasons=held, build_id=7, toplevel=NEW, flake="x"))
    last = last_of(journal)
    assert (last.run_id, last.repeats) == ("run-1", 2)
    assert last.finished_at == a_run(3).finished_at


@pytest.mark.parametrize(
    "other",
    [
        {"outcome": "failed"},
        {"reasons": (("disk", "full"),)},
        {"build_id": 8},
        {"toplevel": OTHER},
        {"action": "boot"},
        {"decision": "upgrade"},
        {"error_kind": "locked"},
        {"fault": "suspect"},
        {"job": ELSEWHERE.key},
        {"host": "other"},
        {"previous": OLD},
        {"outcome": "confirmed"},
    ],
)
def test_a_run_that_ended_otherwise_has_a_row_of_its_own(journal, other):
    journal.record(a_run(1, build_id=7, toplevel=NEW))
    journal.record(a_run(2, **({"build_id": 7, "toplevel": NEW} | other)))
    assert last_of(journal).run_id == "run-2"
    assert last_of(journal).repeats == 0


@pytest.mark.parametrize("passed", [(1, 2), (1,), (2,)])
def test_a_run_in_which_a_person_has_passed_a_gate_keeps_a_row_of_its_own(journal, passed):
    for number in (1, 2):
        gates = (PASSED,) if number in passed else ()
        journal.record(a_run(number, build_id=7, ignored_gates=gates))
    newest, first = journal.runs(2)
    assert (newest.run_id, first.run_id, first.repeats) == ("run-2", "run-1", 0)
    assert [bool(run.ignored_gates) for run in (first, newest)] == [n in passed for n in (1, 2)]


def test_what_a_person_gives_as_a_reason_is_kept_without_credentials(real):
    secret = "https://eve:hunter2@forge.example/x"
    real.record(a_run(1, ignored_gates=(IgnoredGate("health", "eve", secret, secret),)))
    (passed,) = last_of(real).ignored_gates
    assert "hunter2" not in "".join(passed)
    assert passed.by == "eve"


def test_two_activations_of_one_system_are_never_one_row(journal):
    journal.record(an_arrival(1, outcome="failed"))
    journal.record(an_arrival(2, outcome="failed"))
    assert last_of(journal).run_id == "run-2"


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        ("confirmed", True),
        ("staged", True),
        ("rebooting", True),
        ("pending", True),
        ("held", False),
        ("rolled-back", False),
        ("failed", False),
        ("activating", False),
        ("dry-activated", False),
    ],
)
def test_only_systems_that_came_count_as_the_highest_build(journal, outcome, counts):
    journal.record(an_arrival(3))
    journal.record(an_arrival(9, OTHER, outcome))
    journal.record(an_arrival(5))
    journal.record(an_arrival(11, job=ELSEWHERE.key))
    assert highest(journal, JOB) == (9 if counts else 5)
    assert highest(journal, ELSEWHERE) == 11


def test_the_build_that_is_the_measure_is_known_with_its_path_and_its_time(journal):
    journal.record(an_arrival(3))
    journal.record(an_arrival(9, OTHER))
    journal.record(an_arrival(5))
    taken = journal.newest_taken(JOB)
    assert taken == TakenBuild(9, OTHER, an_arrival(9).finished_at)


def test_a_build_that_was_taken_past_the_gate_is_the_new_measure(journal):
    journal.record(an_arrival(900, OTHER))
    journal.record(an_arrival(800, OTHER, job=ELSEWHERE.key))
    journal.record(an_arrival(4, sets_measure=True))
    assert (highest(journal, JOB), highest(journal, ELSEWHERE)) == (4, 800)
    journal.record(an_arrival(6))
    assert highest(journal, JOB) == 6
    journal.record(an_arrival(5, sets_measure=True))
    assert highest(journal, JOB) == 5


@pytest.mark.parametrize("outcome", ["held", "failed", "rolled-back", "activating"])
def test_a_build_that_did_not_come_is_no_measure_though_a_person_wanted_it(journal, outcome):
    journal.record(an_arrival(900, OTHER))
    journal.record(an_arrival(4, outcome=outcome, sets_measure=True))
    assert highest(journal, JOB) == 900


def test_failures_that_share_a_row_are_held_against_a_path_each(journal):
    at = {"outcome": "failed", "fault": "suspect", "toplevel": NEW, "error_kind": "path-mismatch"}
    for number in range(3):
        journal.record(a_run(number, **at))
    assert last_of(journal).repeats == 2
    standing = journal.standing_of(NEW, NOW)
    assert (standing.suspicions, standing.suspected_at) == (3, a_run(2).finished_at)


def test_a_person_has_the_measure_forgotten(journal):
    journal.record(an_arrival(900, OTHER))
    journal.record(an_arrival(800, OTHER, job=ELSEWHERE.key))
    assert journal.forget_taken(JOB, "a new Hydra", "ann", NOW).build_id == 900
    assert (highest(journal, JOB), highest(journal, ELSEWHERE)) == (None, 800)
    assert journal.forget_taken(JOB, "again", "ann", NOW) is None
    journal.record(an_arrival(4))
    assert highest(journal, JOB) == 4


@pytest.mark.parametrize(
    ("outcome", "history"),
    [
        ("confirmed", History()),
        ("staged", History(is_staged=True)),
        ("rebooting", History(is_staged=True, reboot_asked_in="boot-1")),
        ("failed", History(has_failed=True)),
        ("rolled-back", History(has_failed=True)),
        ("pending", History()),
        ("activating", History(has_failed=True)),
        ("dry-activated", History(is_dry_activated=True)),
        ("awaits-reboot", History()),
    ],
)
def test_the_history_of_a_system_is_what_last_came_of_it(journal, outcome, history):
    journal.record(an_arrival(1, outcome=outcome))
    journal.record(a_run(2, outcome="held", toplevel=NEW))
    assert journal.history_of(a_candidate(NEW)) == history
    assert journal.history_of(a_candidate(OTHER)) == History()


@pytest.mark.parametrize("outcome", ["staged", "rebooting", "failed", "activating"])
def test_it_counts_only_until_another_system_came(journal, outcome):
    journal.record(an_arrival(1, NEW, outcome))
    journal.record(an_arrival(2, OTHER, "confirmed"))
    assert journal.history_of(a_candidate(NEW)) == History()


def test_a_dry_activation_stays_known_and_hides_nothing(journal):
    journal.record(an_arrival(1, OTHER, "staged"))
    journal.record(an_arrival(2, NEW, "dry-activated"))
    journal.record(an_arrival(3, OLD, "dry-activated"))
    assert journal.history_of(a_candidate(NEW)).is_dry_activated
    assert journal.history_of(a_candidate(OTHER)).is_staged


def test_a_dry_activation_that_failed_hides_nothing_either(journal):
    journal.record(an_arrival(1, NEW, "staged"))
    journal.record(an_arrival(2, OTHER, "failed", action="dry-activate"))
    assert journal.history_of(a_candidate(NEW)).is_staged
    assert not journal.history_of(a_candidate(OTHER)).has_failed


def test_what_was_built_in_place_of_a_build_is_that_builds_history(journal):
    journal.record(an_arrival(4, OTHER, "rebooting"))
    history = journal.history_of(a_candidate(NEW, build_id=4))
    assert history == History(is_staged=True, reboot_asked_in="boot-1", activated_as=OTHER)
    assert journal.history_of(a_candidate(NEW, build_id=5)) == History()


def test_the_newest_runs_come_first(journal):
    for number in range(5):
        journal.record(an_arrival(number))
    assert [run.build_id for run in journal.runs(3)] == [4, 3, 2]
    assert len(journal.runs(100)) == 5


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_has_not_ended_is_under_way(journal, outcome):
    run = an_arrival(1, outcome=outcome)
    journal.record(run)
    journal.record(an_arrival(2))
    journal.record(a_run(3))
    assert journal.under_way() == (run if outcome in UNDER_WAY else None)


def test_of_several_runs_under_way_the_newest_counts(journal):
    for number in (1, 2):
        journal.record(an_arrival(number, outcome="activating"))
    assert journal.under_way().run_id == "run-2"
    journal.record(an_arrival(2, outcome="confirmed"))
    assert journal.under_way().run_id == "run-1"


# What a path has earned.


def test_nothing_is_held_against_a_path_that_nobody_knows(journal):
    journal.prepare()
    assert journal.standing_of(NEW, NOW) == Standing()
    assert journal.denials(NOW) == ()


def test_a_denial_is_of_one_path_and_told_whole(journal):
    denial = a_denial(build_id=7, until=NOW + timedelta(days=3))
    journal.deny(denial)
    assert journal.standing_of(NEW, NOW) == Standing(denial=denial)
    assert journal.standing_of(OTHER, NOW) == Standing()
    assert journal.denials(NOW) == (denial,)


def test_a_denial_ends_when_its_time_is_over(journal):
    journal.deny(a_denial(until=NOW + timedelta(days=3)))
    just_before, then = NOW + timedelta(days=3, seconds=-1), NOW + timedelta(days=3)
    assert journal.standing_of(NEW, just_before).denial is not None
    assert journal.standing_of(NEW, then) == Standing()
    assert journal.denials(then) == ()
    assert not journal.allow(NEW, "", "me", then)


def test_the_newest_denial_of_a_path_is_the_one_in_force(journal):
    journal.deny(a_denial(reason="first"))
    journal.deny(a_denial(OTHER))
    journal.deny(a_denial(reason="second", by="agent"))
    assert [(denial.toplevel, denial.reason) for denial in journal.denials(NOW)] == [
        (NEW, "second"),
        (OTHER, "why"),
    ]


def test_a_denial_and_the_row_of_its_run_are_written_together(journal):
    journal.record(an_arrival(1, outcome="rolling-back"))
    ended = an_arrival(1, outcome="rolled-back", fault="broken")
    journal.deny(a_denial(), ended)
    assert journal.runs(9) == (ended,)
    assert journal.standing_of(NEW, NOW) == Standing(denial=a_denial(), roll_backs=1)


def test_failures_add_up_to_suspicions_and_roll_backs(journal):
    journal.record(an_arrival(1, outcome="failed", fault="suspect"))
    journal.record(an_arrival(2, outcome="rolled-back", fault="suspect"))
    journal.record(an_arrival(3, outcome="rolled-back", fault="broken"))
    journal.record(an_arrival(4, outcome="rolled-back"))
    journal.record(an_arrival(5, OTHER, "rolled-back", fault="suspect"))
    standing = journal.standing_of(NEW, NOW)
    assert (standing.suspicions, standing.roll_backs) == (2, 2)
    assert standing.suspected_at == an_arrival(2).finished_at


def confirm(journal):
    journal.record(an_arrival(8, outcome="confirmed"))


def allow(journal):
    assert journal.allow(NEW, "looked at it", "me", NOW)


@pytest.mark.parametrize("forgive", [confirm, allow])
def test_a_confirmation_and_a_person_forgive_what_was_before(journal, forgive):
    journal.record(an_arrival(1, outcome="rolled-back", fault="suspect"))
    journal.record(an_arrival(2, OTHER, "rolled-back", fault="suspect"))
    forgive(journal)
    assert journal.standing_of(NEW, NOW) == Standing()
    assert journal.standing_of(OTHER, NOW).roll_backs == 1
    journal.record(an_arrival(9, outcome="failed", fault="suspect"))
    assert journal.standing_of(NEW, NOW).suspicions == 1


def test_a_denial_outlives_a_confirmation(journal):
    journal.deny(a_denial())
    confirm(journal)
    assert journal.standing_of(NEW, NOW).denial == a_denial()


def test_a_person_lifts_a_denial_once(journal):
    journal.deny(a_denial())
    journal.deny(a_denial(OTHER))
    allow(journal)
    assert [denial.toplevel for denial in journal.denials(NOW)] == [OTHER]
    assert not journal.allow(NEW, "", "me", NOW)


@pytest.mark.parametrize("is_new", [True, False])
def test_where_nothing_is_held_there_is_nothing_to_allow(journal, is_new):
    if not is_new:
        confirm(journal)
    assert not journal.allow(NEW, "", "me", NOW)


def test_a_build_is_found_by_its_number(journal):
    assert journal.toplevel_of(7) is None
    journal.record(an_arrival(7, OTHER))
    journal.record(a_run(8, build_id=7, toplevel=NEW, outcome="failed"))
    journal.record(a_run(9, build_id=7, outcome="failed", error_kind="x"))
    assert journal.toplevel_of(7) == NEW
    assert journal.toplevel_of(8) is None


def test_no_password_is_kept_with_a_denial(tmp_path, real):
    url = "git+https://bob:hunter2@forge.example.org/r"
    real.deny(a_denial(reason=f"cannot {url}"))
    real.allow(NEW, url, "me", NOW)
    assert not any(b"hunter2" in file.read_bytes() for file in tmp_path.iterdir())


def test_no_password_of_a_flake_is_kept(tmp_path, real):
    url = "git+https://bob:hunter2@forge.example.org/r"
    real.record(a_run(flake=url, error_message=f"cannot {url}", reasons=(("x", url),)))
    kept = last_of(real)
    assert "forge.example.org" in kept.flake
    assert not any(b"hunter2" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_failure_before_anything_was_touched_is_no_failed_activation(journal):
    journal.record(a_run(1, outcome="failed", toplevel=NEW))
    assert not journal.history_of(a_candidate(NEW)).has_failed


@pytest.mark.parametrize("made", ["prepare", "nothing"])
def test_preparing_is_possible_any_time(journal, made):
    if made == "prepare":
        journal.prepare()
    journal.record(a_run())
    journal.prepare()
    assert last_of(journal) == a_run()


# What the file does.

_text = st.none() | st.text()
_instants = st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
_numbers = st.none() | st.integers(-(2**63), 2**63 - 1)
_runs = st.builds(
    recorded,
    run_id=st.text(),
    started_at=_instants,
    host=st.text(),
    job=st.text(),
    outcome=st.text() | st.sampled_from(list(Outcome)),
    finished_at=st.none() | _instants,
    decision=_text,
    action=_text | st.sampled_from(list(Action)),
    build_id=_numbers,
    eval_id=_numbers,
    flake=_text,
    toplevel=_text | st.just(NEW),
    previous=_text | st.just(OLD),
    boot_id=_text,
    invocation=_text,
    baseline=st.none() | st.just('{"hydra": true}'),
    fault=st.none() | st.sampled_from(Fault),
    reasons=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
    ignored_gates=st.lists(st.builds(IgnoredGate, *[st.text()] * 4), max_size=3).map(tuple),
    target=_text | st.just(OLD),
    error_kind=_text,
    error_message=_text,
    exit_code=_numbers,
    repeats=st.integers(0, 1000),
)


@given(run=_runs)
@settings(max_examples=50)
def test_any_run_is_read_back_as_it_was(run):
    with TemporaryDirectory() as state_dir:
        journal = SqliteJournal(Path(state_dir), RememberedEvents())
        journal.record(run)
        assert last_of(journal) == run


def test_every_field_of_a_run_has_a_column(real, file):
    real.prepare()
    with closing(sqlite3.connect(file)) as db:
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(runs)")]
    assert set(columns) == {"id", *COLUMNS}


# As the first version of the agent made it.
FIRST_VERSION = """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL UNIQUE,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        host TEXT NOT NULL,
        job TEXT NOT NULL,
        decision TEXT,
        action TEXT,
        outcome TEXT NOT NULL,
        build_id INTEGER,
        eval_id INTEGER,
        flake TEXT,
        toplevel TEXT,
        boot_id TEXT,
        previous TEXT,
        reasons TEXT NOT NULL DEFAULT '[]',
        error_kind TEXT,
        error_message TEXT,
        exit_code INTEGER,
        repeats INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX runs_by_toplevel ON runs (toplevel);
    CREATE INDEX runs_by_job ON runs (job, build_id);
    PRAGMA user_version = 1;
    PRAGMA journal_mode = WAL;
"""


def of_the_first_version(file, **outcomes):
    """Make such a file, with a run of each build that ended as `outcomes` say."""
    with closing(sqlite3.connect(file)) as db, db:
        db.executescript(FIRST_VERSION)
        for number, outcome in enumerate(outcomes.values(), 1):
            db.execute(
                "INSERT INTO runs (run_id, started_at, finished_at, host, job, action, outcome,"
                " build_id, toplevel, boot_id, previous, reasons, exit_code, repeats)"
                " VALUES (?, ?, ?, 'h', ?, 'switch', ?, ?, ?, 'boot-1', ?, ?, 0, 3)",
                (
                    f"run-{number}",
                    a_run(number).started_at.isoformat(),
                    a_run(number).finished_at.isoformat(),
                    *(JOB.key, outcome, number, NEW, OLD, '[["x", "y"]]'),
                ),
            )


def test_a_history_of_the_first_version_is_carried_over_whole(real, file, sink):
    of_the_first_version(file, first="activated", second="staged", third="activating")
    real.prepare()
    third, second, first = real.runs(9)
    assert first == an_arrival(1, reasons=(("x", "y"),), exit_code=0, repeats=3)
    assert second == altered(first, **vars_of(2, "staged"))
    assert third == altered(first, **vars_of(3, "failed"))
    assert highest(real, JOB) == 2
    assert real.under_way() is None
    assert real.standing_of(NEW, NOW) == Standing()
    assert sink.said == []
    for _ in range(2):
        journal = SqliteJournal(file.parent, sink)
        journal.deny(a_denial())
        journal.record(an_arrival(4, baseline="{}", fault="suspect"))
        assert len(journal.runs(9)) == 4


# As the agents of before have it, whose columns these are, too.
OLDER_VERSION = 3
OLDER_COLUMNS = (
    "run_id, started_at, host, job, outcome, finished_at, decision, action, build_id, eval_id,"
    " flake, toplevel, boot_id, previous, reasons, baseline, fault, error_kind, error_message,"
    " exit_code, repeats"
)


def as_an_older_agent_left_it(file):
    """Take away all that has been added since."""
    with closing(sqlite3.connect(file)) as db, db:
        for column in ("invocation", "sets_measure"):
            db.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        for table in ("boot_cleanings", "forgotten_builds", "good_builds"):
            db.execute(f"DROP TABLE {table}")


def test_what_an_older_agent_left_is_read_and_added_to(real, file, sink):
    real.record(an_arrival(1))
    as_an_older_agent_left_it(file)
    assert real.runs(9) == (an_arrival(1),)
    real.record(an_arrival(2, invocation="1f"))
    assert real.runs(9) == (an_arrival(2, invocation="1f"), an_arrival(1))
    assert sink.said == []


def test_an_older_agent_can_go_on_with_what_this_one_wrote(real, file):
    real.record(an_arrival(1, invocation="1f"))
    with closing(sqlite3.connect(file)) as db, db:
        assert db.execute("PRAGMA user_version").fetchone() == (OLDER_VERSION,)
        db.execute(
            f"INSERT INTO runs ({OLDER_COLUMNS}) SELECT 'older', {OLDER_COLUMNS[8:]} FROM runs"  # noqa: S608 - names of our own
        )
    older, first = real.runs(9)
    assert (older.run_id, older.invocation) == ("older", None)
    assert first == an_arrival(1, invocation="1f")


def vars_of(number, outcome):
    """What is different in a sample row of another number."""
    run = an_arrival(number, outcome=outcome)
    names = ("run_id", "started_at", "finished_at", "build_id", "outcome")
    return {name: getattr(run, name) for name in names}


def test_a_reader_understands_the_first_version_and_changes_nothing(real, file):
    """`agent status` and `agent history` may be the first of the new version to look."""
    of_the_first_version(file, first="activated")
    before = file.read_bytes()
    (run,) = real.runs(9)
    assert run.outcome == "confirmed"
    assert real.standing_of(NEW, NOW) == Standing()
    assert real.denials(NOW) == ()
    assert file.read_bytes() == before


def test_text_that_is_none_is_kept_readable(real):
    real.record(a_run(1, error_message="/x/\udcff"))
    assert last_of(real).error_message == r"/x/\udcff"


def test_old_runs_are_pruned_but_not_what_decisions_stand_on(real, file):
    real.record(an_arrival(900, OTHER))
    real.record(an_arrival(800, OTHER, job=ELSEWHERE.key))
    real.record(an_arrival(700, OTHER))
    real.record(an_arrival(600, OTHER, "dry-activated"))
    real.record(an_arrival(550, SPECIAL, "confirmed"))
    real.record(an_arrival(540, SPECIAL, "rolled-back", fault="suspect"))
    real.record(an_arrival(530, SPECIAL, "rolled-back", fault="suspect"))
    real.record(a_run(520, build_id=520, outcome="fetched"))
    real.deny(a_denial(OLD))
    real.record(an_arrival(510, OTHER))
    real.record(an_arrival(500, NEW, "failed"))
    with closing(sqlite3.connect(file)) as db, db:
        db.executemany(
            "INSERT INTO runs (id, run_id, started_at, host, job, outcome)"
            " VALUES (?, ?, '2026-01-01T00:00:00+00:00', 'h', 'j', 'held')",
            [(n, f"filler-{n}") for n in range(1000, 3000)],
        )
    real.record(a_run(9999, outcome="failed"))
    with closing(sqlite3.connect(file)) as db:
        kept = [row for (row,) in db.execute("SELECT build_id FROM runs WHERE id < 100")]
        (count,) = db.execute("SELECT count(*) FROM runs").fetchone()
    assert kept == [900, 800, 600, 550, 530, 520, 510, 500]
    assert count == 1000 + len(kept)
    assert highest(real, JOB) == 900
    assert highest(real, ELSEWHERE) == 800
    assert real.history_of(a_candidate(NEW)).has_failed
    assert real.history_of(a_candidate(OTHER)).is_dry_activated
    assert real.under_way().build_id == 520
    assert real.standing_of(SPECIAL, NOW).roll_backs == 1
    assert real.standing_of(OLD, NOW).denial is not None


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_the_measure_is_kept_however_old_it_is_and_those_before_it_never_come_back(
    real, file, is_forgotten
):
    real.record(an_arrival(900, OTHER))
    if is_forgotten:
        real.forget_taken(JOB, "a new Hydra", "ann", NOW)
    real.record(an_arrival(4, sets_measure=not is_forgotten))
    real.record(an_arrival(7, SPECIAL))
    real.record(an_arrival(6, OLD))
    with closing(sqlite3.connect(file)) as db, db:
        db.executemany(
            "INSERT INTO runs (id, run_id, started_at, host, job, outcome)"
            " VALUES (?, ?, '2026-01-01T00:00:00+00:00', 'h', 'j', 'held')",
            [(n, f"filler-{n}") for n in range(1000, 3000)],
        )
    real.record(a_run(9999, outcome="failed"))
    assert highest(real, JOB) == 7


def names_in(directory):
    """Return its files but those that SQLite itself keeps beside its own."""
    return {path.name.removesuffix("-shm").removesuffix("-wal") for path in directory.iterdir()}


def test_a_reader_makes_no_journal(real, tmp_path):
    assert last_of(real) is None
    assert highest(real, JOB) is None
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("content", [b"", None])
def test_a_file_without_a_table_is_a_new_journal(real, file, sink, content):
    if content is None:
        with closing(sqlite3.connect(file)) as db:
            db.execute("VACUUM")
    else:
        file.write_bytes(content)
    assert last_of(real) is None
    assert real.history_of(a_candidate(NEW)) == History()
    real.prepare()
    real.record(a_run())
    assert last_of(real) == a_run()
    assert sink.said == []


def test_a_newer_agents_journal_is_left_alone(real, file, sink):
    real.record(a_run())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    for use in (real.prepare, lambda: real.runs(1), lambda: real.record(a_run(2))):
        with pytest.raises(JournalError, match="version 99") as caught:
            use()
        assert caught.value.kind is Kind.JOURNAL_TOO_NEW
    assert file.read_bytes() == before
    assert sink.said == []


def garbage(file):
    file.write_bytes(b"no database at all " * 1000)


def truncated(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def damaged_within(file):
    """Every page but the first is overwritten."""
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def without_its_table(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DROP TABLE runs")


def without_denials(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DROP TABLE denials")


def with_another_table(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("ALTER TABLE runs DROP COLUMN reasons")


@pytest.mark.parametrize(
    "damage",
    [garbage, truncated, damaged_within, without_its_table, without_denials, with_another_table],
)
@pytest.mark.parametrize("use", ["prepare", "record"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(real, file, sink, damage, use):
    for number in range(30):
        real.record(an_arrival(number))
    damage(file)
    damaged = file.read_bytes()
    if use == "prepare":
        real.prepare()
        assert last_of(real) is None
    real.record(a_run(99))
    assert last_of(real) == a_run(99)
    aside = file.with_name("journal.damaged")
    assert len(aside.read_bytes()) == len(damaged)
    assert sink.names() == ["journal.set_aside"]
    told = sink.fields_of(events.JOURNAL_SET_ASIDE)
    assert (told["path"], told["error.kind"]) == (str(aside), Kind.JOURNAL_CORRUPT)


def test_a_damaged_file_is_only_told_by_a_reader(real, file, sink):
    garbage(file)
    with pytest.raises(JournalError) as caught:
        last_of(real)
    assert caught.value.kind is Kind.JOURNAL_CORRUPT
    assert sink.said == []
    assert file.exists()


def test_a_directory_in_the_files_place_is_told(real, file):
    file.mkdir()
    with pytest.raises(JournalError, match=str(file)):
        real.prepare()


def test_a_file_in_the_state_directorys_place_is_told(tmp_path, sink):
    (tmp_path / "state").write_text("")
    journal = SqliteJournal(tmp_path / "state", sink)
    for use in (journal.prepare, lambda: journal.note_contact(NOW)):
        with pytest.raises(JournalError) as caught:
            use()
        assert caught.value.kind is Kind.STATE_UNUSABLE
    assert last_of(journal) is None


def test_the_last_contact_is_a_time_for_people_and_programs(real, tmp_path):
    real.note_contact(NOW)
    assert (tmp_path / "last-contact").read_text() == "2026-11-21T04:40:00Z\n"


def in_child(*arguments):
    return subprocess.run(
        [*PYTHON, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT,
    )


def as_nobody(task, state_dir):
    """Do a task as an ordinary user and return what it prints."""
    done = in_child("as_nobody", task, state_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def open_to_all():
    """A directory that any user can reach, unlike those of pytest."""
    with TemporaryDirectory(prefix="journal-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
def test_the_history_is_its_owners_alone(open_to_all, sink):
    """Who can open the file can hold its locks, and so hold up a roll-back."""
    SqliteJournal(open_to_all, sink).record(a_run(1))
    assert as_nobody("tell_last_run", open_to_all) == "state-private"
    assert as_nobody("tell_what_writing_gives", open_to_all).split() == ["state-private"] * 2
    assert names_in(open_to_all) == {"journal.sqlite"}
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o700
    open_to_all.chmod(0o755)  # as a directory that is a link, or another user's, may stay
    assert as_nobody("tell_last_run", open_to_all) == "state-private"


@as_root
def test_an_ordinary_user_is_told_who_may_ask(open_to_all, sink):
    state, store = open_to_all / "state", open_to_all / "store"
    SqliteJournal(state, sink).record(a_run(1))
    store.mkdir()
    (open_to_all / "config.toml").write_text(
        f"""
        [hydra]
        instance = "http://127.0.0.1:1"
        project = "p"
        jobset = "j"
        timeout = "1s"
        deadline = "1s"
        [paths]
        state_dir = "{state}"
        store_dir = "{store}"
        marks_dir = "{open_to_all / "marks"}"
        current_system = "{open_to_all / "current"}"
        booted_system = "{open_to_all / "booted"}"
        profile = "{open_to_all / "profile"}"
        """
    )
    done = in_child("as_nobody", "tell_codes_of_commands", open_to_all)
    assert [line for line in done.stdout.splitlines() if line.isdecimal()] == ["77", "77"]
    told = done.stdout + done.stderr
    assert told.count("state-private") == 2
    assert told.count("as root") == 2


def in_small_file_system(task, directory, size):
    """Run `task` with a small file system of its own at `directory`."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@" "$0"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(directory), *PYTHON, task],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT,
    )


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path):
    done = in_small_file_system("fill_then_free", tmp_path, "1m")
    if "mount:" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    assert done.stdout.split() == ["state-full", "state-full", "run-1", "run-3"]


def test_two_processes_may_write_to_a_new_journal_at_once(tmp_path, real):
    children = [
        subprocess.Popen(
            [*PYTHON, "write_some", str(tmp_path), f"w{n}"],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
        )
        for n in range(3)
    ]
    for child in children:
        _, said = child.communicate(timeout=60)
        assert said == b""
        assert child.returncode == 0
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        (count,) = db.execute("SELECT count(*) FROM runs").fetchone()
    assert count == 75
    assert highest(real, JOB) == 24


class writer:  # noqa: N801 - used as a function
    """A process that writes rows until it is killed, and tells each one that is written."""

    def __init__(self, state_dir):
        self.state_dir = state_dir

    def __enter__(self):
        self.child = subprocess.Popen(
            [*PYTHON, "write_for_ever", str(self.state_dir)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
        )
        return self.child

    def __exit__(self, *_error):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.child.stdout.close()


def test_every_write_waits_for_the_disk(real, monkeypatch):
    """The connection itself is asked: without `synchronous=FULL` a power failure may take rows."""
    found, connect = [], sqlite3.connect

    class Asked(sqlite3.Connection):
        def close(self):
            modes = ("journal_mode", "synchronous")
            found.append([self.execute(f"PRAGMA {mode}").fetchone()[0] for mode in modes])
            super().close()

    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Asked))
    real.record(a_run(1))
    real.deny(Denial(NEW, "broken", NOW, "agent", 1))
    real.note_contact(NOW)
    full = 2
    assert found
    assert all(modes == ["wal", full] for modes in found)


@pytest.mark.parametrize("rounds", [5, pytest.param(20, marks=pytest.mark.long)])
def test_a_killed_writer_leaves_whole_rows_and_all_that_it_told(tmp_path, real, sink, file, rounds):
    chance = random.Random(7)
    last_told = -1
    for _ in range(rounds):
        with writer(tmp_path) as child:
            os.set_blocking(child.stdout.fileno(), True)
            for _ in range(chance.randrange(1, 6)):
                told = int(child.stdout.readline())
            # Somewhere within the next write: how far it gets differs from time to time.
            for _ in range(chance.randrange(20_000)):
                pass
        real.prepare()
        with closing(sqlite3.connect(file)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            for number, text in db.execute("SELECT build_id, error_message FROM runs"):
                assert text == f"{number} " * 2000
        last_told = max(last_told, told)
        assert highest(real, JOB) >= last_told
    assert sink.said == []


@as_root
def test_a_user_who_may_not_change_the_host_hears_so_before_anything_is_asked(open_to_all):
    private = open_to_all / "private"
    private.mkdir(mode=0o700)
    (private / "state").mkdir()
    assert as_nobody("tell_whether_it_may_change", private) == "needs-root 77"
    assert as_nobody("tell_whether_it_may_change", private / "state") == "needs-root 77"
    assert as_nobody("tell_whether_it_may_change", open_to_all / "not/there") == "needs-root 77"
    os.chown(private, 65534, 65534)
    assert as_nobody("tell_whether_it_may_change", private / "not/there") == "nothing"
    private.chmod(0o500)  # its own, and read-only: a write reports that
    assert as_nobody("tell_whether_it_may_change", private) == "nothing"
    check_owner(private)
