"""What waits on this host, a pause or a reboot, in the file of the history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.adapters.state.journal_file import JournalFile
from agent.adapters.state.journal_rows import pause_of, plan_of
from agent.adapters.state.journal_salvage import insert_pause
from agent.application.ports import Agenda
from agent.domain.reboot import RebootPlan
from agent.domain.secrets import presentable

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from agent.application.ports import EventSink
    from agent.domain.pause import Pause
    from agent.domain.store_path import StorePath


class SqliteAgenda(Agenda):
    """Keeps one pause and one reboot at the most."""

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = JournalFile(state_dir, sink)

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
                db.execute(
                    "INSERT INTO reboot_plans VALUES (?, ?, ?)",
                    (plan.toplevel, *_texts(plan.inhibited_since, plan.announced_for)),
                )

    @override
    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        with self._file.read() as db:
            which = "SELECT 1 FROM boot_cleanings WHERE toplevel = ?"
            return db is not None and db.execute(which, (toplevel,)).fetchone() is not None

    @override
    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        with self._file.write() as db:
            db.execute("INSERT OR IGNORE INTO boot_cleanings VALUES (?)", (toplevel,))


def _texts(*moments: datetime | None) -> tuple[str | None, ...]:
    return tuple(None if moment is None else moment.isoformat() for moment in moments)
