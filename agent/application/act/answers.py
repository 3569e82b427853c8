"""What the part that changes the host answers to requests.

The answers travel as text, as the requests do, and are checked on arrival in the same way.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final, TypeAlias

from agent.application.ports import Fetched
from agent.domain import states
from agent.domain.errors import AgentError, Kind
from agent.domain.gate import Judgement
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.request import read_message, write_message
from agent.domain.states import StateColumns, columns_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.domain.confirmation import Reason
    from agent.domain.states import State
    from agent.domain.store_path import StorePath
    from agent.domain.strict_json import Fields


@dataclass(frozen=True, slots=True)
class Ready:
    """The candidate is in the store, and `toplevel` is what is to be activated."""

    toplevel: StorePath
    fetched: Fetched | None
    """None where it was built, and not fetched."""


@dataclass(frozen=True, slots=True)
class Activated:
    """What the host has come to: `pending`, `staged` or `dry-activated`.

    Where someone else has decided meanwhile, it is what that one has.
    """

    toplevel: StorePath
    outcome: Outcome
    action: Action
    reasons: tuple[Reason, ...] = ()
    reboot: str = ""
    """Why a staged system is to be rebooted into by the agent; empty if it is not."""
    error: AgentError | None = None
    is_recorded_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class NotBegun:
    """Nothing was begun: a gate holds, or another hand was here."""

    reasons: tuple[Reason, ...]
    action: Action | None = None
    held: tuple[Judgement, ...] = ()
    """The gates that hold, with when they may open."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not succeed; `outcome` is `rolled-back` where the host is back on what it ran."""

    error: AgentError
    outcome: Outcome = Outcome.FAILED
    reasons: tuple[Reason, ...] = ()
    left: State | None = None
    """How its row ends, even if that could not be written; None: as the history says."""
    fetched: Fetched | None = None
    action: Action | None = None
    is_recorded_elsewhere: bool = False
    is_switch_refused: bool = False
    """NixOS refuses to switch to it, and it may be asked for anew, to be staged."""

    @property
    def is_unprepared(self) -> bool:
        """Whether it failed before the host was touched, and the candidate is held for that."""
        is_held = isinstance(self.left, states.Failed) and self.left.fault is not None
        return self.action is None and is_held


Answer: TypeAlias = Ready | Activated | NotBegun | Failed
_KINDS: Final[dict[type[Answer], str]] = {
    Ready: "ready",
    Activated: "activated",
    NotBegun: "not-begun",
    Failed: "failed",
}


def serialise(answer: Answer) -> str:
    """Return an answer as one line of JSON."""
    body = {each.name: _written(getattr(answer, each.name)) for each in fields(answer)}
    if isinstance(answer, Failed) and answer.left is not None:
        body["left"] = asdict(columns_of(answer.left))
    return write_message(_KINDS[type(answer)], body)


def _written(value: object) -> object:
    match value:
        case tuple():
            return [_written(item) for item in value]
        case Fetched():
            return {"paths": value.paths, "bytes": value.size}
        case AgentError():
            after = value.retry_after
            return {
                "kind": value.kind,
                "message": value.message,
                "hint": value.hint,
                "retry_after": None if after is None else math.ceil(max(after, 0)),
            }
        case Judgement():
            return {
                "gate": value.gate,
                "reason": value.reason,
                "fault": _written(value.fault),
                "opens_at": value.opens_at and value.opens_at.isoformat(),
                "overdue": _written(value.overdue),
            }
        case _:
            return value


def parse_fetched(text: str, *, store_dir: str) -> Ready | Failed:
    """Return the answer to a `Fetch`.

    Raises:
        RequestError: REQUEST_MALFORMED, REQUEST_TOO_LARGE.
    """

    def ready(body: Fields) -> Ready:
        return Ready(body.store_path("toplevel", store_dir), _fetched(body))

    readers: dict[str, Callable[[Fields], Ready | Failed]] = {
        _KINDS[Ready]: ready,
        _KINDS[Failed]: _failed,
    }
    return read_message("an answer to a request to fetch", text, readers)


def parse_activated(text: str, *, store_dir: str) -> Activated | NotBegun | Failed:
    """Return the answer to an `Activate`.

    Raises:
        RequestError: REQUEST_MALFORMED, REQUEST_TOO_LARGE.
    """

    def activated(body: Fields) -> Activated:
        return Activated(
            toplevel=body.store_path("toplevel", store_dir),
            outcome=Outcome(body.text("outcome")),
            action=Action(body.text("action")),
            reasons=_reasons(body),
            reboot=body.text("reboot"),
            error=_error(body.object_or_none("error")),
            is_recorded_elsewhere=body.truth("is_recorded_elsewhere"),
        )

    readers: dict[str, Callable[[Fields], Activated | NotBegun | Failed]] = {
        _KINDS[Activated]: activated,
        _KINDS[NotBegun]: _not_begun,
        _KINDS[Failed]: _failed,
    }
    return read_message("an answer to a request to activate", text, readers)


def _not_begun(body: Fields) -> NotBegun:
    return NotBegun(
        reasons=_reasons(body),
        action=_action(body),
        held=tuple(_held(one) for one in body.objects("held")),
    )


def _failed(body: Fields) -> Failed:
    left = body.object_or_none("left")
    return Failed(
        error=_required_error(body.object("error")),
        outcome=Outcome(body.text("outcome")),
        reasons=_reasons(body),
        left=None if left is None else _state(left),
        fetched=_fetched(body),
        action=_action(body),
        is_recorded_elsewhere=body.truth("is_recorded_elsewhere"),
        is_switch_refused=body.truth("is_switch_refused"),
    )


def _state(body: Fields) -> State:
    outcome = body.text("outcome")
    others = [each.name for each in fields(StateColumns) if each.name != "outcome"]
    state = state_of(StateColumns(outcome, **{name: body.text_or_none(name) for name in others}))
    body.end()
    return state


def _action(body: Fields) -> Action | None:
    action = body.text_or_none("action")
    return None if action is None else Action(action)


def _reasons(body: Fields) -> tuple[Reason, ...]:
    return tuple((name, sentence) for name, sentence in body.rows("reasons", 2))


def _fetched(body: Fields) -> Fetched | None:
    inner = body.object_or_none("fetched")
    if inner is None:
        return None
    fetched = Fetched(inner.number("paths"), inner.number("bytes"))
    inner.end()
    return fetched


def _error(body: Fields | None) -> AgentError | None:
    return None if body is None else _required_error(body)


def _required_error(body: Fields) -> AgentError:
    kind = Kind(body.text("kind"))  # type: ignore[call-arg]  # a look-up by value
    error = AgentError(
        kind,
        body.text("message"),
        hint=body.text("hint"),
        retry_after=body.number_or_none("retry_after"),
    )
    body.end()
    return error


def _held(body: Fields) -> Judgement:
    held = Judgement(
        gate=body.text("gate"),
        is_open=False,
        reason=body.text("reason"),
        fault=_error(body.object_or_none("fault")),
        opens_at=body.instant_or_none("opens_at"),
        overdue=_error(body.object_or_none("overdue")),
    )
    body.end()
    return held
