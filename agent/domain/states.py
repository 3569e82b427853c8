"""Where a run is, or how it ended: one type each, with the data that there is then.

A row of the history holds a state in columns. `columns_of` and `state_of` are the only ones that
know how; `state_of` takes what another version of the agent, or a failing disk, has left there:
what cannot be read makes the state `Unreadable`, on which nothing is ever decided.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from agent.domain.confirmation import Baseline
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.store_path import StorePath, parse_store_path

UNKNOWN: Final = "unknown"
"""Stands in a row for a system that ran before and that nobody knows: the host was touched."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a run changes on the host, noted before it begins."""

    toplevel: StorePath
    action: Action = Action.SWITCH
    previous: StorePath | None = None
    """The running system before; None if unknown."""
    boot_id: str = ""
    """The boot in which the host was touched."""
    baseline: Baseline = field(default_factory=Baseline)
    """How things were just before the activation."""
    invocation: str = ""
    """systemd's InvocationID of the last activation that the agent has started for it."""

    @property
    def is_lasting(self) -> bool:
        """Whether anything of it stays: a dry activation changes nothing."""
        return self.action is not Action.DRY_ACTIVATE


@dataclass(frozen=True, slots=True)
class Selected:
    """The gates are open; the flake is about to be evaluated."""

    toplevel: StorePath


@dataclass(frozen=True, slots=True)
class Verified:
    """The candidate is this host's; its closure is about to be fetched."""

    toplevel: StorePath


@dataclass(frozen=True, slots=True)
class Fetched:
    """The closure is in the store; nixos-rebuild is about to build."""

    toplevel: StorePath


@dataclass(frozen=True, slots=True)
class Armed:
    """The mark `pending` and the dead-man's timer are about to be set."""

    change: Change


@dataclass(frozen=True, slots=True)
class Activating:
    """nixos-rebuild is about to change the host."""

    change: Change


@dataclass(frozen=True, slots=True)
class Pending:
    """Activated; about to be confirmed, or not judged yet."""

    change: Change
    fault: Fault | None = None
    """That of an activation which failed, and which an administrator must decide on."""


@dataclass(frozen=True, slots=True)
class RollingBack:
    """The confirmed system, `target`, is about to be activated again."""

    change: Change
    target: StorePath | None
    fault: Fault | None
    """How what is left will be held; None: an administrator has asked for it."""


@dataclass(frozen=True, slots=True)
class Staged:
    """In the profile for the next boot."""

    change: Change


@dataclass(frozen=True, slots=True)
class Rebooting:
    """The reboot that completes it has been asked for."""

    change: Change


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Proved healthy."""

    change: Change


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The confirmed system, `target`, runs again."""

    change: Change
    target: StorePath | None
    fault: Fault | None


About: TypeAlias = Change | StorePath | None
"""What a run was about: what it had begun to change, or only a candidate, or nothing."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It came to nothing."""

    about: About = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended in another way, such as held by a gate, or with nothing to do."""

    outcome: Outcome
    about: About = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What cannot be read: history, on which nothing is decided."""

    outcome: str
    toplevel: str | None = None
    change: Change | None = None
    """What the rest of the row says was to be changed."""


OpenState: TypeAlias = Selected | Verified | Fetched | Armed | Activating | Pending | RollingBack
"""The run is still in this phase, or was cut short there."""
State: TypeAlias = (
    OpenState | Staged | Rebooting | Confirmed | RolledBack | Failed | Ended | Unreadable
)

