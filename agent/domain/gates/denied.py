"""Holds what is denied on this host; a denial is lifted, and not ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.domain.path_record import Denial, Standing


def judge(question: Question, standings: Sequence[Standing]) -> Answer:
    """Hold while one of the paths is denied."""
    del question
    for standing in standings:
        if standing.denial is not None:
            return Held(why_denied(standing.denial), opens_at=standing.denial.until)
    return Open("not denied")


def why_denied(denial: Denial) -> str:
    """Return what is denied, by whom, why and until when."""
    ends = f"until {format_instant(denial.until)}" if denial.until else "until it is allowed"
    return f"{denial.toplevel} is denied {ends} (by {denial.by}: {denial.reason})"


GATE: Final = Gate(
    name="denied",
    order=50,
    stages=ALWAYS,
    holds_when="the path proved broken here, or an administrator has denied it",
    facts=lambda facts: facts.standings(),
    judge=judge,
    is_of_candidate=True,
    facts_of_option=lambda option, _: (option.standing,),
    is_ignorable=False,
)
