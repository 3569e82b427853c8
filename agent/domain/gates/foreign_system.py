"""Holds while a system that the agent has not brought here is younger than it is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.facts import Foreign


def judge(question: Question, foreign: Foreign | None) -> Answer:
    """Hold for `upgrade.foreign_hold`."""
    if foreign is None:
        return Open("the agent itself has brought what is here")
    what = f"the {foreign.what} is {foreign.path or 'unknown'}, which someone else has brought here"
    until = foreign.since + question.policy.foreign_hold
    if question.now < until:
        return Held(f"{what}: held until {format_instant(until)}", opens_at=until)
    return Open(f"{what} long enough ago")


GATE: Final = Gate(
    name="foreign-system",
    order=40,
    stages=ALWAYS,
    holds_when="the running system, the profile or the boot default is one that the agent has not"
    " brought here, and has been here for less than `upgrade.foreign_hold`",
    facts=lambda facts: facts.foreign(),
    judge=judge,
    # What an administrator has brought here, an administrator may reboot.
    is_asked_by_hand=False,
)
