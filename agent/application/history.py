"""What earlier runs have done on this host, and what is denied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.application.report import reason_fields

if TYPE_CHECKING:
    from agent.application.ports import Ports, RunRecord
    from agent.domain.path_record import Denial


@dataclass(frozen=True, slots=True)
class History:
    """The newest runs, oldest first, and the denials in force."""

    runs: tuple[RunRecord, ...]
    denials: tuple[Denial, ...]

    def fields(self) -> dict[str, object]:
        """Return the history for a program."""
        return {
            "runs": [run_fields(run) for run in self.runs],
            "denials": [
                {
                    "toplevel": denial.toplevel,
                    "build_id": denial.build_id,
                    "reason": denial.reason,
                    "by": denial.by,
                    "denied_at": denial.denied_at.isoformat(),
                    "until": denial.until and denial.until.isoformat(),
                }
                for denial in self.denials
            ],
        }


def take_history(ports: Ports, limit: int) -> History:
    """Return the newest `limit` runs and all denials.

    Raises:
        JournalError: the history cannot be read.
    """
    runs = ports.journal.runs(limit)
    return History(tuple(reversed(runs)), ports.journal.denials(ports.clock.now()))


def run_fields(run: RunRecord) -> dict[str, object]:
    """Return a run for a program."""
    return {
        "run_id": run.run_id,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at and run.finished_at.isoformat(),
        "outcome": run.outcome,
        "decision": run.decision,
        "action": run.action,
        "build_id": run.build_id,
        "eval_id": run.eval_id,
        "flake": run.flake,
        "toplevel": run.toplevel,
        "previous": run.previous,
        "target": run.target,
        "reasons": reason_fields(run.reasons),
        "ignored_gates": [
            {
                "gate": passed.gate,
                "by": passed.by,
                "given_reason": passed.because,
                "reason": passed.held,
            }
            for passed in run.ignored_gates
        ],
        "fault": run.fault,
        "error_kind": run.error_kind,
        "error_message": run.error_message,
        "exit_code": run.exit_code,
        "repeats": run.repeats,
    }
