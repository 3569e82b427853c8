"""Renders the history as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.render.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.application.history import History
    from agent.application.ports import RunRecord
    from agent.domain.path_record import Denial


def for_person(history: History) -> str:
    """Return the history in two columns: each run with what it did, and then the denials."""
    rows = [row for run in history.runs for row in _run(run)]
    rows += [("denied", _denied(denial)) for denial in history.denials]
    return in_columns(rows) if rows else "nothing has happened here yet"


def _denied(denial: Denial) -> str:
    until = f" (until {denial.until:%Y-%m-%d %H:%M} UTC)" if denial.until else ""
    return f"{denial.toplevel} by {denial.by}: {denial.reason}{until}"


def _run(run: RunRecord) -> Iterator[tuple[str, str]]:
    when = (run.finished_at or run.started_at).strftime("%Y-%m-%d %H:%M:%S UTC")
    build = f" build {run.build_id}" if run.build_id is not None else ""
    again = f" (and {run.repeats} times again)" if run.repeats else ""
    yield when, f"{run.outcome}{build}{again}"
    if run.toplevel:
        yield f"  {run.action or 'system'}", run.toplevel
    if run.previous:
        yield "  from", run.previous
    if run.target:
        yield "  back to", run.target
    for passed in run.ignored_gates:
        yield f"  {passed.gate}", f"ignored by {passed.by} ({passed.because}): {passed.held}"
    for name, reason in run.reasons:
        yield f"  {name}", reason
    if run.error_message and (run.error_kind, run.error_message) not in run.reasons:
        yield f"  {run.error_kind}", run.error_message
