"""Writes objects into rows of the history; `journal_rows` reads them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from agent.domain.run_record import COLUMNS
from agent.domain.secrets import presentable

if TYPE_CHECKING:
    import sqlite3

    from agent.domain.path_record import Denial
    from agent.domain.pause import Pause
    from agent.domain.reboot import RebootPlan
    from agent.domain.run_record import RunRecord

_FOREIGN: Final = ("flake", "error_message")
"""Columns that may quote a URL with a password in it, besides the lists of reasons."""
_MOST_REASONS: Final = 1000


def row_of(run: RunRecord) -> tuple[Any, ...]:
    """Return a run by the columns of its row, without credentials."""
    values = []
    for name in COLUMNS:
        value = _plain(getattr(run, name))
        if isinstance(value, list | tuple):
            # Each text by itself: the name of a check announces no credential.
            value = json.dumps([list(map(presentable, texts)) for texts in value[:_MOST_REASONS]])
        elif name in _FOREIGN:
            value = presentable(value)
        if isinstance(value, str):
            # A path may hold bytes that are no text.
            value = value.encode(errors="backslashreplace").decode()
        values.append(value)
    return tuple(values)


def insert_run(db: sqlite3.Connection, run: RunRecord) -> None:
    """Write the row of a run, or write it again."""
    names = ", ".join(COLUMNS)
    marks = ", ".join("?" for _ in COLUMNS)
    news = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    db.execute(
        f"INSERT INTO runs ({names}) VALUES ({marks})"  # noqa: S608 - names of our own
        f" ON CONFLICT (run_id) DO UPDATE SET {news}",
        row_of(run),
    )


def insert_denial(db: sqlite3.Connection, denial: Denial) -> None:
    """Add a denial."""
    db.execute(
        "INSERT INTO denials (toplevel, build_id, reason, by, denied_at, until)"
        " VALUES (:toplevel, :build_id, :reason, :by, :denied_at, :until)",
        columns_of(denial),
    )


def insert_pause(db: sqlite3.Connection, pause: Pause) -> None:
    """Add a pause."""
    db.execute(
        "INSERT INTO pauses (reason, by, since, until) VALUES (:reason, :by, :since, :until)",
        columns_of(pause),
    )


def insert_plan(db: sqlite3.Connection, plan: RebootPlan) -> None:
    """Add the plan of a reboot."""
    db.execute(
        "INSERT INTO reboot_plans VALUES (:toplevel, :inhibited_since, :announced_for)",
        columns_of(plan),
    )


def columns_of(row: Denial | Pause | RebootPlan) -> dict[str, Any]:
    """Return the fields of an object that has a row of its own, by column."""
    return {name: _plain(value) for name, value in asdict(row).items()}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
