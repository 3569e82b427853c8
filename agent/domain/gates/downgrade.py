"""Holds a build older than the newest one that this host has already taken from the same job.

Hydra's `latest` can go backwards when an administrator restarts a build (recorded
`restart-4-latest-regressed.json`). A Hydra whose numbers begin anew, or that has named one of far
too high a number once, is a person's affair: passing the gate sets a new measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import TO_ACTIVATE, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_instant

if TYPE_CHECKING:
    from agent.domain.path_record import TakenBuild


def judge(question: Question, taken: TakenBuild | None) -> Answer | None:
    """Hold what has a lower number; without a candidate there is nothing to compare."""
    candidate = question.candidate
    if candidate is None:
        return None
    if taken is None or candidate.build_id >= taken.build_id:
        return Open("not older than what was here")
    when = f" on {format_instant(taken.taken_at)}" if taken.taken_at else ", or is on,"
    return Held(
        f"build {candidate.build_id} is older than build {taken.build_id}, which this host has"
        f" taken{when} as {taken.toplevel or 'an unknown path'}; if Hydra's numbers have begun"
        " anew, or that one was wrong, `agent allow downgrade` forgets it"
    )


GATE: Final = Gate(
    name="downgrade",
    order=70,
    # What waits for its reboot has been taken already.
    stages=TO_ACTIVATE,
    holds_when="this host has taken a build of the job with a higher number before, or was found on"
    " one; the reason names it. What is taken past this gate by hand is the new measure, and `agent"
    " allow downgrade` forgets the old one",
    facts=lambda facts: facts.newest_taken(),
    judge=judge,
    is_of_candidate=True,
    facts_of_option=lambda _, seen: seen.taken,
)
