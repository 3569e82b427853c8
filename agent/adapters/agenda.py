"""What waits on this host, a pause or a reboot, in the file of the history."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from agent.adapters.journal_file import JournalFile
from agent.domain.pause import Pause
from agent.domain.reboot import RebootPlan
from agent.domain.secrets import hide_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.ports import EventSink
    from agent.domain.store_path import StorePath


class SqliteAgenda:
    """Keeps one pause and one reboot at the most."""

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = JournalFile(state_dir, sink)

    def pause(self, now: datetime) -> Pause | None:
        """Return the pause that is in force."""
        with self._file.read() as db:
            found = db and db.execute("SELECT reason, by, since, until FROM pauses").fetchone()
        if not found:
            return None
        reason, by, since, until = found
        pause = Pause(reason, by, datetime.fromisoformat(since), _instant(until))
        return pause if pause.until is None or now < pause.until else None

    def set_pause(self, pause: Pause | None) -> None:
        """Begin a pause in place of any other, or end it."""
        with self._file.write() as db:
            db.execute("DELETE FROM pauses")
            if pause is not None:
                db.execute(
                    "INSERT INTO pauses (reason, by, since, until) VALUES (?, ?, ?, ?)",
                    (hide_secrets(pause.reason), pause.by, *_texts(pause.since, pause.until)),
                )

    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        """Return what is remembered of the reboot into a system; nothing of it may be known."""
        with self._file.read() as db:
            found = (
                db
                and db.execute(
                    "SELECT inhibited_since, announced_for FROM reboot_plans WHERE toplevel = ?",
                    (toplevel,),
                ).fetchone()
            )
        return RebootPlan(toplevel, *map(_instant, found or ()))

    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        """Remember this reboot and no other."""
        with self._file.write() as db:
            db.execute("DELETE FROM reboot_plans")
            if plan is not None:
                db.execute(
                    "INSERT INTO reboot_plans VALUES (?, ?, ?)",
                    (plan.toplevel, *_texts(plan.inhibited_since, plan.announced_for)),
                )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _texts(*moments: datetime | None) -> tuple[str | None, ...]:
    return tuple(None if moment is None else moment.isoformat() for moment in moments)
