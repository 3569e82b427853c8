"""The file of the history: its schema, its migrations and its errors."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent.adapters.state.journal_rows import LARGEST_NUMBER, TABLES, Row, decode
from agent.adapters.state.journal_salvage import restore, salvage
from agent.adapters.state_dir import (
    is_of_another,
    is_without_room,
    make_private,
    private_fault,
    state_fault,
)
from agent.application import events
from agent.domain.errors import JournalError, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.application.ports import EventSink

_PATIENCE: Final = 10.0
"""Seconds to wait for another writer."""
_SHORT_PATIENCE: Final = 0.5
"""Seconds to wait after the first timeout: a roll-back asks several times, and must be quick."""
_MOST_NAMED: Final = 10
"""How many unreadable rows one process logs."""

_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_MAY_NOT_WRITE: Final = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_NOT_OURS: Final = ("SQLITE_ERROR", "SQLITE_FORMAT")
"""Not the tables that were asked for, or a format that SQLite does not know."""
_LAST_VERSION: Final = 1000
"""No agent has a later one: that is damage."""
_GARBLED: Final = (UnicodeError, MemoryError)
"""What Python raises for a name or a length that SQLite reads from a damaged schema."""
_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")

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
)
# What has been added since. An older agent that a host is rolled back to refuses a higher
# `user_version`, and reads past columns and tables that it does not know: such additions leave the
# version as it is. They hold nothing that may not be missing.
_ADDED_COLUMNS: Final = {
    "runs": {
        "invocation": "TEXT",
        "sets_measure": "INTEGER",
        "ignored_gates": "TEXT",
        "target": "TEXT",
    },
}
_ADDED_TABLES: Final = {
    "boot_cleanings": "CREATE TABLE boot_cleanings (toplevel TEXT PRIMARY KEY) STRICT",
    "forgotten_builds": """
    CREATE TABLE forgotten_builds (
        job TEXT NOT NULL,
        reason TEXT NOT NULL,
        by TEXT NOT NULL,
        forgotten_at TEXT NOT NULL,
        after_run INTEGER NOT NULL
    ) STRICT
    """,
    "good_builds": """
    CREATE TABLE good_builds (
        job TEXT NOT NULL,
        build_id INTEGER NOT NULL,
        toplevel TEXT NOT NULL,
        system TEXT NOT NULL,
        finished_at TEXT,
        eval_id INTEGER,
        flake TEXT
    ) STRICT
    """,
}


class JournalFile:
    """Opens the file: migrated, whole, and with every fault raised as a JournalError.

    Every write is on disk (`synchronous=FULL`) when its `with` block ends.
    """

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = state_dir / "journal.sqlite"
        self._sink = sink
        self._patience = _PATIENCE
        self._named: set[tuple[str, int]] = set()

    def rows(
        self, db: sqlite3.Connection, table: str, which: str = "", *values: object
    ) -> list[tuple[int, Row]]:
        """Return rows of a table with their numbers; `which` is the end of a SELECT statement."""
        names = TABLES[table]
        found = db.execute(f"SELECT rowid, {', '.join(names)} FROM {table} {which}", values)  # noqa: S608 - our own
        return [
            (number, Row(dict(zip(names, row, strict=True))))
            for number, *row in found
            if isinstance(number, int)  # a view in the table's place has no numbers
        ]

    def name_unreadable(self, table: str, number: int, columns: Sequence[str]) -> None:
        """Log, once in a process, that a row could not be read whole."""
        if not columns or (table, number) in self._named or len(self._named) >= _MOST_NAMED:
            return
        self._named.add((table, number))
        self._sink.emit(
            events.JOURNAL_ROW_UNREADABLE, table=table, row=number, columns=sorted(set(columns))
        )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """Open for reading alone; None if there is no history yet."""
        with self.errors_translated():
            if not self._is_there():
                yield None
                return
            with closing(self._connect_reader()) as db:
                version = self._check_version(db)
                if version and _missing(db, version):
                    with closing(self._migrated_copy(db)) as copy:
                        yield copy
                else:
                    yield db if version else None

    def _is_there(self) -> bool:
        """Whether there is a file; what is none, such as a pipe, might never answer.

        Raises:
            JournalError: STATE_UNUSABLE.
        """
        found = False
        for suffix in ("-shm", "-wal", ""):
            path = self._file.with_name(self._file.name + suffix)
            try:
                mode = path.stat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISREG(mode):
                raise JournalError(
                    Kind.STATE_UNUSABLE,
                    f"cannot use {path}: it is no regular file",
                    hint="move it away: a new history is begun",
                )
            found = suffix == ""
        return found

    def _migrated_copy(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """Return an older agent's history as this one would have it; the file stays as it is."""
        copy = sqlite3.connect(":memory:")
        copy.text_factory = decode
        db.backup(copy)
        self._migrate(copy)
        return copy

    def _connect_reader(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self._file))}?mode=ro"
        db = sqlite3.connect(uri, uri=True, timeout=self._patience)
        try:
            self._check_version(db)
        except sqlite3.OperationalError as error:
            db.close()
            if not _name(error).startswith(_MAY_NOT_WRITE):
                raise
            # A reader who may not make the shared-memory file of the write-ahead log.
            db = sqlite3.connect(f"{uri}&immutable=1", uri=True)
        except BaseException:
            db.close()
            raise
        db.text_factory = decode
        return db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open for one transaction; a damaged file is set aside first."""
        with self.errors_translated():
            try:
                connection = self._connect(self._file)
            except (sqlite3.DatabaseError, *_GARBLED) as error:
                if not _is_damage(error):
                    raise
                self._begin_anew(error)
                connection = self._connect(self._file)
            with closing(connection) as db, db:
                yield db

    @contextmanager
    def errors_translated(self) -> Iterator[None]:
        """Translate what goes wrong with the file or its directory.

        Raises:
            JournalError: as the port `Journal` has them.
        """
        try:
            yield
        except sqlite3.Error as error:
            if _name(error).startswith(_BUSY):
                self._patience = _SHORT_PATIENCE
            raise self._fault(error) from error
        except _GARBLED as error:
            raise self._fault(_DamagedError(str(error))) from error
        except OSError as error:
            fault = state_fault(self._file, error)
            raise JournalError(fault.kind, fault.message, hint=fault.hint) from error

    def _connect(self, file: Path) -> sqlite3.Connection:
        make_private(file.parent)
        if file == self._file and not self._is_there():
            self._take_finished()
        with suppress(FileExistsError):
            # Nobody else may open it, and so lock it, even where the directory is open to all.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _check_header(file)
        db = sqlite3.connect(file, timeout=self._patience, isolation_level="IMMEDIATE")
        try:
            db.text_factory = decode
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._migrate(db)
            _examine(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        if not _missing(db, self._check_version(db)):
            return
        with db:
            db.execute("BEGIN IMMEDIATE")
            # Another process may have been here first.
            for statement in _missing(db, self._check_version(db)):
                db.execute(statement)

    def _check_version(self, db: sqlite3.Connection) -> int:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if not 0 <= version <= _LAST_VERSION:
            raise _DamagedError(f"it has the version {version}")
        if version > len(_MIGRATIONS):
            raise JournalError(
                Kind.JOURNAL_TOO_NEW,
                f"{self._file} was written by a newer agent (version {version},"
                f" this one knows {len(_MIGRATIONS)})",
                hint="move it away, or run the newer agent",
            )
        return int(version)

    @property
    def _unfinished(self) -> Path:
        return self._file.with_name(self._file.name + ".new")

    def _begin_anew(self, error: BaseException) -> None:
        """Set a damaged file aside for an administrator, and keep its denials and pauses.

        The new file is complete before the damaged one is moved: a kill in between loses no denial.
        """
        saved = salvage(self._file)
        aside = self._file.with_suffix(".damaged")
        for suffix in ("", "-wal", "-shm"):
            self._unfinished.with_name(self._unfinished.name + suffix).unlink(missing_ok=True)
        with closing(self._connect(self._unfinished)) as db, db:
            restore(db, saved)
        self._file.replace(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self._file.with_name(self._file.name + suffix).replace(
                    aside.with_name(aside.name + suffix)
                )
        self._take_finished()
        self._sink.emit(
            events.JOURNAL_SET_ASIDE,
            path=str(aside),
            error_kind=Kind.JOURNAL_CORRUPT,
            error_message=f"{self._file} is damaged: {error}",
        )

    def _take_finished(self) -> None:
        """Make the new file the history, once the damaged one has been moved."""
        with suppress(FileNotFoundError):
            self._unfinished.rename(self._file)

    def _fault(self, error: sqlite3.Error) -> JournalError:
        name = _name(error)
        if name.startswith(_MAY_NOT_WRITE) and is_of_another(self._file.parent):
            fault = private_fault(self._file)
            return JournalError(fault.kind, fault.message, hint=fault.hint)
        is_full = name.startswith("SQLITE_FULL")
        if name.startswith("SQLITE_IOERR"):
            is_full = is_without_room(self._file.parent)
        if is_full:
            kind, hint = Kind.STATE_FULL, "free some room in the file system of paths.state_dir"
        elif name.startswith("SQLITE_IOERR"):
            kind, hint = Kind.STATE_IO_ERROR, "the disk below paths.state_dir may be failing"
        elif name.startswith(_MAY_NOT_WRITE):
            kind, hint = Kind.STATE_READ_ONLY, "the agent needs to write to paths.state_dir"
        elif name.startswith(_DAMAGED):
            kind, hint = Kind.JOURNAL_CORRUPT, "move it away: a new one is begun"
        elif name.startswith(_BUSY):
            kind, hint = Kind.STATE_UNUSABLE, "another process keeps it locked; end that one"
        else:
            kind, hint = Kind.STATE_UNUSABLE, "check paths.state_dir"
        return JournalError(kind, f"cannot use {self._file}: {error} ({name})", hint=hint)


class _DamagedError(sqlite3.DatabaseError):
    """SQLite opens the file, but what it holds is not whole."""

    sqlite_errorname = "SQLITE_CORRUPT"


def _missing(db: sqlite3.Connection, version: int) -> list[str]:
    """Return the statements that make a file of `version` one of this agent's."""
    statements: list[str] = []
    for number in range(version, len(_MIGRATIONS)):
        statements += [*_MIGRATIONS[number], f"PRAGMA user_version = {number + 1}"]
    for table, added in _ADDED_COLUMNS.items():
        present = _columns(db, table)
        statements += [
            f"ALTER TABLE {table} ADD COLUMN {column} {type_}"
            for column, type_ in added.items()
            if column not in present
        ]
    statements += [text for table, text in _ADDED_TABLES.items() if not _columns(db, table)]
    return statements


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}


