"""A journal in memory, with the history's own rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.application.ports import Journal, RunRecord
from agent.domain.choose import History
from agent.domain.outcome import UNDER_WAY
from agent.domain.path_record import Denial, Standing, TakenBuild
from agent.domain.reboot import RebootPlan
from agent.domain.run_record import recorded
from agent.domain.store_path import StorePath

if TYPE_CHECKING:
    from agent.domain.candidate import Candidate
    from agent.domain.errors import JournalError
    from agent.domain.job import Job
    from agent.domain.pause import Pause

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_ARRIVED: Final = ("confirmed", "pending", "staged", "rebooting", "nothing-to-do")
_PASSIVE: Final = ("held", "failed", "awaits-reboot")


class FakeJournal(Journal):
    """Keeps `rows`, oldest first, `denied`, newest last, and `contact`.

    While `fault` is set, every write ends in it, and with `read_fault` every question; `phases` are
    the outcomes written, in order. What waits, a pause or a reboot, has faults of its own.
    """

    def __init__(self) -> None:
        self.rows: list[RunRecord] = []
        self.denied: list[Denial] = []
        self.phases: list[str] = []
        self.contact: datetime | None = None
        self.fault: JournalError | None = None
        self.read_fault: JournalError | None = None
        self.paused: Pause | None = None
        self.plan: RebootPlan | None = None
        self.cleaned: set[StorePath] = set()
        self.plan_fault: JournalError | None = None
        self.plan_read_fault: JournalError | None = None
        self._allowed_after: dict[StorePath, int] = {}
        self._forgotten_before: dict[str, int] = {}

    @override
    def note_contact(self, now: datetime) -> None:
        self._write()
        self.contact = now

    @override
    def last_contact(self) -> datetime | None:
        return self.contact

    @override
    def prepare(self) -> None:
        self._write()

    @override
    def record(self, run: RunRecord) -> None:
        self._write()
        self.phases.append(run.outcome)
        others = [row for row in self.rows if row.run_id != run.run_id]
        if others and _ending(others[-1]) == _ending(run) is not None:
            last = others[-1]
            others[-1] = replace(last, repeats=last.repeats + 1, finished_at=run.finished_at)
            self.rows = others
        else:
            self._insert(run)

    @override
    def runs(self, limit: int) -> tuple[RunRecord, ...]:
        return tuple(self._read()[::-1][:limit])

    @override
    def under_way(self) -> RunRecord | None:
        return next((row for row in self._read()[::-1] if row.outcome in UNDER_WAY), None)

    @override
    def standing_of(self, toplevel: StorePath, now: datetime) -> Standing:
        confirmed = (
            number
            for number, row in enumerate(self._read(), 1)
            if row.toplevel == toplevel and row.outcome == "confirmed"
        )
        since = max(self._allowed_after.get(toplevel, 0), *confirmed, 0)
        later = [row for row in self.rows[since:] if row.toplevel == toplevel]
        suspect = [row for row in later if row.fault == "suspect"]
        return Standing(
            denial=next((told for told in self.denials(now) if told.toplevel == toplevel), None),
            suspicions=sum(1 + row.repeats for row in suspect),
            suspected_at=max((row.finished_at for row in suspect if row.finished_at), default=None),
            roll_backs=sum(row.outcome == "rolled-back" and row.fault is not None for row in later),
        )

    @override
    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        self._write()
        if run is not None:
            self._insert(run)
        self._lift(denial.toplevel)
        self.denied.append(denial)

    @override
    def allow(self, toplevel: StorePath, reason: str, by: str, now: datetime) -> bool:
        if self.standing_of(toplevel, now) == Standing():
            return False
        self._write()
        self._lift(toplevel)
        self._allowed_after[toplevel] = len(self.rows)
        return True

    @override
    def denials(self, now: datetime) -> tuple[Denial, ...]:
        self._read()
        return tuple(told for told in self.denied[::-1] if told.until is None or now < told.until)

    @override
    def toplevel_of(self, build_id: int) -> StorePath | None:
        found = (row.toplevel for row in self._read()[::-1] if row.build_id == build_id)
        known = next((path for path in found if path is not None), None)
        return None if known is None else StorePath(known)

    @override
    def newest_taken(self, job: Job) -> TakenBuild | None:
        arrived = [
            (number, row)
            for number, row in enumerate(self._read())
            if row.job == job.key and row.outcome in _ARRIVED
        ]
        since = max((number for number, row in arrived if row.sets_measure), default=0)
        since = max(since, self._forgotten_before.get(job.key, 0))
        rows = [row for number, row in arrived if number >= since and row.build_id is not None]
        newest = max(rows, key=lambda row: row.build_id or 0, default=None)
        if newest is None or newest.build_id is None:
            return None
        return TakenBuild(newest.build_id, newest.toplevel, newest.finished_at)

    @override
    def forget_taken(self, job: Job, reason: str, by: str, now: datetime) -> TakenBuild | None:
        taken = self.newest_taken(job)
        if taken is not None:
            self._write()
            self._forgotten_before[job.key] = len(self.rows)
        return taken

    @override
    def history_of(self, candidate: Candidate) -> History:
        path = candidate.toplevel
        is_dry_activated = any(
            row.toplevel == path and row.outcome == "dry-activated" for row in self._read()
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
            has_failed=last.outcome in ("failed", "rolled-back", "activating"),
            activated_as=StorePath(other) if other is not None else None,
        )

    @override
    def pause(self, now: datetime) -> Pause | None:
        self._check(self.plan_read_fault)
        pause = self.paused
        is_over = pause is not None and pause.until is not None and pause.until <= now
        return None if is_over else pause

    @override
    def set_pause(self, pause: Pause | None) -> None:
        self._check(self.plan_fault)
        self.paused = pause

    @override
    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        self._check(self.plan_read_fault)
        if self.plan is not None and self.plan.toplevel == toplevel:
            return self.plan
        return RebootPlan(toplevel)

    @override
    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        self._check(self.plan_fault)
        self.plan = plan

    @override
    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        return toplevel in self.cleaned

    @override
    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        self._check(self.plan_fault)
        self.cleaned.add(toplevel)

    @staticmethod
    def _check(fault: JournalError | None) -> None:
        if fault is not None:
            raise fault

    def _write(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _read(self) -> list[RunRecord]:
        if self.read_fault is not None:
            raise self.read_fault
        return self.rows

    def _insert(self, run: RunRecord) -> None:
        """Write a row in the place of the run's own, or as the newest."""
        for position, row in enumerate(self.rows):
            if row.run_id == run.run_id:
                self.rows[position] = run
                return
        self.rows.append(run)

    def _lift(self, toplevel: StorePath) -> None:
        self.denied = [told for told in self.denied if told.toplevel != toplevel]


def _ending(run: RunRecord) -> RunRecord | None:
    """Return what makes two runs that touched nothing the same, None for any other run."""
    if run.outcome not in _PASSIVE or run.previous is not None or run.ignored_gates:
        return None
    return recorded(
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
        fault=run.fault,
    )
