"""The history of this host: an SQLite file in the state directory."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.state.journal_file import JournalFile
from agent.adapters.state.journal_inserts import (
    insert_denial,
    insert_pause,
    insert_plan,
    insert_run,
    row_of,
)
from agent.adapters.state.journal_rows import (
    LARGEST_NUMBER,
    allowance_of,
    denial_of,
    pause_of,
    plan_of,
    run_of,
    store_path,
)
from agent.adapters.state.kept_runs import PHASES, KeptRuns, phase_of
from agent.application import events
from agent.application.ports import Journal
from agent.application.report import error_fields
from agent.domain.choose import History
from agent.domain.errors import JournalError
from agent.domain.outcome import UNDER_WAY, Outcome
from agent.domain.path_record import Denial, Fault, Standing, TakenBuild
from agent.domain.reboot import RebootPlan
from agent.domain.run_record import COLUMNS
from agent.domain.secrets import presentable
from agent.lean.idle_poll import LAST_CONTACT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from agent.adapters.state.kept_runs import KeptRun
    from agent.application.ports import EventSink, RunRecord
    from agent.domain.candidate import Candidate
    from agent.domain.job import Job
    from agent.domain.pause import Pause
    from agent.domain.store_path import StorePath

_KEPT_RUNS: Final = 1000
# What the host has upgraded to; a build that was rolled back from is no reason to hold another.
_ARRIVED: Final = "('confirmed', 'pending', 'staged', 'rebooting', 'nothing-to-do')"
_UNDER_WAY: Final = "(" + ", ".join(f"'{phase}'" for phase in sorted(UNDER_WAY)) + ")"
_TOUCHED: Final = "previous IS NOT NULL AND action IS NOT 'dry-activate'"
# Since an administrator has passed the gate against downgrades, or had it forget what was taken.
_MEASURES: Final = f"""
    outcome IN {_ARRIVED} AND typeof(build_id) = 'integer'
    AND build_id BETWEEN 0 AND {LARGEST_NUMBER}
    AND id >= coalesce((
        SELECT max(id) FROM runs AS passed WHERE passed.job = runs.job
        AND passed.outcome IN {_ARRIVED} AND passed.sets_measure = 1
    ), 0)
    AND id > coalesce((
        SELECT max(after_run) FROM forgotten_builds AS forgotten WHERE forgotten.job = runs.job
        AND forgotten.after_run <= (SELECT max(id) + 1 FROM runs)
    ), 0)
"""  # noqa: S608 - constants of our own
# What decisions stand on is kept however old it is: the highest build of each job, the last change
# of the host, and the last dry activation.
_PRUNE: Final = f"""
    DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?
    AND id NOT IN (
        SELECT id FROM (
            SELECT id, max(build_id) FROM runs WHERE {_MEASURES} GROUP BY job
        )
        UNION SELECT max(id) FROM runs WHERE outcome IN {_ARRIVED} AND sets_measure = 1 GROUP BY job
        UNION SELECT max(id) FROM runs WHERE {_TOUCHED}
        UNION SELECT max(id) FROM runs WHERE outcome = 'dry-activated'
        UNION SELECT id FROM runs WHERE outcome IN {_UNDER_WAY}
        UNION SELECT max(id) FROM runs WHERE fault IS NOT NULL GROUP BY toplevel
        UNION SELECT max(id) FROM runs WHERE outcome = 'confirmed' GROUP BY toplevel
    )
