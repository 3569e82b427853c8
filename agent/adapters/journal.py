"""The history of this host: an SQLite file in the state directory."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from agent.adapters.state import state_fault
from agent.application import events
from agent.application.ports import RunRecord
from agent.domain.decide import History
from agent.domain.errors import JournalError, Kind
from agent.domain.outcome import UNDER_WAY
from agent.domain.secrets import hide_secrets
from agent.domain.standing import Denial, Standing
from agent.domain.store_path import StorePath
from agent.idle import LAST_CONTACT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.application.ports import EventSink
    from agent.domain.candidate import Candidate
    from agent.domain.job import Job

_KEPT_RUNS: Final = 1000
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
)

_COLUMNS: Final = tuple(field.name for field in fields(RunRecord))
_TABLES: Final = {
    "runs": _COLUMNS,
    "denials": ("toplevel", "build_id", "reason", "by", "denied_at", "until"),
    "allowances": ("toplevel", "reason", "by", "allowed_at", "after_run"),
}
# Where the host came to be of its own; what was rolled back from is no reason to hold a build.
_ARRIVED: Final = "('confirmed', 'pending', 'staged', 'rebooting', 'nothing-to-do')"
_UNDER_WAY: Final = "(" + ", ".join(f"'{phase}'" for phase in sorted(UNDER_WAY)) + ")"
_TOUCHED: Final = "previous IS NOT NULL AND action IS NOT 'dry-activate'"
# What decisions stand on is kept however old it is: the highest build of each job, the last change
# of the host, and the last dry activation.
_PRUNE: Final = f"""
    DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?
    AND id NOT IN (
        SELECT id FROM (
            SELECT id, max(build_id) FROM runs WHERE outcome IN {_ARRIVED} GROUP BY job
        )
        UNION SELECT max(id) FROM runs WHERE {_TOUCHED}
        UNION SELECT max(id) FROM runs WHERE outcome = 'dry-activated'
        UNION SELECT id FROM runs WHERE outcome IN {_UNDER_WAY}
        UNION SELECT max(id) FROM runs WHERE fault IS NOT NULL GROUP BY toplevel
        UNION SELECT max(id) FROM runs WHERE outcome = 'confirmed' GROUP BY toplevel
    )
