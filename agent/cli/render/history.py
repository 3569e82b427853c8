"""Renders the history as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.render.columns import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.application.history import History
    from agent.application.ports import RunRecord


def for_person(history: History) -> str:
    """Return the history as one paragraph a run, and one line a denial."""
    lines = [line for run in history.runs for line in _run(run)]
    lines += [
        f"denied  {denial.toplevel} by {denial.by}: {denial.reason}"
        + (f" (until {denial.until:%Y-%m-%d %H:%M} UTC)" if denial.until else "")
        for denial in history.denials
    ]
    return "\n".join(printable(line) for line in lines) or "nothing has happened here yet"


def _run(run: RunRecord) -> Iterator[str]:
    when = (run.finished_at or run.started_at).strftime("%Y-%m-%d %H:%M:%S UTC")
    build = f" build {run.build_id}" if run.build_id is not None else ""
    again = f" (and {run.repeats} times again)" if run.repeats else ""
    yield f"{when}  {run.outcome}{build}{again}"
    if run.toplevel:
        yield f"    {run.action or 'system'}: {run.toplevel}"
    if run.previous:
        yield f"    from: {run.previous}"
    if run.target:
        yield f"    back to: {run.target}"
    for passed in run.ignored_gates:
        yield f"    {passed.gate}: ignored by {passed.by} ({passed.because}): {passed.held}"
    for name, reason in run.reasons:
        yield f"    {name}: {reason}"
    if run.error_message and (run.error_kind, run.error_message) not in run.reasons:
        yield f"    {run.error_kind}: {run.error_message}"
