"""The row of a run in the history: written before each effect, and read back as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.application.report import error_fields
from agent.domain.errors import JournalError

if TYPE_CHECKING:
    from agent.application.ports import EventSink, Journal, RunRecord

_ROWS: Final = 50
"""Newest rows of the history among which that of a run is looked for."""


def commit(journal: Journal, row: RunRecord) -> RunRecord:
    """Write a row, and return it; it is on disk then.

    Raises:
        JournalError: it is not.
    """
    journal.record(row)
    return row


def try_commit(journal: Journal, sink: EventSink, row: RunRecord) -> RunRecord:
    """Write a row where the host is more important than its history, and return it."""
    try:
        journal.record(row)
    except JournalError as error:
        sink.emit(events.RECORD_FAILED, **error_fields(error))
    return row


def row_of(journal: Journal, run_id: str) -> RunRecord | None:
    """Return the row of a run, None where it has none.

    Raises:
        JournalError: the history cannot be read.
    """
    return next((row for row in journal.runs(_ROWS) if row.run_id == run_id), None)
