"""What all runs share: exactly one summary, one row for what was notable, no fault lost."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from agent.application import events
from agent.application.ports import RunRecord
from agent.application.report import Report, Summary, error_fields
from agent.application.row import try_commit
from agent.domain.activation import current_of
from agent.domain.choose import Hold
from agent.domain.errors import (
    AgentError,
    ExitCode,
    HostError,
    JournalError,
    Kind,
    LockedError,
)
from agent.domain.outcome import HARMLESS, UNDER_WAY, Outcome
from agent.domain.run_record import altered
from agent.domain.states import Failed
from agent.domain.systems import Systems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from agent.application.ports import FactPorts, HostPorts
    from agent.application.report import Result
    from agent.domain.policy import Policy
    from agent.domain.states import State

_STRONGER = (Outcome.FAILED, Outcome.PENDING, Outcome.CONFIRMED, Outcome.ROLLED_BACK)
"""Stronger than a history that cannot be written: a full disk is no broken system."""
_STATE_FAULTS = frozenset(
    {
        *(Kind.STATE_READ_ONLY, Kind.STATE_PRIVATE, Kind.STATE_FULL),
        *(Kind.STATE_IO_ERROR, Kind.STATE_UNUSABLE),
        *(Kind.JOURNAL_TOO_NEW, Kind.JOURNAL_CORRUPT),
    }
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What is asked of one run, besides the policy."""

    run_id: str
    store_dir: str
    dry_run: bool = False
    ended_by: Callable[[], Kind] = lambda: Kind.TERMINATED
    """Asked after a cancellation: INTERRUPTED or TERMINATED."""
    ignored_gates: frozenset[str] = frozenset()
    ignored_because: str = ""
    ignored_by: str = ""
    """Who ignores gates; `by` where that is not said."""
    by: str = "agent"
    """Who asked for it, where that was a person."""
    is_patient: bool = False
    """Whether it waits while others are running, instead of ending as held."""
    hydra_wait: float | None = None
    """The seconds that Hydra asks to be left alone, where it was found too busy a moment ago."""


PortsT_co = TypeVar("PortsT_co", bound="FactPorts", covariant=True, default="HostPorts")
"""What a part of a run may reach."""
PortsT = TypeVar("PortsT", bound="FactPorts")
ActPortsT = TypeVar("ActPortsT", bound="HostPorts")


@dataclass
class Run(Generic[PortsT_co]):
    """One run on its way; `record` is its row in the history, rewritten before effects."""

    ports: PortsT_co
    policy: Policy
    settings: RunSettings
    record: RunRecord
    summary: Summary

    def step(self, name: str) -> AbstractContextManager[None]:
        """Add the time of a `with` block to the duration of a step of the run."""
        return self.summary.step(name, self.ports.clock)

    def commit(self: Run[HostPorts], state: State, **changes: Any) -> None:
        """Commit a phase; it is on disk when this returns.

        Raises:
            JournalError: it is not.
        """
        self.record = replace(self.record, state=state, **changes)
        self.ports.journal.record(self.record)

    def try_commit(self: Run[HostPorts], state: State, **changes: Any) -> None:
        """Commit a phase where the host is more important than its history."""
        self.record = replace(self.record, state=state, **changes)
        try_commit(self.ports.journal, self.ports.sink, self.record)

    def of(self, record: RunRecord) -> Run[PortsT_co]:
        """Return a run that goes on with another one's row, and reports as this one."""
        return replace(self, record=record)


def begin(ports: PortsT, policy: Policy, settings: RunSettings) -> Run[PortsT]:
    """Return a run that has done nothing yet."""
    record = RunRecord(
        run_id=settings.run_id,
        started_at=ports.clock.now(),
        host=policy.host,
        job=policy.job.key,
        state=Failed(),
    )
    return Run(ports, policy, settings, record, Summary())


async def carry_out(
    run: Run[ActPortsT], body: Callable[[Run[ActPortsT]], Awaitable[Result]]
) -> Report:
    """Do one run and return its report; the run's faults are in it, and never raised.

    A cancellation is recorded as far as it got, and passed on.
    """
    ports, policy = run.ports, run.policy
    ports.sink.emit(
        events.RUN_STARTED,
        action=policy.action,
        strategy=policy.strategy,
        dry_run=run.settings.dry_run,
    )
    try:
        with run.step("total"):
            result = await body(run)
        report = run.summary.report().of(result)
    except AgentError as error:
        report = _failed(run, run.summary.report(), error)
    except asyncio.CancelledError:
        interruption = _interruption(run, run.settings.ended_by())
        _finish(run, _failed(run, run.summary.report(), interruption))
        raise
    except Exception as error:  # noqa: BLE001 - a bug, too, ends in one summary
        report = _crashed(run, run.summary.report(), error)
    return _finish(run, report)


