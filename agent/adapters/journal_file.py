"""The file that the history is kept in: its schema, its migrations and its faults."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent.adapters.state import state_fault
from agent.application import events
from agent.application.ports import RunRecord
from agent.domain.errors import JournalError, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.application.ports import EventSink

_PATIENCE: Final = 10.0
"""Seconds to wait for another writer."""


_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_MAY_NOT_WRITE: Final = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_NO_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")

# One entry a version; `PRAGMA user_version` counts those that have been applied.
_MIGRATIONS: Final = (
    (
        """
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
    ) STRICT
    """,
        "CREATE INDEX runs_by_toplevel ON runs (toplevel)",
        "CREATE INDEX runs_by_job ON runs (job, build_id)",
    ),
    (
        "ALTER TABLE runs ADD COLUMN baseline TEXT",
        "ALTER TABLE runs ADD COLUMN fault TEXT",
        # There was no confirmation, and no mark by which a run that was cut short could be resumed.
        "UPDATE runs SET outcome = 'confirmed' WHERE outcome = 'activated'",
        "UPDATE runs SET outcome = 'failed' WHERE outcome = 'activating'",
        """
    CREATE TABLE denials (
        id INTEGER PRIMARY KEY,
        toplevel TEXT NOT NULL,
        build_id INTEGER,
        reason TEXT NOT NULL,
        by TEXT NOT NULL,
        denied_at TEXT NOT NULL,
        until TEXT
    ) STRICT
    """,
        """
    CREATE TABLE allowances (
        toplevel TEXT NOT NULL,
        reason TEXT NOT NULL,
        by TEXT NOT NULL,
        allowed_at TEXT NOT NULL,
        after_run INTEGER NOT NULL
    ) STRICT
    """,
        "CREATE INDEX denials_by_toplevel ON denials (toplevel)",
    ),
    (
        """
    CREATE TABLE pauses (
        id INTEGER PRIMARY KEY,
        reason TEXT NOT NULL,
        by TEXT NOT NULL,
        since TEXT NOT NULL,
        until TEXT
    ) STRICT
    """,
        """
    CREATE TABLE reboot_plans (
        toplevel TEXT PRIMARY KEY,
        inhibited_since TEXT,
        announced_for TEXT
    ) STRICT
    """,
    ),
    ("ALTER TABLE runs ADD COLUMN invocation TEXT",),
)

COLUMNS: Final = tuple(field.name for field in fields(RunRecord))
"""Of the table `runs`."""
_TABLES: Final = {
    "runs": COLUMNS,
    "denials": ("toplevel", "build_id", "reason", "by", "denied_at", "until"),
    "allowances": ("toplevel", "reason", "by", "allowed_at", "after_run"),
    "pauses": ("reason", "by", "since", "until"),
    "reboot_plans": ("toplevel", "inhibited_since", "announced_for"),
}


class JournalFile:
    """Opens the file: migrated, whole, and with every fault told as a JournalError.

    Every write is on disk (`synchronous=FULL`) when its `with` block ends.
    """

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = state_dir / "journal.sqlite"
        self._sink = sink

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """Open for reading alone, so that an ordinary user may look; None if new."""
        with self.faults_told():
            if not self._file.exists():
                yield None
                return
            with closing(self._connect_reader()) as db:
                version = self._check_version(db)
                if 0 < version < len(_MIGRATIONS):
                    with closing(self._migrated_copy(db)) as copy:
                        yield copy
                else:
                    yield db if version else None

    def _migrated_copy(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """Return an older agent's history as this one would have it; the file stays as it is."""
        copy = sqlite3.connect(":memory:")
        db.backup(copy)
        self._migrate(copy)
        return copy

    def _connect_reader(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self._file))}?mode=ro"
        db = sqlite3.connect(uri, uri=True, timeout=_PATIENCE)
        try:
            self._check_version(db)
        except sqlite3.OperationalError as error:
            db.close()
            if not _name(error).startswith(_MAY_NOT_WRITE):
                raise
            # A reader who may not make the shared-memory file of the write-ahead log.
            return sqlite3.connect(f"{uri}&immutable=1", uri=True)
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open for one transaction; a damaged file is set aside first."""
        with self.faults_told():
            try:
                connection = self._connect()
            except sqlite3.DatabaseError as error:
                if not _name(error).startswith(_DAMAGED):
                    raise
                self._set_aside(error)
                connection = self._connect()
            with closing(connection) as db, db:
                yield db

    @contextmanager
    def faults_told(self) -> Iterator[None]:
        """Translate what goes wrong with the file or its directory.

        Raises:
            JournalError: as the port `Journal` has them.
        """
        try:
            yield
        except sqlite3.Error as error:
            raise self._fault(error) from error
        except OSError as error:
            fault = state_fault(self._file, error)
            raise JournalError(fault.kind, fault.message, hint=fault.hint) from error

    def _connect(self) -> sqlite3.Connection:
        self._file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        db = sqlite3.connect(self._file, timeout=_PATIENCE, isolation_level="IMMEDIATE")
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._migrate(db)
            _examine(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        if self._check_version(db) == len(_MIGRATIONS):
            return
        with db:
            db.execute("BEGIN IMMEDIATE")
            # Another process may have been here first.
            for number in range(self._check_version(db), len(_MIGRATIONS)):
                for statement in _MIGRATIONS[number]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number + 1}")

    def _check_version(self, db: sqlite3.Connection) -> int:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise JournalError(
                Kind.JOURNAL_TOO_NEW,
                f"{self._file} was written by a newer agent (version {version},"
                f" this one knows {len(_MIGRATIONS)})",
                hint="move it away, or run the newer agent",
            )
        return int(version)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Keep a damaged file for a person to look at, and begin a new one."""
        aside = self._file.with_suffix(".damaged")
        self._file.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        self._sink.emit(
            events.JOURNAL_SET_ASIDE,
            path=str(aside),
            error_kind=Kind.JOURNAL_CORRUPT,
            error_message=f"{self._file} is damaged: {error}",
        )

    def _fault(self, error: sqlite3.Error) -> JournalError:
        name = _name(error)
        if name.startswith(_NO_ROOM):
            kind, hint = Kind.STATE_FULL, "free some room in the file system of paths.state_dir"
        elif name.startswith(_MAY_NOT_WRITE):
            kind, hint = Kind.STATE_READ_ONLY, "the agent needs to write to paths.state_dir"
        elif name.startswith(_DAMAGED):
            kind, hint = Kind.JOURNAL_CORRUPT, "move it away: a new one is begun"
        else:
            kind, hint = Kind.STATE_UNUSABLE, "check paths.state_dir"
        return JournalError(kind, f"cannot use {self._file}: {error} ({name})", hint=hint)


class _DamagedError(sqlite3.DatabaseError):
    """SQLite opens the file, but what it holds is not whole."""

    sqlite_errorname = "SQLITE_CORRUPT"


def _examine(db: sqlite3.Connection) -> None:
    """Find out whether the file is whole; it never has more than some thousand rows.

    Raises:
        sqlite3.DatabaseError: it is not.
    """
    (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise _DamagedError(said)
    for table, wanted in _TABLES.items():
        columns = {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
        if missing := set(wanted) - columns:
            raise _DamagedError(f"{table} has no column {', '.join(sorted(missing))}")


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "unknown")