"""  # noqa: S608 - constants of our own
_STAMP: Final = "%Y-%m-%dT%H:%M:%SZ\n"
_MAX_STAMP: Final = 64
_NEWEST: Final = f"WHERE {_TOUCHED} ORDER BY id DESC LIMIT 1"
_OUTLIVES: Final = frozenset(
    {Outcome.PENDING, Outcome.ROLLING_BACK, Outcome.ROLLED_BACK, Outcome.CONFIRMED}
)
"""Outcomes that are kept even if only the file beside the history can be written."""
_PASSIVE: Final = ("held", "failed", "awaits-reboot")
_SAME: Final = (
    "host", "job", "decision", "action", "outcome", "build_id", "toplevel", "reasons", "error_kind",
    "fault",
)  # fmt: skip


class SqliteJournal(Journal):
    """Keeps notable runs, and one pause and one reboot at the most.

    Every write is on disk (`synchronous=FULL`) when the call returns.
    """

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = JournalFile(state_dir, sink)
        self._kept = KeptRuns(state_dir, sink)
        self._sink = sink
        self._last_contact = state_dir / LAST_CONTACT

    @override
    def note_contact(self, now: datetime) -> None:
        with self._file.errors_translated():
            stamp = now.strftime(_STAMP)
            # Not blocking: in its place may be a pipe that nobody reads.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
            handle = os.open(self._last_contact, flags, 0o600)
            try:
                os.write(handle, stamp.encode())
            finally:
                os.close(handle)

    @override
    def last_contact(self) -> datetime | None:
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            with os.fdopen(os.open(self._last_contact, flags), "rb") as stream:
                return datetime.strptime(stream.read(_MAX_STAMP).decode("ascii"), _STAMP).replace(
                    tzinfo=UTC
                )
        except (OSError, ValueError):
            return None

    @override
    def prepare(self) -> None:
        with self._file.write() as db:
            ended = self._fold(db)
        self._kept.forget(ended)
        self._kept.reserve()

    @override
    def record(self, run: RunRecord) -> None:
        # Once the host has been touched, a run is in the file beside the history as well; what
        # follows an activation is not lost where only that can be written.
        is_kept = run.outcome in PHASES and self._keep(run)
        try:
            ended = self._record(run)
        except JournalError as error:
            if run.outcome not in _OUTLIVES or not (is_kept or self._keep(run)):
                raise
            self._sink.emit(events.RECORD_FAILED, **error_fields(error))
            return
        self._kept.forget(ended if run.outcome in PHASES else [*ended, run.run_id])

    def _record(self, run: RunRecord) -> list[str]:
        with self._file.write() as db:
            ended = self._fold(db)
            last = self._last_but(db, run.run_id)
            if last is not None and _repeats(last, run):
                db.execute("DELETE FROM runs WHERE run_id = ?", (run.run_id,))
                db.execute(
                    "UPDATE runs SET repeats = ?, finished_at = ? WHERE run_id = ?",
                    (
                        min(last.repeats + 1, LARGEST_NUMBER),
                        run.finished_at and run.finished_at.isoformat(),
                        last.run_id,
                    ),
                )
                return ended
            insert_run(db, run)
            db.execute(_PRUNE, (_KEPT_RUNS,))
        return ended

    def _keep(self, run: RunRecord, denial: Denial | None = None) -> bool:
        """Write a run into the file beside the history; False if it is not for it, or it fails."""
        if run.previous is None or run.outcome not in {*PHASES, *_OUTLIVES}:
            return False
        try:
            self._kept.put(dict(zip(COLUMNS, row_of(run), strict=True)), denial)
        except JournalError as error:
            self._sink.emit(events.RECORD_FAILED, **error_fields(error))
            return False
        return True

    def _fold(self, db: sqlite3.Connection) -> list[str]:
        """Copy into the history what only the file beside it has; return the runs that ended."""
        for kept in self._kept.read():
            at = self._row_of(db, kept.run.run_id)
            if at is None or _is_ahead(kept, at):
                insert_run(db, kept.run)
            denial = kept.denial
            if denial is not None and not any(
                row.path("toplevel") == denial.toplevel for _, row in self._file.rows(db, "denials")
            ):
                insert_denial(db, denial)
        return [kept.run.run_id for kept in self._kept.read() if kept.has_ended]

    def _row_of(self, db: sqlite3.Connection, run_id: str) -> _StoredRow | None:
        for number, row in self._file.rows(db, "runs", "WHERE run_id = ?", run_id):
            run = run_of(row)
            if run is not None:
                is_whole = not row.dropped and store_path(run.toplevel) is not None
                return _StoredRow(number, run, is_whole=is_whole)
        return None

    def _runs(self, which: str, *values: object) -> list[tuple[int, RunRecord]]:
        """Return runs with the numbers of their rows, the newest first; the caller filters them.

        Those in the file beside the history are always among them. A run that has not ended there
        is under way now: it counts as newer than any row.
        """
        kept = self._kept.read()
        try:
            with self._file.read() as db:
                rows = [] if db is None else self._select(db, which, *values)
                found = {run.run_id: (number, run) for number, run in rows}
                for place, one in enumerate(kept, LARGEST_NUMBER + 1):
                    at = None if db is None else self._row_of(db, one.run.run_id)
                    if at is None:
                        found[one.run.run_id] = (place, one.run)
                    elif _is_ahead(one, at):
                        found[one.run.run_id] = (at.number, one.run)
        except JournalError as error:
            if not kept:
                raise
            self._sink.emit(events.RECORD_FAILED, **error_fields(error))
            found = {one.run.run_id: (place, one.run) for place, one in enumerate(kept)}
        now = {one.run.run_id for one in kept if not one.has_ended}
        return sorted(
            found.values(),
            key=lambda each: (each[1].run_id in now and each[1].outcome in UNDER_WAY, each[0]),
            reverse=True,
        )

    @override
    def runs(self, limit: int) -> tuple[RunRecord, ...]:
        return tuple(run for _, run in self._runs("ORDER BY id DESC LIMIT ?", limit))[:limit]

    @override
    def under_way(self) -> RunRecord | None:
        found = self._runs(f"WHERE outcome IN {_UNDER_WAY}")
        return next((run for _, run in found if run.outcome in UNDER_WAY), None)

    @override
    def standing_of(self, toplevel: StorePath, now: datetime) -> Standing:
        found = self._runs("WHERE toplevel = ?", toplevel)
        runs = [(number, run) for number, run in found if run.toplevel == toplevel]
        denials = [denial for denial in self.denials(now) if denial.toplevel == toplevel]
        confirmed = (number for number, run in runs if run.outcome == Outcome.CONFIRMED)
        since = max(self._forgiven(toplevel), *confirmed, -1)
        later = [run for number, run in runs if number > since]
        suspect = [run for run in later if run.fault == Fault.SUSPECT]
        return Standing(
            denial=denials[0] if denials else None,
            suspicions=sum(1 + run.repeats for run in suspect),
            suspected_at=max((run.finished_at for run in suspect if run.finished_at), default=None),
            roll_backs=sum(
                run.outcome == Outcome.ROLLED_BACK and run.fault is not None for run in later
            ),
        )

    @override
    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        denial = replace(denial, reason=str(presentable(denial.reason)))
        is_kept = run is not None and self._keep(run, denial)
        try:
            with self._file.write() as db:
                ended = self._fold(db)
                if run is not None:
                    insert_run(db, run)
                self._lift(db, denial.toplevel)
                insert_denial(db, denial)
        except JournalError as error:
            if not is_kept:
                raise
            self._sink.emit(events.RECORD_FAILED, **error_fields(error))
            return
        self._kept.forget(ended)

    @override
    def allow(self, toplevel: StorePath, reason: str, by: str, now: datetime) -> bool:
        if self.standing_of(toplevel, now) == Standing():
            return False
        with self._file.write() as db:
            self._lift(db, toplevel)
            db.execute(
                "INSERT INTO allowances (toplevel, reason, by, allowed_at, after_run)"
                " VALUES (?, ?, ?, ?, (SELECT coalesce(max(id), 0) FROM runs))",
                (toplevel, presentable(reason), by, now.isoformat()),
            )
        self._kept.forget((), toplevel)
        return True

    @override
    def denials(self, now: datetime) -> tuple[Denial, ...]:
        kept = [one.denial for one in self._kept.read() if one.denial is not None]
        try:
            with self._file.read() as db:
                found = [] if db is None else list(self._denials(db, now))
        except JournalError:
            if not kept:
                raise
            found = []
        known = {denial.toplevel for denial in found}
        return (*(denial for denial in kept[::-1] if denial.toplevel not in known), *found)

    @override
    def toplevel_of(self, build_id: int) -> StorePath | None:
        with self._file.read() as db:
            if db is None:
                return None
            which = "WHERE build_id = ? AND toplevel IS NOT NULL ORDER BY id DESC"
            paths = (store_path(run.toplevel) for _, run in self._select(db, which, build_id))
            return next((path for path in paths if path is not None), None)

    @override
    def newest_taken(self, job: Job) -> TakenBuild | None:
        which = f"WHERE job = ? AND {_MEASURES} ORDER BY build_id DESC, id LIMIT 1"
        with self._file.read() as db:
            if db is None:
                return None
            run = next((run for _, run in self._select(db, which, job.key)), None)
        if run is None or run.build_id is None:
            return None
        return TakenBuild(run.build_id, run.toplevel, run.finished_at)

    @override
    def forget_taken(self, job: Job, reason: str, by: str, now: datetime) -> TakenBuild | None:
        taken = self.newest_taken(job)
        if taken is not None:
            with self._file.write() as db:
                db.execute(
                    "INSERT INTO forgotten_builds (job, reason, by, forgotten_at, after_run)"
                    " VALUES (?, ?, ?, ?, (SELECT coalesce(max(id), 0) FROM runs))",
                    (job.key, presentable(reason), by, now.isoformat()),
                )
        return taken

    @override
    def history_of(self, candidate: Candidate) -> History:
        # Whether it is staged or was rebooted into counts only until another system came.
        path, job = candidate.toplevel, candidate.job.key
        with self._file.read() as db:
            if db is None:
                return History()
            newest = next((run for _, run in self._select(db, _NEWEST)), None)
            (dry_activated,) = db.execute(
                "SELECT count(*) FROM runs WHERE toplevel = ? AND outcome = 'dry-activated'",
                (path,),
            ).fetchone()
        is_dry_activated = dry_activated > 0
        if newest is None or not (
            newest.toplevel == path or (newest.job, newest.build_id) == (job, candidate.build_id)
        ):
            return History(is_dry_activated=is_dry_activated)
        outcome = newest.outcome
        return History(
            is_staged=outcome in ("staged", "rebooting"),
            is_dry_activated=is_dry_activated,
            reboot_asked_in=(newest.boot_id or "") if outcome == "rebooting" else None,
            has_failed=outcome in ("failed", "rolled-back", "activating"),
            activated_as=store_path(newest.toplevel) if newest.toplevel != path else None,
        )

    @override
    def pause(self, now: datetime) -> Pause | None:
        with self._file.read() as db:
            for number, row in [] if db is None else self._file.rows(db, "pauses"):
                pause = pause_of(row)
                self._file.name_unreadable("pauses", number, row.dropped)
                if pause.until is None or now < pause.until:
                    return pause
        return None

    @override
    def set_pause(self, pause: Pause | None) -> None:
        with self._file.write() as db:
            db.execute("DELETE FROM pauses")
            if pause is not None:
                insert_pause(db, replace(pause, reason=str(presentable(pause.reason))))

    @override
    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        with self._file.read() as db:
            which = "WHERE toplevel = ?"
            found = [] if db is None else self._file.rows(db, "reboot_plans", which, toplevel)
        for number, row in found:
            plan = plan_of(row, toplevel)
            self._file.name_unreadable("reboot_plans", number, row.dropped)
            return plan
        return RebootPlan(toplevel)

    @override
    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        with self._file.write() as db:
            db.execute("DELETE FROM reboot_plans")
            if plan is not None:
                insert_plan(db, plan)

    @override
    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        with self._file.read() as db:
            which = "SELECT 1 FROM boot_cleanings WHERE toplevel = ?"
            return db is not None and db.execute(which, (toplevel,)).fetchone() is not None

    @override
    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        with self._file.write() as db:
            db.execute("INSERT OR IGNORE INTO boot_cleanings VALUES (?)", (toplevel,))

    def _select(
        self, db: sqlite3.Connection, which: str, *values: object
    ) -> Iterator[tuple[int, RunRecord]]:
        """Yield the runs that can be read at all, with the numbers of their rows."""
        for number, row in self._file.rows(db, "runs", which, *values):
            run = run_of(row)
            self._file.name_unreadable("runs", number, row.dropped)
            if run is not None:
                yield number, run

    def _last_but(self, db: sqlite3.Connection, run_id: str) -> RunRecord | None:
        """Return the newest row of another run."""
        which = "WHERE run_id <> ? ORDER BY id DESC LIMIT 1"
        return next((run for _, run in self._select(db, which, run_id)), None)

    def _denials(self, db: sqlite3.Connection, now: datetime) -> Iterator[Denial]:
        """Yield the denials in force, the newest first."""
        # Past the index, which may not be what the table is.
        for number, row in self._file.rows(db, "denials", "NOT INDEXED ORDER BY rowid DESC"):
            denial = denial_of(row)
            self._file.name_unreadable("denials", number, row.dropped)
            if denial is not None and (denial.until is None or now < denial.until):
                yield denial

    def _lift(self, db: sqlite3.Connection, toplevel: StorePath) -> None:
        """Remove the denials of a path, however it is written there."""
        for number, row in self._file.rows(db, "denials"):
            if row.path("toplevel") == toplevel:
                db.execute("DELETE FROM denials WHERE rowid = ?", (number,))

    def _forgiven(self, toplevel: StorePath) -> int:
        """Return the number of the run up to which an administrator has forgiven a path."""
        forgiven = -1
        with suppress(JournalError), self._file.read() as db:
            if db is None:
                return forgiven
            (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()
            for number, row in self._file.rows(db, "allowances", "WHERE toplevel = ?", toplevel):
                run = allowance_of(row)
                self._file.name_unreadable("allowances", number, row.dropped)
                # One more: the run that it names may since have been counted as a repetition.
                if run <= newest + 1:
                    forgiven = max(forgiven, run)
        return forgiven


@dataclass(frozen=True, slots=True)
class _StoredRow:
    """A row of the history, and whether all of it could be read."""

    number: int
    run: RunRecord
    is_whole: bool


def _is_ahead(kept: KeptRun, at: _StoredRow) -> bool:
    """Whether the file beside the history knows more of a run than the history does."""
    return not at.is_whole or phase_of(kept.run) > phase_of(at.run)


def _repeats(last: RunRecord, run: RunRecord) -> bool:
    """Whether `run` ended as `last` did, and neither changed the host."""
    if run.outcome not in _PASSIVE or run.previous is not None or last.previous is not None:
        return False
    if run.ignored_gates or last.ignored_gates:  # what an administrator has done stays as it was
        return False
    bare = replace(last, reasons=_names(last))
    return all(
        getattr(bare, name) == getattr(replace(run, reasons=_names(run)), name) for name in _SAME
    )


def _names(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """Return the names of the reasons; their texts may differ in numbers alone."""
    return tuple((name, "") for name, _ in run.reasons)
