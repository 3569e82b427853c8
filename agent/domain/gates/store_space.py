"""Holds when fetching would leave less than the reserve in the store's file system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import TO_ACTIVATE, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_size

if TYPE_CHECKING:
    from agent.domain.facts import Facts, FetchPlan, FreeSpace


async def _facts(facts: Facts) -> tuple[FetchPlan, FreeSpace]:
    return await facts.fetch_plan(), await facts.free_space()


def judge(question: Question, known: tuple[FetchPlan, FreeSpace]) -> Answer:
    """Hold what does not fit."""
    plan, space = known
    left = space.store - plan.unpacked_bytes
    what = f"{format_size(plan.unpacked_bytes)} to fetch, {format_size(space.store)} free"
    if left < question.policy.store_reserve:
        reserve = format_size(question.policy.store_reserve)
        return Held(f"{what}: less than disk.store_reserve ({reserve}) would be left")
    return Open(what)


GATE: Final = Gate(
    name="store-space",
    order=140,
    # A reboot fetches nothing.
    stages=TO_ACTIVATE,
    holds_when="fetching would leave less than `disk.store_reserve`",
    facts=_facts,
    judge=judge,
    is_of_candidate=True,
)
