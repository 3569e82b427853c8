"""Answers what the side that acts asks before a reboot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application.facts.ask_gates import find_held_by_world
from agent.application.facts.stage_facts import StageFacts
from agent.application.facts.take_findings import take_baseline
from agent.domain.gate import Stage

if TYPE_CHECKING:
    from agent.application.ports import WatchPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.confirmation import Baseline
    from agent.domain.gate import Judgement
    from agent.domain.store_path import StorePath


class WorldBeforeReboot:
    """What the world says about a reboot into `toplevel`, each time anew."""

    def __init__(
        self, run: Run[WatchPorts], toplevel: StorePath, candidate: Candidate | None
    ) -> None:
        self._run = run
        self._toplevel = toplevel
        self._candidate = candidate

    async def find_held(self) -> Judgement | None:
        """Return the gate that holds by what the world says now."""
        stage = Stage.BEFORE_REBOOT
        facts = StageFacts(self._run, stage, self._toplevel, self._candidate)
        return await find_held_by_world(facts)

    async def take_baseline(self) -> Baseline:
        """Return how things are."""
        return await take_baseline(self._run.ports, self._run.policy)
