"""Holds a reboot while a shutdown is blocked, for as long as that is respected."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.domain.gate import Answer, Gate, Held, Open, Question, Stage
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.reboot import RebootConditions

_LOOK_AGAIN: Final = timedelta(minutes=10)


def judge(question: Question, seen: RebootConditions) -> Answer:
    """Hold for `reboot.inhibitor_limit`, counted on from one window to the next."""
    if not seen.is_inhibited:
        return Open("nothing inhibits a shutdown")
    now = question.now
    since = seen.plan.inhibited_since or now
    limit = since + question.policy.reboot.inhibitor_limit
    who = "perhaps: logind does not say by whom"
    if seen.inhibitors:
        who = "by " + "; ".join(f"{one.who} ({one.why})" for one in seen.inhibitors)
    reason = f"inhibited {who}; respected until {format_instant(limit)}"
    if now >= limit:
        return Open(reason)
    again = min(limit, now + _LOOK_AGAIN)
    return Held(reason, again, replace(seen.plan, inhibited_since=since))


GATE: Final = Gate(
    name="inhibited",
    order=110,
    stages=(Stage.BEFORE_REBOOT,),
    holds_when="a shutdown is blocked, or logind does not say, until `reboot.inhibitor_limit` is"
    " over: then the reboot passes the inhibitors",
    facts=lambda facts: facts.reboot_conditions(),
    judge=judge,
    postpones=True,
    keeps_announcement=True,
)
