"""Asks one gate about facts that a test has made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.domain.candidate import Candidate
from agent.domain.gate import Gate, Question, Stage
from fakes.runs import NOW
from fakes.samples import JOB, NEW, POLICY

if TYPE_CHECKING:
    from datetime import datetime
    from types import ModuleType

    from agent.domain.gate import Judgement
    from agent.domain.policy import Policy

CANDIDATE = Candidate(JOB, 28, NEW, "x86_64-linux", None)


def judge(
    gate: ModuleType,
    known: object,
    *,
    now: datetime = NOW,
    policy: Policy = POLICY,
    stage: Stage = Stage.CHOOSE,
    candidate: Candidate = CANDIDATE,
) -> Judgement:
    """Return the judgement of the gate that a module has."""
    asked: Gate[Any] = gate.GATE
    judgement = asked.judgement(Question(stage, policy, NEW, candidate, now), known)
    assert judgement is not None
    return judgement
