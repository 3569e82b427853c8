"""The history of this host: an SQLite file in the state directory."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from agent.adapters.journal_file import COLUMNS, JournalFile
from agent.application.ports import RunRecord
from agent.domain.decide import History
from agent.domain.outcome import UNDER_WAY
from agent.domain.secrets import hide_secrets
from agent.domain.standing import Denial, Standing
from agent.domain.store_path import StorePath
from agent.idle import LAST_CONTACT

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from agent.application.ports import EventSink
    from agent.domain.candidate import Candidate
    from agent.domain.job import Job

_KEPT_RUNS: Final = 1000
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
        self._file = JournalFile(state_dir, sink)
        self._last_contact = state_dir / LAST_CONTACT

    def note_contact(self, now: datetime) -> None:
        """Write `last-contact`: when Hydra last answered, for whoever watches this host."""
        with self._file.faults_told():
            stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ\n")
            self._last_contact.write_text(stamp)

    def prepare(self) -> None:
        """Make sure that the history can be written; a damaged file is set aside."""
        with self._file.write():
            pass

    def record(self, run: RunRecord) -> None:
        """Write or rewrite the row of a run."""
        with self._file.write() as db:
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
        with self._file.read() as db:
            return () if db is None else _select(db, "ORDER BY id DESC LIMIT ?", limit)

    def under_way(self) -> RunRecord | None:
        """Return the newest row of a run that has not ended."""
        with self._file.read() as db:
            if db is None:
                return None
            rows = _select(db, f"WHERE outcome IN {_UNDER_WAY} ORDER BY id DESC LIMIT 1")
        return rows[0] if rows else None

    def standing_of(self, toplevel: StorePath, now: datetime) -> Standing:
        """Return what a path has earned since it was last confirmed, or allowed by a person."""
        with self._file.read() as db:
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
        with self._file.write() as db:
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
        with self._file.write() as db:
            db.execute("DELETE FROM denials WHERE toplevel = ?", (toplevel,))
            db.execute(
                "INSERT INTO allowances (toplevel, reason, by, allowed_at, after_run)"
                " VALUES (?, ?, ?, ?, (SELECT coalesce(max(id), 0) FROM runs))",
                (toplevel, hide_secrets(reason), by, now.isoformat()),
            )
        return True

    def denials(self, now: datetime) -> tuple[Denial, ...]:
        """Return the denials in force, the newest first."""
        with self._file.read() as db:
            return () if db is None else _denials(db, now)

    def toplevel_of(self, build_id: int) -> StorePath | None:
        """Return the path of a build that the history knows."""
        with self._file.read() as db:
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
        with self._file.read() as db:
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
        with self._file.read() as db:
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


def _row(run: RunRecord) -> tuple[Any, ...]:
    values = []
    for name in COLUMNS:
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
    names = ", ".join(COLUMNS)
    marks = ", ".join("?" for _ in COLUMNS)
    news = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    db.execute(
        f"INSERT INTO runs ({names}) VALUES ({marks})"  # noqa: S608 - names of our own
        f" ON CONFLICT (run_id) DO UPDATE SET {news}",
        _row(run),
    )


def _select(db: sqlite3.Connection, which: str, *values: object) -> tuple[RunRecord, ...]:
    found = db.execute(f"SELECT {', '.join(COLUMNS)} FROM runs {which}", values)  # noqa: S608 - our own
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
    values = dict(zip(COLUMNS, found, strict=True))
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
