"""Holds what has failed here for a reason that may pass, longer each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question
from agent.domain.path_record import suspect_until
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.domain.path_record import Standing


def judge(question: Question, standings: Sequence[Standing]) -> Answer:
    """Hold until one of the paths is tried again.

    A failure that is still to come is of a clock that was set back since: nobody knows when it was.
    """
    for standing in standings:
        until = suspect_until(standing)
        is_known = standing.suspected_at is not None and standing.suspected_at <= question.now
        if is_known and until is not None and question.now < until:
            times = standing.suspicions
            reason = f"failed here {times} times: tried again from {format_instant(until)} on"
            return Held(reason, opens_at=until)
    return Open("not suspect")


GATE: Final = Gate(
    name="suspect",
    order=60,
    stages=ALWAYS,
    holds_when="the path failed here for a reason that may pass, or could not be verified, built or"
    " trusted: 10 minutes, then longer each time, up to a day",
    facts=lambda facts: facts.standings(),
    judge=judge,
    is_of_candidate=True,
    facts_of_option=lambda option, _: (option.standing,),
)
