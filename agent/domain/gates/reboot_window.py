"""Holds a reboot outside of `reboot.windows`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import Answer, Gate, Held, Open, Question, Stage
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.reboot import RebootConditions


def judge(question: Question, seen: RebootConditions) -> Answer:
    """Hold until the next window opens; what was announced for now needs no margin."""
    schedule, now, host = question.schedule, question.now, question.policy.host
    if schedule.is_open(now, host, has_begun=seen.plan.is_due(now)):
        return Open("open" if schedule.windows else "no windows")
    opens = schedule.next_opening(now, host)
    reason = f"outside of reboot.windows, which open next {format_instant(opens)}"
    return Held(reason, opens_at=opens)


GATE: Final = Gate(
    name="reboot-window",
    order=100,
    stages=(Stage.BEFORE_REBOOT,),
    holds_when="`reboot.windows` are closed: each host may begin `splay` later, and needs `margin`"
    " of what is left",
    facts=lambda facts: facts.reboot_conditions(),
    judge=judge,
    postpones=True,
)
