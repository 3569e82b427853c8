"""Holds while a health check fails that is not merely wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.domain.check import CheckResult

_NAMED: Final = 5
"""How many failed checks a reason names."""


def judge(question: Question, results: Sequence[CheckResult]) -> Answer:
    """Hold, and name the checks that fail."""
    del question
    held = [result for result in results if result.is_blocking]
    if not held:
        return Open(f"{len(results)} checks well" if results else "no checks")
    named = "; ".join(f"{result.check.name}: {result.reason}" for result in held[:_NAMED])
    more = f"; and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
    return Held(named + more)


GATE: Final = Gate(
    name="health",
    order=150,
    stages=ALWAYS,
    holds_when="a health check fails that is not merely *wanted*; a canary that the candidate, once"
    " fetched, no longer names is not asked, if another check passes",
    facts=lambda facts: facts.health(),
    judge=judge,
    may_open_once_fetched=True,
    asks_world=True,
)
