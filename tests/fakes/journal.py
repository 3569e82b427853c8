"""A journal in memory, with the history's own rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.application.ports import Journal, RunRecord
from agent.domain.decide import History
from agent.domain.store_path import StorePath

if TYPE_CHECKING:
    from agent.domain.candidate import Candidate
    from agent.domain.errors import JournalError
    from agent.domain.job import Job

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_ARRIVED: Final = ("activated", "staged", "rebooting", "nothing-to-do")
_PASSIVE: Final = ("held", "failed", "awaits-reboot")


class FakeJournal(Journal):
    """Keeps `rows`, oldest first, and `contact`.

    While `fault` is set, every write ends in it; `phases` are the outcomes written, in order.
    """

    def __init__(self) -> None:
        self.rows: list[RunRecord] = []
        self.phases: list[str] = []
        self.contact: datetime | None = None
        self.fault: JournalError | None = None

    @override
    def note_contact(self, now: datetime) -> None:
        self.prepare()
        self.contact = now

    @override
    def prepare(self) -> None:
        if self.fault is not None:
            raise self.fault

    @override
    def record(self, run: RunRecord) -> None:
        self.prepare()
        self.phases.append(run.outcome)
        for position, row in enumerate(self.rows):
            if row.run_id == run.run_id:
                self.rows[position] = run
                return
        last = self.last_run()
        if last is not None and _ending(last) == _ending(run) is not None:
            self.rows[-1] = replace(last, repeats=last.repeats + 1, finished_at=run.finished_at)
        else:
            self.rows.append(run)

    @override
    def last_run(self) -> RunRecord | None:
        return self.rows[-1] if self.rows else None

    @override
    def highest_build(self, job: Job) -> int | None:
        found = (
            row.build_id
            for row in self.rows
            if row.job == job.key and row.outcome in _ARRIVED and row.build_id is not None
        )
        return max(found, default=None)

    @override
    def history_of(self, candidate: Candidate) -> History:
        path = candidate.toplevel
        is_dry_activated = any(
            row.toplevel == path and row.outcome == "dry-activated" for row in self.rows
        )
        touched = [
            row for row in self.rows if row.previous is not None and row.action != "dry-activate"
        ]
        last = touched[-1] if touched else None
        if last is None or not (
            last.toplevel == path
            or (last.job, last.build_id) == (candidate.job.key, candidate.build_id)
        ):
            return History(is_dry_activated=is_dry_activated)
        other = last.toplevel if last.toplevel != path else None
        return History(
            is_staged=last.outcome in ("staged", "rebooting"),
            is_dry_activated=is_dry_activated,
            reboot_asked_in=(last.boot_id or "") if last.outcome == "rebooting" else None,
            has_failed=last.outcome in ("failed", "activating"),
            activated_as=StorePath(other) if other is not None else None,
        )


def _ending(run: RunRecord) -> RunRecord | None:
    """Return what makes two runs that touched nothing the same, None for any other run."""
    if run.outcome not in _PASSIVE or run.previous is not None:
        return None
    return RunRecord(
        run_id="",
        started_at=_NEVER,
        host=run.host,
        job=run.job,
        outcome=run.outcome,
        decision=run.decision,
        action=run.action,
        build_id=run.build_id,
        toplevel=run.toplevel,
        reasons=tuple((name, "") for name, _ in run.reasons),
        error_kind=run.error_kind,
    )
