"""Holds a system without the confirm unit that the running one has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ONCE_BUILT, Answer, Gate, Held, Open, Question

if TYPE_CHECKING:
    from agent.domain.facts import AgentUnits


def judge(question: Question, units: AgentUnits) -> Answer:
    """Hold what nothing of this agent would confirm or upgrade."""
    del question
    if units.has_it and not units.would_have_it:
        return Held("the candidate has no unit of this agent: nothing would confirm or upgrade it")
    return Open("the agent stays")


GATE: Final = Gate(
    name="agent-removed",
    order=160,
    stages=ONCE_BUILT,
    holds_when="the candidate, once fetched, has no confirm unit of this agent, and the running"
    " system has",
    facts=lambda facts: facts.agent_units(),
    judge=judge,
    is_of_candidate=True,
)