_FAULTY: Final = (Pending, RollingBack, RolledBack, Failed, Ended)
_PREPARING: Final[dict[Outcome, type[Selected | Verified | Fetched]]] = {
    Outcome.SELECTED: Selected,
    Outcome.VERIFIED: Verified,
    Outcome.FETCHED: Fetched,
}
_CHANGING: Final[dict[Outcome, type[Armed | Activating | Staged | Rebooting | Confirmed]]] = {
    Outcome.ARMED: Armed,
    Outcome.ACTIVATING: Activating,
    Outcome.STAGED: Staged,
    Outcome.REBOOTING: Rebooting,
    Outcome.CONFIRMED: Confirmed,
}
_OUTCOMES: Final[dict[type, Outcome]] = {
    **{kind: outcome for outcome, kind in _PREPARING.items()},
    **{kind: outcome for outcome, kind in _CHANGING.items()},
    Pending: Outcome.PENDING,
    RollingBack: Outcome.ROLLING_BACK,
    RolledBack: Outcome.ROLLED_BACK,
    Failed: Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class StateColumns:
    """A state as a row of the history holds it."""

    outcome: str
    toplevel: str | None = None
    action: str | None = None
    previous: str | None = None
    boot_id: str | None = None
    baseline: str | None = None
    invocation: str | None = None
    fault: str | None = None
    target: str | None = None


def outcome_of(state: State) -> str:
    """Return the word for a state, as logs, reports and the history have it."""
    return state.outcome if isinstance(state, Ended | Unreadable) else _OUTCOMES[type(state)]


def about_of(state: State) -> About:
    """Return what a run is about, whichever state it is in."""
    match state:
        case Selected() | Verified() | Fetched():
            return state.toplevel
        case Failed() | Ended():
            return state.about
        case _:
            return state.change


def change_of(state: State) -> Change | None:
    """Return what a run has begun to change on the host; None if it has not."""
    about = about_of(state)
    return about if isinstance(about, Change) else None


def fault_in(state: State) -> Fault | None:
    """Return the fault that a state holds."""
    return state.fault if isinstance(state, _FAULTY) else None


def failed(state: State, fault: Fault | None = None) -> Failed | Unreadable:
    """Return the end of a run that came to nothing in this state."""
    if isinstance(state, Unreadable) and state.change is None:
        return replace(state, outcome=Outcome.FAILED)
    return Failed(about_of(state), fault or fault_in(state))


def still_pending(state: State, toplevel: StorePath) -> Pending:
    """Return the state of an activated system that is to be judged, by what a row says of it."""
    return Pending(change_of(state) or Change(toplevel), fault_in(state))


def columns_of(state: State) -> StateColumns:
    """Return a state as a row of the history holds it."""
    change, fault = about_of(state), fault_in(state)
    target = state.target if isinstance(state, RollingBack | RolledBack) else None
    if not isinstance(change, Change):
        toplevel = state.toplevel if isinstance(state, Unreadable) else change
        return StateColumns(outcome_of(state), toplevel, fault=fault)
    return StateColumns(
        outcome=outcome_of(state),
        toplevel=change.toplevel,
        action=change.action,
        previous=change.previous or UNKNOWN,
        boot_id=change.boot_id or None,
        baseline=None if change.baseline == Baseline() else change.baseline.serialise(),
        invocation=change.invocation or None,
        fault=fault,
        target=target,
    )


def state_of(columns: StateColumns) -> State:
    """Return the state that a row of the history holds."""
    toplevel = _path(columns.toplevel)
    is_lost = toplevel is None and columns.toplevel is not None
    if is_lost or columns.outcome not in frozenset(Outcome):
        is_change = toplevel is not None and columns.previous is not None
        change = _change(toplevel, columns) if toplevel is not None and is_change else None
        return Unreadable(columns.outcome, columns.toplevel, change)
    outcome = Outcome(columns.outcome)
    fault = Fault(columns.fault) if columns.fault in frozenset(Fault) else None
    if toplevel is None:
        return _about_nothing(outcome, fault)
    if outcome in _PREPARING:
        return _PREPARING[outcome](toplevel)
    change = _change(toplevel, columns)
    if outcome in _OUTCOMES.values() and outcome is not Outcome.FAILED:
        return _changing(outcome, change, fault, _path(columns.target))
    about = toplevel if columns.previous is None else change
    if outcome is Outcome.FAILED:
        return Failed(about, fault)
    return Ended(outcome, about, fault)


def _about_nothing(outcome: Outcome, fault: Fault | None) -> State:
    if outcome is Outcome.FAILED:
        return Failed(fault=fault)
    return Unreadable(outcome) if outcome in _OUTCOMES.values() else Ended(outcome, fault=fault)


def _changing(
    outcome: Outcome, change: Change, fault: Fault | None, target: StorePath | None
) -> State:
    if outcome in _CHANGING:
        return _CHANGING[outcome](change)
    if outcome is Outcome.PENDING:
        return Pending(change, fault)
    if outcome is Outcome.ROLLING_BACK:
        return RollingBack(change, target, fault)
    return RolledBack(change, target, fault)


def _change(toplevel: StorePath, columns: StateColumns) -> Change:
    try:
        action = Action(columns.action or Action.SWITCH)
    except ValueError:
        action = Action.SWITCH
    return Change(
        toplevel=toplevel,
        action=action,
        previous=_path(columns.previous),
        boot_id=columns.boot_id or "",
        baseline=Baseline.parse(columns.baseline),
        invocation=columns.invocation or "",
    )


def _path(text: str | None) -> StorePath | None:
    """Return a text as a path directly below any store directory, or None if it is none."""
    if text is None or not text.startswith("/"):
        return None
    return parse_store_path(text, posixpath.dirname(text))
