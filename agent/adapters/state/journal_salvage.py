"""Saves from a damaged history what holds this host back: the denials, and a pause.

The rest may be lost: where the host is, its links and marks say.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.adapters.state.journal_inserts import insert_denial, insert_pause
from agent.adapters.state.journal_rows import TABLES, UNKNOWN_TIME, Row, decode, denial_of, pause_of
from agent.domain.pause import Pause

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.domain.path_record import Denial

_PATIENCE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Saved:
    """What could still be read."""

    denials: tuple[Denial, ...] = ()
    pauses: tuple[Pause, ...] = ()


def salvage(file: Path) -> Saved:
    """Read what can be read of a damaged file; never raises for what is in it.

    A table of pauses that cannot be read counts as a pause: there may have been one.
    """
    opened = closing(sqlite3.connect(file, timeout=_PATIENCE))
    with suppress(sqlite3.Error, UnicodeError, MemoryError), opened as db:
        db.text_factory = decode
        db.execute("PRAGMA query_only = ON")
        # The rest of a schema that is damaged in one place can be used then.
        db.execute("PRAGMA writable_schema = ON")
        denials, _ = _rows(db, "denials")
        pauses, is_whole = _rows(db, "pauses")
        known = tuple(denial for row in denials if (denial := denial_of(row)) is not None)
        kept = tuple(map(pause_of, pauses))
        return Saved(known, kept if kept or is_whole else (_unknown_pause(),))
    return Saved()


def restore(db: sqlite3.Connection, saved: Saved) -> None:
    """Write what was saved into a new history."""
    for denial in saved.denials:
        insert_denial(db, denial)
    for pause in saved.pauses:
        insert_pause(db, pause)


def _rows(db: sqlite3.Connection, table: str) -> tuple[list[Row], bool]:
    """Return the rows of a table, and whether all of it could be read.

    They are read from both ends, because the damage may be in the middle, and rows that cannot be
    read whole by their first column.

    Raises:
        sqlite3.Error: the file is no database at all.
    """
    found: dict[int, Row] = {}
    is_whole = True
    for direction in ("ASC", "DESC"):
        for count in (None, 1):
            try:
                there = {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
                names = [name for name in TABLES[table] if name in there][:count]
                for number, *row in _select(db, table, names, direction):
                    found.setdefault(number, Row(dict(zip(names, row, strict=True))))
            except (sqlite3.DatabaseError, UnicodeError, MemoryError) as error:
                if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
                    raise
                is_whole = False
    return [found[number] for number in sorted(found)], is_whole


def _select(
    db: sqlite3.Connection, table: str, names: list[str], direction: str
) -> Iterable[tuple[Any, ...]]:
    if not names:
        return ()  # there is no such table
    return db.execute(
        f"SELECT rowid, {', '.join(names)} FROM {table} NOT INDEXED ORDER BY rowid {direction}"  # noqa: S608 - our own
    )


def _unknown_pause() -> Pause:
    return Pause(
        reason="the history was damaged, and whether there was a pause cannot be read",
        by="agent",
        since=UNKNOWN_TIME,
    )
