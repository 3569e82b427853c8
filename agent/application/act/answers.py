"""What the part that changes the host answers to requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.domain.outcome import Outcome

if TYPE_CHECKING:
    from agent.application.ports import Fetched
    from agent.domain.confirmation import Reason
    from agent.domain.errors import AgentError
    from agent.domain.gate import Judgement
    from agent.domain.path_record import Fault
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath


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
    fault: Fault | None = None
    """How a candidate is held that failed before the host was touched."""
    fetched: Fetched | None = None
    action: Action | None = None
    is_recorded_elsewhere: bool = False
    is_undone: bool = False
    """Nothing of it is left: the activation was refused before it began."""
    is_switch_refused: bool = False
    """NixOS refuses to switch to it, and it may be asked for anew, to be staged."""
