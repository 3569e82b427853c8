"""Holds a host that has booted a system other than its profile's: it may have been chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.facts import Booted


def judge(question: Question, booted: Booted | None) -> Answer | None:
    """Hold for `upgrade.foreign_hold`; what is never booted has no say."""
    if booted is None:
        return None
    found = booted.unexpected
    if found is None:
        return Open("the host has booted what the profile has, or has had since")
    what = f"the host has booted {found.path}, which is not the profile's system"
    until = found.since + question.policy.foreign_hold
    if question.now < until:
        return Held(f"{what}: held until {format_instant(until)}", opens_at=until)
    return Open(f"{what}, long enough ago")


GATE: Final = Gate(
    name="booted-unexpected",
    order=30,
    stages=ALWAYS,
    holds_when="the host has booted another system than the profile's, and has had it for less than"
    " `upgrade.foreign_hold`: an administrator has picked it",
    facts=lambda facts: facts.booted(),
    judge=judge,
    is_asked_by_hand=False,
)
