"""Keeps the good builds that were seen and not taken, in the file of the history.

They are lost with it on purpose: without the history it is unknown which builds were taken, and
which would be a downgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.adapters.state.journal_file import JournalFile
from agent.application import events
from agent.application.ports import GoodBuilds
from agent.application.report import error_fields
from agent.domain.candidate import Candidate
from agent.domain.errors import HydraError, JournalError
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.secrets import presentable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.adapters.state.journal_rows import Row
    from agent.application.ports import EventSink
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.job import Job

_TABLE = "good_builds"


class SqliteGoodBuilds(GoodBuilds):
    """Keeps the builds of one job; a row that cannot be read counts as never seen."""

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = JournalFile(state_dir, sink)
        self._sink = sink

    @override
    def read(self, job: Job) -> tuple[Candidate, ...]:
        try:
            with self._file.read() as db:
                which = "WHERE job = ? ORDER BY build_id DESC"
                rows = [] if db is None else self._file.rows(db, _TABLE, which, job.key)
        except JournalError:
            return ()  # who needs the history says what is wrong with it
        builds = (_candidate_of(row, job) for _, row in rows)
        return tuple(build for build in builds if build is not None)

    @override
    def keep(self, job: Job, builds: Sequence[Candidate]) -> None:
        rows = [_row_of(build) for build in builds]
        try:
            with self._file.write() as db:
                db.execute(f"DELETE FROM {_TABLE}")  # noqa: S608 - our own
                into = f"INSERT INTO {_TABLE} VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own
                db.executemany(into, rows)
        except JournalError as error:
            self._sink.emit(events.RECORD_FAILED, **error_fields(error))


def _row_of(build: Candidate) -> tuple[object, ...]:
    finished_at = build.finished_at
    # One with a password in it is not kept, and without it the build is not taken.
    flake = build.flake if presentable(build.flake) == build.flake else None
    return (
        build.job.key,
        build.build_id,
        build.toplevel,
        build.system,
        None if finished_at is None else finished_at.isoformat(),
        build.eval_id,
        flake,
    )


def _candidate_of(row: Row, job: Job) -> Candidate | None:
    build_id, toplevel, system = row.count("build_id"), row.path("toplevel"), row.text("system")
    finished_at, eval_id, flake = row.instant("finished_at"), row.count("eval_id"), _flake_of(row)
    if build_id is None or toplevel is None or system is None or row.dropped:
        return None
    return Candidate(job, build_id, toplevel, system, finished_at, eval_id, flake)


def _flake_of(row: Row) -> LockedFlakeReference | None:
    text = row.text("flake")
    try:
        return None if text is None else parse_locked_flake_reference(text)
    except HydraError:
        row.dropped.append("flake")
        return None