"""  # noqa: S608 - constants of our own
_FOREIGN: Final = ("flake", "reasons", "error_message")
"""What may quote an URL of somebody else's, with a password in it."""
_NEWEST: Final = f"""
    SELECT toplevel, outcome, boot_id, job = ? AND build_id = ? FROM runs
    WHERE {_TOUCHED} ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - constants of our own
_PASSIVE: Final = ("held", "failed", "awaits-reboot")
_SAME: Final = (
    "host", "job", "decision", "action", "outcome", "build_id", "toplevel", "reasons", "error_kind",
)  # fmt: skip


class SqliteJournal:
    """Keeps notable runs. Every write is on disk (`synchronous=FULL`) when the call returns."""

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = state_dir / "journal.sqlite"
        self._sink = sink

    def note_contact(self, now: datetime) -> None:
        """Write `last-contact`: when Hydra last answered, for whoever watches this host."""
        with self._faults_told():
            stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ\n")
            self._file.with_name(LAST_CONTACT).write_text(stamp)

    def prepare(self) -> None:
        """Make sure that the history can be written; a damaged file is set aside."""
        with self._write():
            pass

    def record(self, run: RunRecord) -> None:
        """Write or rewrite the row of a run."""
        with self._write() as db:
            last = _last_but(db, run.run_id)
            if last is not None and _repeats(last, run):
                db.execute("DELETE FROM runs WHERE run_id = ?", (run.run_id,))
                db.execute(
                    "UPDATE runs SET repeats = repeats + 1, finished_at = ? WHERE run_id = ?",
                    (run.finished_at and run.finished_at.isoformat(), last.run_id),
                )
                return
            _insert(db, run)
            db.execute(_PRUNE, (_KEPT_RUNS,))

    def runs(self, limit: int) -> tuple[RunRecord, ...]:
        """Return the newest rows, the newest first."""
        with self._read() as db:
            return () if db is None else _select(db, "ORDER BY id DESC LIMIT ?", limit)

    def under_way(self) -> RunRecord | None:
        """Return the newest row of a run that has not ended."""
        with self._read() as db:
            if db is None:
                return None
            rows = _select(db, f"WHERE outcome IN {_UNDER_WAY} ORDER BY id DESC LIMIT 1")
        return rows[0] if rows else None

    def standing_of(self, toplevel: StorePath, now: datetime) -> Standing:
        """Return what a path has earned since it was last confirmed, or allowed by a person."""
        with self._read() as db:
            if db is None:
                return Standing()
            since = (
                "SELECT max(coalesce((SELECT max(id) FROM runs WHERE toplevel = :path AND"
                " outcome = 'confirmed'), 0), coalesce((SELECT max(after_run) FROM allowances"
                " WHERE toplevel = :path), 0))"
            )
            suspicions, suspected_at, roll_backs = db.execute(  # constants of our own
                "SELECT coalesce(sum(fault = 'suspect'), 0),"  # noqa: S608
                " max(CASE fault WHEN 'suspect' THEN finished_at END),"
                " coalesce(sum(outcome = 'rolled-back' AND fault IS NOT NULL), 0)"
                f" FROM runs WHERE toplevel = :path AND id > ({since})",
                {"path": toplevel},
            ).fetchone()
            denials = _denials(db, now, toplevel)
        return Standing(
            denial=denials[0] if denials else None,
            suspicions=suspicions,
            suspected_at=suspected_at and datetime.fromisoformat(suspected_at),
            roll_backs=roll_backs,
        )

    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        """Deny a path, in place of what was said of it before."""
        with self._write() as db:
            if run is not None:
                _insert(db, run)
            db.execute("DELETE FROM denials WHERE toplevel = ?", (denial.toplevel,))
            db.execute(
                "INSERT INTO denials (toplevel, build_id, reason, by, denied_at, until)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    denial.toplevel,
                    denial.build_id,
                    hide_secrets(denial.reason),
                    denial.by,
                    denial.denied_at.isoformat(),
                    denial.until and denial.until.isoformat(),
                ),
            )

    def allow(self, toplevel: StorePath, reason: str, by: str, now: datetime) -> bool:
        """Lift a denial, and forget suspicions and roll-backs; False if nothing was held."""
        if self.standing_of(toplevel, now) == Standing():
            return False
        with self._write() as db:
            db.execute("DELETE FROM denials WHERE toplevel = ?", (toplevel,))
            db.execute(
                "INSERT INTO allowances (toplevel, reason, by, allowed_at, after_run)"
                " VALUES (?, ?, ?, ?, (SELECT coalesce(max(id), 0) FROM runs))",
                (toplevel, hide_secrets(reason), by, now.isoformat()),
            )
        return True

    def denials(self, now: datetime) -> tuple[Denial, ...]:
        """Return the denials in force, the newest first."""
        with self._read() as db:
            return () if db is None else _denials(db, now)

    def toplevel_of(self, build_id: int) -> StorePath | None:
        """Return the path of a build that the history knows."""
        with self._read() as db:
            found = (
                db
                and db.execute(
                    "SELECT toplevel FROM runs WHERE build_id = ? AND toplevel IS NOT NULL"
                    " ORDER BY id DESC LIMIT 1",
                    (build_id,),
                ).fetchone()
            )
        return StorePath(found[0]) if found else None

    def highest_build(self, job: Job) -> int | None:
        """Return the highest build id of `job` that this host has activated or staged."""
        with self._read() as db:
            if db is None:
                return None
            (found,) = db.execute(
                f"SELECT max(build_id) FROM runs WHERE job = ? AND outcome IN {_ARRIVED}",  # noqa: S608 - a constant of our own
                (job.key,),
            ).fetchone()
            return None if found is None else int(found)

    def history_of(self, candidate: Candidate) -> History:
        """Return what was done with a candidate, or built in its place, on this host.

        Whether it is staged or was rebooted into counts only until another system came.
        """
        path = candidate.toplevel
        with self._read() as db:
            if db is None:
                return History()
            newest = db.execute(_NEWEST, (candidate.job.key, candidate.build_id)).fetchone()
            (dry_activated,) = db.execute(
                "SELECT count(*) FROM runs WHERE toplevel = ? AND outcome = 'dry-activated'",
                (path,),
            ).fetchone()
        toplevel, outcome, boot_id, is_same_build = newest or ("", "", "", False)
        if toplevel != path and not is_same_build:
            return History(is_dry_activated=dry_activated > 0)
        return History(
            is_staged=outcome in ("staged", "rebooting"),
            is_dry_activated=dry_activated > 0,
            reboot_asked_in=(boot_id or "") if outcome == "rebooting" else None,
            has_failed=outcome in ("failed", "rolled-back", "activating"),
            activated_as=StorePath(toplevel) if toplevel != path else None,
        )

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection | None]:
        """Open for reading alone, so that an ordinary user may look; None if new."""
        with self._faults_told():
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
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._faults_told():
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
    def _faults_told(self) -> Iterator[None]:
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


def _row(run: RunRecord) -> tuple[Any, ...]:
    values = []
    for name in _COLUMNS:
        value = hide_secrets(getattr(run, name)) if name in _FOREIGN else getattr(run, name)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, list | tuple):
            value = json.dumps([list(reason) for reason in value])
        elif isinstance(value, str):
            # A path may hold bytes that are no text.
            value = value.encode(errors="backslashreplace").decode()
        values.append(value)
    return tuple(values)


def _insert(db: sqlite3.Connection, run: RunRecord) -> None:
    names = ", ".join(_COLUMNS)
    marks = ", ".join("?" for _ in _COLUMNS)
    news = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
    db.execute(
        f"INSERT INTO runs ({names}) VALUES ({marks})"  # noqa: S608 - names of our own
        f" ON CONFLICT (run_id) DO UPDATE SET {news}",
        _row(run),
    )


def _select(db: sqlite3.Connection, which: str, *values: object) -> tuple[RunRecord, ...]:
    found = db.execute(f"SELECT {', '.join(_COLUMNS)} FROM runs {which}", values)  # noqa: S608 - our own
    return tuple(_record(row) for row in found)


def _last_but(db: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """Return the newest row of another run."""
    rows = _select(db, "WHERE run_id <> ? ORDER BY id DESC LIMIT 1", run_id)
    return rows[0] if rows else None


def _denials(
    db: sqlite3.Connection, now: datetime, toplevel: str | None = None
) -> tuple[Denial, ...]:
    """Return the denials in force, of one path or of all."""
    found = db.execute(
        "SELECT toplevel, reason, denied_at, by, build_id, until FROM denials"
        " WHERE ? IN (toplevel, '') ORDER BY id DESC",
        (toplevel or "",),
    )
    told = (
        Denial(
            toplevel=StorePath(path),
            reason=reason,
            denied_at=datetime.fromisoformat(denied_at),
            by=by,
            build_id=build_id,
            until=until and datetime.fromisoformat(until),
        )
        for path, reason, denied_at, by, build_id, until in found
    )
    return tuple(denial for denial in told if denial.until is None or now < denial.until)


def _record(found: tuple[Any, ...]) -> RunRecord:
    values = dict(zip(_COLUMNS, found, strict=True))
    for name in ("started_at", "finished_at"):
        values[name] = values[name] and datetime.fromisoformat(values[name])
    values["reasons"] = tuple((name, reason) for name, reason in json.loads(values["reasons"]))
    return RunRecord(**values)


def _repeats(last: RunRecord, run: RunRecord) -> bool:
    """Whether `run` ended as `last` did, and neither changed the host."""
    if run.outcome not in _PASSIVE or run.previous is not None or last.previous is not None:
        return False
    bare = replace(last, reasons=_names(last))
    return all(
        getattr(bare, name) == getattr(replace(run, reasons=_names(run)), name) for name in _SAME
    )


def _names(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """Return the reasons without their sentences, which may tell changing numbers."""
    return tuple((name, "") for name, _ in run.reasons)
