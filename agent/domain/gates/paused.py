"""Holds while an administrator has paused the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.pause import Pause


def judge(question: Question, pause: Pause | None) -> Answer:
    """Hold until the pause is over, or is ended by hand."""
    del question
    if pause is None:
        return Open("not paused")
    ends = f"until {format_instant(pause.until)}" if pause.until else "until `agent resume`"
    return Held(f"paused {ends} by {pause.by}: {pause.reason}", opens_at=pause.until)


GATE: Final = Gate(
    name="paused",
    order=10,
    stages=ALWAYS,
    holds_when="an administrator has run `agent pause`, until it ends or `agent resume`",
    facts=lambda facts: facts.pause(),
    judge=judge,
    postpones=True,
)
