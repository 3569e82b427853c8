"""Holds against a system that it was rolled back from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.report import error_fields
from agent.domain.errors import JournalError
from agent.domain.path_record import Denial, Fault, Standing, fault_of

if TYPE_CHECKING:
    from agent.application.ports import HostPorts
    from agent.application.run import Run
    from agent.domain.store_path import StorePath

BY_HAND = "by-hand"
"""The name of an administrator's reason, which is logged as `PERSON: REASON`."""


def held_as(run: Run, failed: StorePath, cause: Fault | None) -> Fault | None:
    """Return how `failed` is held when it is rolled back from, according to the history."""
    return fault_of(cause, standing_of(run.ports, failed))


def deny_if_broken(run: Run, failed: StorePath) -> None:
    """Deny what the row says is broken, unless it is denied.

    Raises:
        JournalError: that cannot be written.
    """
    ports, record = run.ports, run.record
    if record.fault != Fault.BROKEN or standing_of(ports, failed).denial is not None:
        return
    reason, by = _why_denied(run)
    ports.journal.deny(Denial(failed, reason, ports.clock.now(), by, record.build_id), record)
    ports.sink.emit(events.SYSTEM_DENIED, toplevel=failed, reason=reason, by=by)


def standing_of(ports: HostPorts, path: StorePath) -> Standing:
    """Return what a path has earned here; nothing where the history cannot be read."""
    try:
        return ports.journal.standing_of(path, ports.clock.now())
    except JournalError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return Standing()


def _why_denied(run: Run) -> tuple[str, str]:
    """Return the bare reason of a denial, and who denies: after a kill, another run does it."""
    sentences = [sentence for _, sentence in run.record.reasons]
    if [name for name, _ in run.record.reasons] == [BY_HAND]:
        person, is_named, reason = sentences[0].partition(": ")
        if is_named:
            return reason, person
    return "; ".join(sentences), run.settings.by
