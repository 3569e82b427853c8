"""One run, as the history keeps it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from agent.domain.states import State, StateColumns, change_of, columns_of, state_of

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.ignored_gate import IgnoredGate


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One notable run: where it is, or how it ended, and what is known of any run.

    Instants are aware, in UTC. What the state knows can be read here, too, as the history has it:
    None where the state has no such thing.
    """

    run_id: str
    started_at: datetime
    host: str
    job: str
    """`Job.key`"""
    state: State
    finished_at: datetime | None = None
    decision: str | None = None
    asked: str | None = None
    """The action that was asked for."""
    build_id: int | None = None
    eval_id: int | None = None
    flake: str | None = None
    reasons: tuple[tuple[str, str], ...] = ()
    sets_measure: bool = False
    """The gate `downgrade` was ignored: builds before this one count no more."""
    ignored_gates: tuple[IgnoredGate, ...] = ()
    """What held the run, and was ignored."""
    error_kind: str | None = None
    error_message: str | None = None
    exit_code: int | None = None
    repeats: int = 0
    """How many later runs ended in the very same way, and were not given a row."""

    @property
    def outcome(self) -> str:
        """The word for the state, as in the `run.finished` event."""
        return columns_of(self.state).outcome

    @property
    def toplevel(self) -> str | None:
        """The system that it is about."""
        return columns_of(self.state).toplevel

    @property
    def action(self) -> str | None:
        """What is done, or was to be done."""
        change = change_of(self.state)
        return self.asked if change is None else change.action

    @property
    def boot_id(self) -> str | None:
        """The boot in which the host was touched."""
        return columns_of(self.state).boot_id

    @property
    def previous(self) -> str | None:
        """The running system before, or `unknown`; None if nothing on the host was touched."""
        return columns_of(self.state).previous

    @property
    def baseline(self) -> str | None:
        """How things were just before the activation."""
        return columns_of(self.state).baseline

    @property
    def invocation(self) -> str | None:
        """Systemd's InvocationID of the last activation that the agent has started for it."""
        return columns_of(self.state).invocation

    @property
    def fault(self) -> str | None:
        """`Fault` of a failed or rolled-back upgrade."""
        return columns_of(self.state).fault

    @property
    def target(self) -> str | None:
        """Where a roll-back has gone, or is going: the system that is brought back."""
        return columns_of(self.state).target


_OF_STATE: Final = tuple(each.name for each in fields(StateColumns))
_COMMON: Final = tuple(
    each.name for each in fields(RunRecord) if each.name not in ("state", "asked")
)
COLUMNS: Final = (*_COMMON, *_OF_STATE)
"""The columns of a run in the history; each is an attribute of `RunRecord`."""


def recorded(**columns: Any) -> RunRecord:
    """Return the run that a row of the history holds."""
    held = StateColumns(**{name: columns.pop(name) for name in _OF_STATE if name in columns})
    return RunRecord(**columns, **_in_state(held))


def altered(record: RunRecord, **columns: Any) -> RunRecord:
    """Return a run with other columns."""
    of_state = {name: columns.pop(name) for name in _OF_STATE if name in columns}
    if not of_state:
        return replace(record, **columns)
    held = replace(columns_of(record.state), action=record.action)
    return replace(record, **columns, **_in_state(replace(held, **of_state)))


def _in_state(columns: StateColumns) -> dict[str, Any]:
    state = state_of(columns)
    change = change_of(state)
    return {"state": state, "asked": columns.action if change is None else change.action}
