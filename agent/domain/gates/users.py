"""Holds a reboot until those who are logged in have been warned for long enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent.domain.gate import Answer, Gate, Held, Open, Question, Stage
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.reboot import RebootConditions


def judge(question: Question, seen: RebootConditions) -> Answer:
    """Hold for `reboot.user_notice`; an announcement keeps its word, and one that is over does not.

    Who cannot be asked about may be there, and is warned as those who are known.
    """
    now, at = question.now, seen.plan.announced_for
    if seen.people == ():
        return Open("nobody is logged in")
    who = ", ".join(seen.people) if seen.people else "logind does not say who is"
    if seen.plan.is_due(now):
        return Open(f"{who} logged in: the reboot was announced for {format_instant(at)}")
    if at is None or at <= now:
        at = now + question.policy.reboot.user_notice
    reason = f"{who} logged in: the reboot is at {format_instant(at)}"
    return Held(reason, at, replace(seen.plan, announced_for=at))


GATE: Final = Gate(
    name="users",
    order=120,
    stages=(Stage.BEFORE_REBOOT,),
    holds_when="people are logged in, or logind does not say, until `reboot.user_notice` is over:"
    " `wall` warns them; greeters are nobody",
    facts=lambda facts: facts.reboot_conditions(),
    judge=judge,
    postpones=True,
    keeps_announcement=True,
)
