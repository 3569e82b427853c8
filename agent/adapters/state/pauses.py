"""What waits on this host, a pause or a reboot, in the file of the history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.adapters.state.journal_file import JournalFile
from agent.adapters.state.journal_rows import pause_of, plan_of
from agent.adapters.state.journal_salvage import insert_pause
from agent.domain.reboot import RebootPlan
from agent.domain.secrets import presentable

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from agent.application.ports import EventSink
    from agent.domain.pause import Pause
    from agent.domain.store_path import StorePath


class SqliteAgenda:
    """Keeps one pause and one reboot at the most."""

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = JournalFile(state_dir, sink)

    def pause(self, now: datetime) -> Pause | None:
        """Return the pause that is in force."""
        with self._file.read() as db:
            for number, row in [] if db is None else self._file.rows(db, "pauses"):
                pause = pause_of(row)
                self._file.name_unreadable("pauses", number, row.dropped)
                if pause.until is None or now < pause.until:
                    return pause
        return None

    def set_pause(self, pause: Pause | None) -> None:
        """Begin a pause in place of any other, or end it."""
        with self._file.write() as db:
            db.execute("DELETE FROM pauses")
            if pause is not None:
                insert_pause(db, replace(pause, reason=str(presentable(pause.reason))))

    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        """Return what is remembered of the reboot into a system; nothing of it may be known."""
        with self._file.read() as db:
            which = "WHERE toplevel = ?"
            found = [] if db is None else self._file.rows(db, "reboot_plans", which, toplevel)
        for number, row in found:
            plan = plan_of(row, toplevel)
            self._file.name_unreadable("reboot_plans", number, row.dropped)
            return plan
        return RebootPlan(toplevel)

    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        """Remember this reboot and no other."""
        with self._file.write() as db:
            db.execute("DELETE FROM reboot_plans")
            if plan is not None:
                db.execute(
                    "INSERT INTO reboot_plans VALUES (?, ?, ?)",
                    (plan.toplevel, *_texts(plan.inhibited_since, plan.announced_for)),
                )

    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        """Return whether the boot partition has been cleaned while this system ran."""
        with self._file.read() as db:
            which = "SELECT 1 FROM boot_cleanings WHERE toplevel = ?"
            return db is not None and db.execute(which, (toplevel,)).fetchone() is not None

    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        """Remember that the boot partition is cleaned while this system runs."""
        with self._file.write() as db:
            db.execute("INSERT OR IGNORE INTO boot_cleanings VALUES (?)", (toplevel,))


def _texts(*moments: datetime | None) -> tuple[str | None, ...]:
    return tuple(None if moment is None else moment.isoformat() for moment in moments)