def _failed(run: Run, report: Report, error: AgentError) -> Report:
    """Return a report with a fault; one that can only be waited for is a hold."""
    if error.exit_code is ExitCode.HELD:
        run.ports.sink.emit(events.RUN_HELD, **error_fields(error))
        held = replace(report, decision=Hold.name, outcome=Outcome.HELD, error=error)
        return replace(held, reasons=((error.kind, error.message),))
    run.ports.sink.emit(events.RUN_FAILED, **error_fields(error))
    is_back = report.outcome is Outcome.ROLLED_BACK
    return replace(report, outcome=report.outcome if is_back else Outcome.FAILED, error=error)


def _interruption(run: Run, kind: Kind) -> AgentError:
    """Return the fault of a run that was asked to end, and where it left a host it had begun on."""
    message = "the run was asked to end"
    if run.record.previous is not None:
        is_home = run.ports.systemd.has_host_below
        found = _with_systems(run, Report()).systems or Systems(None, None, None)
        message += (
            f" when it had begun to change the {'home' if is_home else 'host'};"
            f" the {current_of(is_home=is_home)} is"
            f" {found.running or 'unknown'}, the profile is {found.profile or 'unknown'}"
        )
    return AgentError(kind, message)


def _crashed(run: Run, report: Report, error: Exception) -> Report:
    """Return a report with a bug, whose traceback is logged."""
    run.ports.sink.emit(events.BUG_FOUND, exception=traceback.format_exc())
    return _failed(run, report, AgentError(Kind.BUG, f"{type(error).__name__}: {error}"))


def _finish(run: Run, report: Report) -> Report:
    """Record a run that was notable, and log the summary, even if something fails here."""
    report = _with_systems(run, report)
    try:
        _record(run, report)
    except JournalError as error:
        # The host's own state, or a cause logged before, stays the summary's.
        if report.outcome in _STRONGER:
            run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        else:
            report = _failed(run, report, error)
    except Exception as error:  # noqa: BLE001 - a bug, too, ends in one summary
        report = _crashed(run, report, error)
    run.ports.sink.emit(events.RUN_FINISHED, **report.fields())
    return report


def _with_systems(run: Run, report: Report) -> Report:
    """Let the summary of a run that touched the host show where the host is now."""
    if run.record.previous is None:
        return report
    report = replace(report, systems=None)
    try:
        return replace(report, systems=run.ports.host.systems())
    except HostError:
        return report
    except Exception as error:  # noqa: BLE001 - a bug, too, ends in one summary
        return _crashed(run, report, error)


def _record(run: Run, report: Report) -> None:
    is_notable = report.outcome is not Outcome.NOTHING_TO_DO
    if is_notable and not (
        run.settings.dry_run or report.is_recorded_elsewhere or _is_unrecordable(report)
    ):
        run.ports.journal.record(last_row(run, report))


def _is_unrecordable(report: Report) -> bool:
    """Whether the state directory is not this run's to write to, or cannot be written."""
    error = report.error
    return isinstance(error, LockedError | JournalError) or (
        error is not None and error.kind in _STATE_FAULTS
    )


def last_row(run: Run, report: Report) -> RunRecord:
    """Return the last row of a run that ends with `report`.

    What an activation has reached stands, whatever failed later; and a phase that the host was
    left in stays for the next run to see.
    """
    error, reached = report.error, run.record.outcome
    is_left = reached in UNDER_WAY - HARMLESS and run.record.previous is not None
    if reached == Outcome.FAILED or (reached in UNDER_WAY and not is_left):
        reached = report.outcome or Outcome.FAILED
    return altered(
        run.record,
        finished_at=run.ports.clock.now(),
        outcome=reached,
        decision=report.decision or run.record.decision,
        reasons=report.reasons or run.record.reasons,
        action=run.record.action or run.policy.action,
        error_kind=error.kind if error else None,
        error_message=error.message if error else None,
        exit_code=int(report.exit_code),
    )