def _examine(db: sqlite3.Connection) -> None:
    """Find out whether the file is whole; it never has more than some thousand rows.

    Raises:
        sqlite3.DatabaseError: it is not.
    """
    (result,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if result != "ok":
        raise _DamagedError(result)
    # The agent has neither: a view could replace a table, a trigger could change what is written.
    for kind, name in db.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"
    ):
        raise _DamagedError(f"it has a {kind} {name}")
    for table, wanted in TABLES.items():
        found = db.execute(f"PRAGMA table_info({table})").fetchall()
        columns = {name for _, name, *_ in found}
        if missing := set(wanted) - columns:
            raise _DamagedError(f"{table} has no column {', '.join(sorted(missing))}")
        keys = [name for _, name, *_, key in found if key]
        if table == "runs" and keys != ["id"]:
            raise _DamagedError("runs are not numbered")
    (newest,) = db.execute("SELECT max(id) FROM runs").fetchone()
    if newest is not None and newest > LARGEST_NUMBER:
        raise _DamagedError("a run has a number that none can have, and none can follow")


def _is_damage(error: BaseException) -> bool:
    """Whether the content of the file is what keeps it from being opened."""
    name = _name(error)
    return isinstance(error, _GARBLED) or name.startswith((*_DAMAGED, *_NOT_OURS))


def _check_header(file: Path) -> None:
    """Find out whether SQLite would open a file as read-only because of its header.

    Its header has the version of the format for writers and readers, 1 or 2 (SQLite: Database File
    Format, 1.3.3).

    Raises:
        sqlite3.DatabaseError: it would.
    """
    with file.open("rb") as stream:
        header = stream.read(20)
    if header.startswith(b"SQLite format 3\0") and header[18:] not in (b"\1\1", b"\2\2"):
        raise _DamagedError(f"its header has the format {header[18:].hex(' ')}")


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", "unknown")
