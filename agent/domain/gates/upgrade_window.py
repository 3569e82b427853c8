"""Holds outside of `upgrade.windows`."""

from __future__ import annotations

from typing import Final

from agent.domain.gate import TO_ACTIVATE, Answer, Gate, Held, Open, Question, no_facts
from agent.domain.texts import format_instant


def judge(question: Question, _: None) -> Answer:
    """Hold until the next window opens for this host."""
    schedule, now, host = question.schedule, question.now, question.policy.host
    if schedule.is_open(now, host):
        return Open("open" if schedule.windows else "no windows")
    opens = schedule.next_opening(now, host)
    reason = f"outside of upgrade.windows, which open next {format_instant(opens)}"
    return Held(reason, opens_at=opens)


GATE: Final = Gate(
    name="upgrade-window",
    order=90,
    # A reboot has windows of its own.
    stages=TO_ACTIVATE,
    holds_when="`upgrade.windows` are closed; the next run begins when one opens",
    facts=no_facts,
    judge=judge,
)
