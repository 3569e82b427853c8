"""Holds a system that lacks the specialisation which is to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ONCE_BUILT, Answer, Gate, Held, Open, Question

if TYPE_CHECKING:
    from agent.domain.facts import Specialisations


def judge(question: Question, specialisations: Specialisations) -> Answer | None:
    """Hold where it is missing; where none is to run there is nothing to lose."""
    del question
    wanted, found = specialisations.wanted, specialisations.found
    if wanted is None:
        return None
    if wanted in found:
        return Open(f"the candidate has the specialisation {wanted!r}")
    has = f"it has {', '.join(found)}" if found else "it has none"
    return Held(f"the candidate has no specialisation {wanted!r}, which is to run here; {has}")


GATE: Final = Gate(
    name="specialisation-lost",
    order=170,
    stages=ONCE_BUILT,
    holds_when="the candidate, once fetched, has no specialisation of the name that runs, or that"
    " `specialisation` chooses; or the boot loader cannot be made to start it",
    facts=lambda facts: facts.specialisations(),
    judge=judge,
    is_of_candidate=True,
)
