"""Holds a home while the system below it is upgraded: that one goes first."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.domain.gate import TO_ACTIVATE, Answer, Gate, Held, Open, Question

if TYPE_CHECKING:
    from agent.domain.facts import SystemBelow

_LOOK_AGAIN: Final = timedelta(minutes=2)


def judge(question: Question, below: SystemBelow | None) -> Answer | None:
    """Hold while it is, or may be; a host has no system below."""
    if below is None:
        return None
    if below.is_upgrading is False:
        return Open("the system below is at rest")
    reason = (
        "the system below is being upgraded"
        if below.is_upgrading
        else "systemd does not say whether the system below is being upgraded"
    )
    return Held(reason, opens_at=question.now + _LOOK_AGAIN)


GATE: Final = Gate(
    name="host-upgrade",
    order=20,
    # Of homes, which are never a reason to reboot.
    stages=TO_ACTIVATE,
    holds_when="of a home alone: the system below it is being upgraded; it looks again after two"
    " minutes",
    facts=lambda facts: facts.system_below(),
    judge=judge,
)
