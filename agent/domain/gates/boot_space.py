"""Holds when the boot partition has less room than its reserve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.gate import TO_ACTIVATE, Answer, Gate, Held, Open, Question
from agent.domain.texts import format_size

if TYPE_CHECKING:
    from agent.domain.facts import FreeSpace


def judge(question: Question, space: FreeSpace) -> Answer | None:
    """Hold what would write to it; `test` leaves it alone."""
    policy, free = question.policy, space.boot
    if free is None:
        return None
    if not policy.action.moves_profile:
        return Open(f"{policy.action} does not write to it")
    if free < policy.boot_reserve:
        reserve = format_size(policy.boot_reserve)
        return Held(f"{format_size(free)} free: less than disk.boot_reserve ({reserve})")
    return Open(f"{format_size(free)} free")


GATE: Final = Gate(
    name="boot-space",
    order=130,
    # A reboot writes nothing there that is not there yet.
    stages=TO_ACTIVATE,
    holds_when="`/boot` has less than `disk.boot_reserve`, and still has once the running system's"
    " own installer has removed the kernels of generations that are gone. That is done once for"
    " each running system, and only on a host that is at rest on its confirmed one",
    facts=lambda facts: facts.free_space(),
    judge=judge,
)
