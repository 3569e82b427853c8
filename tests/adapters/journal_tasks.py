"""What the journal's tests do in processes of their own: prints one word a line."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

from agent.adapters.state.journal import SqliteJournal
from agent.adapters.state_dir import check_owner
from agent.domain.errors import HostError, JournalError
from agent.domain.path_record import Denial
from fakes import runs
from fakes.events import RememberedEvents

PYTHON = [sys.executable, "-P", str(Path(__file__))]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parents[1]}",
}


def _tell(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def tell_last_run(state_dir):
    journal = SqliteJournal(Path(state_dir), RememberedEvents())
    try:
        rows = journal.runs(1)
    except JournalError as error:
        _tell(error.kind)
    else:
        _tell(rows[0].run_id if rows else None)


def tell_what_writing_gives(state_dir):
    journal = SqliteJournal(Path(state_dir), RememberedEvents())
    for use in (journal.prepare, lambda: journal.note_contact(runs.NOW)):
        try:
            use()
        except JournalError as error:
            _tell(error.kind)


def write_for_ever(state_dir):
    journal = SqliteJournal(Path(state_dir), RememberedEvents())
    for number in range(1_000_000):
        journal.record(runs.an_arrival(number, error_message=f"{number} " * 2000))
        _tell(number)


def write_some(state_dir, name):
    journal = SqliteJournal(Path(state_dir), RememberedEvents())
    for number in range(25):
        journal.record(replace(runs.an_arrival(number), run_id=f"{name}-{number}"))


def fill_then_free(state_dir):
    """Fill the file system to the last byte, then make room again."""
    journal = SqliteJournal(Path(state_dir), RememberedEvents())
    journal.record(runs.a_run(1, error_message="x" * 100_000))
    filler = Path(state_dir, "filler")
    with filler.open("wb", buffering=0) as stream:
        for size in (4096, 1):
            try:
                while stream.write(b"x" * size):
                    pass
            except OSError:
                pass
    for use in (
        lambda: journal.record(runs.a_run(2, outcome="confirmed", error_message="y" * 100_000)),
        lambda: journal.note_contact(runs.NOW),
    ):
        try:
            use()
            _tell("written")
        except JournalError as error:
            _tell(error.kind)
    filler.unlink()
    _tell(journal.runs(1)[0].run_id)
    journal.record(runs.a_run(3, outcome="confirmed"))
    _tell(journal.runs(1)[0].run_id)


def tell_whether_it_may_change(state_dir):
    """Print what stands against a change of the host."""
    try:
        check_owner(Path(state_dir))
        _tell("nothing")
    except HostError as error:
        _tell(f"{error.kind} {error.exit_code}")


def deny_without_room(state_dir):
    """Deny a path on a file system that is full to the last byte, and once there is room again."""
    journal = SqliteJournal(Path(state_dir), RememberedEvents())
    journal.prepare()
    row = runs.an_arrival(1, outcome="rolling-back", fault="broken", error_message="x" * 20_000)
    filler = Path(state_dir, "filler")
    with filler.open("wb", buffering=0) as stream:
        for size in (4096, 1):
            try:
                while stream.write(b"x" * size):
                    pass
            except OSError:
                pass
    try:
        Path(state_dir, "probe").write_bytes(b"x" * 4096)
    except OSError:
        _tell("full")
    journal.record(row)
    journal.deny(Denial(row.toplevel, "why", runs.NOW, "agent"), row)
    for _ in range(2):
        _tell("denied" if journal.standing_of(row.toplevel, runs.NOW).denial else "lost")
        filler.unlink(missing_ok=True)
        journal.prepare()


def tell_codes_of_commands(directory):
    """Tell the exit codes of what an ordinary user may ask."""
    from agent.cli.main import run

    for command in ("status", "history"):
        _tell(run([command, "--config", str(Path(directory, "config.toml"))]))


def as_nobody(task, state_dir):
    """Do a task as an ordinary user."""
    if task == "tell_codes_of_commands":
        # Modules are loaded late, and that user may be unable to read them.
        with Path(os.devnull).open("w") as none, redirect_stdout(none), redirect_stderr(none):
            globals()[task](state_dir)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    globals()[task](state_dir)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
