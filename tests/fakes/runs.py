"""Sample rows of the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.domain.run_record import recorded

from .samples import JOB, NEW, OLD

if TYPE_CHECKING:
    from agent.application.ports import Journal
    from agent.domain.job import Job
    from agent.domain.run_record import RunRecord

NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)


def a_run(number: int = 1, **facts: Any) -> RunRecord:
    """Return a run that was held, but for `facts`."""
    given: dict[str, Any] = {
        "run_id": f"run-{number}",
        "started_at": NOW + timedelta(hours=number),
        "finished_at": NOW + timedelta(hours=number, minutes=5),
        "host": "h",
        "job": JOB.key,
        "outcome": "held",
    }
    return recorded(**(given | facts))


def an_arrival(
    number: int, toplevel: str = NEW, outcome: str = "confirmed", **facts: Any
) -> RunRecord:
    """Return a run of build `number` that touched the host."""
    action = "dry-activate" if outcome == "dry-activated" else "switch"
    given = {"action": action, "build_id": number, "previous": OLD, "boot_id": "boot-1"}
    return a_run(number, toplevel=toplevel, outcome=outcome, **(given | facts))


def highest(journal: Journal, job: Job) -> int | None:
    """Return the number of the newest build that counts as taken."""
    taken = journal.newest_taken(job)
    return None if taken is None else taken.build_id
