"""What a gate is: a reason not to go on now, asked at stages, judged from facts alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from agent.domain.candidate import Candidate
    from agent.domain.choose import Observation, Option
    from agent.domain.errors import AgentError, Kind
    from agent.domain.facts import Facts
    from agent.domain.policy import Policy
    from agent.domain.reboot import RebootPlan
    from agent.domain.store_path import StorePath
    from agent.domain.window import Schedule

KnownT = TypeVar("KnownT")


class Stage(StrEnum):
    """When gates are asked."""

    CHOOSE = "choose"
    """Before anything is evaluated or fetched."""
    BEFORE_ACTIVATION = "before-activation"
    """Once the candidate is built, which may be hours later."""
    BEFORE_REBOOT = "before-reboot"
    """Before the reboot into a staged system, and again once the boot loader is ready for it."""

    @property
    def is_late(self) -> bool:
        """Whether the answers of an earlier stage may have changed by now."""
        return self is not Stage.CHOOSE


TO_ACTIVATE: Final = (Stage.CHOOSE, Stage.BEFORE_ACTIVATION)
ALWAYS: Final = (*TO_ACTIVATE, Stage.BEFORE_REBOOT)
ONCE_BUILT: Final = (Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT)
"""Of gates that look into the candidate: before, it is not in the store."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the gates of a stage are asked about, and when."""

    stage: Stage
    policy: Policy
    toplevel: StorePath
    """What is activated or booted; without a proof it may be another path than the candidate's."""
    candidate: Candidate | None
    """None where an administrator asks for the reboot: Hydra is not asked then."""
    now: datetime

    @property
    def schedule(self) -> Schedule:
        """The windows of what comes next: an upgrade, or a reboot."""
        is_reboot = self.stage is Stage.BEFORE_REBOOT
        return self.policy.reboot.schedule if is_reboot else self.policy.upgrade_schedule

    @property
    def windows(self) -> str:
        """The name of the setting with those windows."""
        return "reboot.windows" if self.stage is Stage.BEFORE_REBOOT else "upgrade.windows"


@dataclass(frozen=True, slots=True)
class Open:
    """Nothing is in the way; `reason` is human-readable."""

    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """Not now; `reason` is human-readable."""

    reason: str
    opens_at: datetime | None = None
    """When it may open, or is to be asked again; None if unknown."""
    plan: RebootPlan | None = None
    """What is to be remembered of a reboot that it postpones."""
    overdue: AgentError | None = None
    """What the run fails with: it has been so for longer than it may be."""


Answer = Open | Held


@dataclass(frozen=True, slots=True)
class Gate(Generic[KnownT]):
    """One gate; `agent/domain/gates/` has a file for each."""

    name: str
    order: int
    """Its place among the others: what is cheap and local is asked first."""
    stages: tuple[Stage, ...]
    holds_when: str
    """Its sentence in the documentation."""
    facts: Callable[[Facts], Awaitable[KnownT]]
    """What it has to know: a choice of what can be known, and nothing else."""
    judge: Callable[[Question, KnownT], Answer | None]
    """Its judgement, a pure function; None where it has no say on this host."""
    is_ignorable: bool = True
    """Whether it can be ignored with `--ignore-gate`."""
    is_asked_by_hand: bool = True
    """Whether it is asked where an administrator asks for the reboot."""
    is_of_candidate: bool = False
    """Whether it is asked about each candidate; what the others say is about the host."""
    facts_of_option: Callable[[Option, Observation], KnownT] | None = None
    """What it has to know, where the choice between several candidates has it already."""
    may_open_once_fetched: bool = False
    """Whether the candidate's own settings may open it: the others are asked although it holds."""
    asks_world: bool = False
    """Whether it asks, late too, what is not the host's own."""
    postpones: bool = False
    """Whether it is about the moment of a reboot alone: the system waits for it, staged."""
    keeps_announcement: bool = False
    """Whether an announced reboot that it postpones need not be announced again."""

    def __post_init__(self) -> None:
        """Refuse a gate that would never be asked.

        Raises:
            TypeError: it has no stage.
        """
        if not self.stages:
            raise TypeError(f"the gate {self.name!r} has no stage")

    def judgement(self, question: Question, known: KnownT) -> Judgement | None:
        """Return what it says, under its name."""
        answer = self.judge(question, known)
        if answer is None:
            return None
        if isinstance(answer, Open):
            return Judgement(self.name, is_open=True, reason=answer.reason)
        return Judgement(
            self.name,
            is_open=False,
            reason=answer.reason,
            opens_at=answer.opens_at,
            plan=answer.plan,
            overdue=answer.overdue,
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one gate says: open, or held with a human-readable reason."""

    gate: str
    is_open: bool
    reason: str
    fault: Kind | None = None
    """What kept the gate from being asked; a run ends with it, and not with the gate."""
    opens_at: datetime | None = None
    plan: RebootPlan | None = None
    overdue: AgentError | None = None

    @property
    def name(self) -> str:
        """What holds: the gate, or the fault for which nothing is known of it."""
        return self.gate if self.fault is None else self.fault


def plan_after(gate: Gate[Any], held: Judgement, plan: RebootPlan) -> RebootPlan:
    """Return what is to be remembered of a reboot that `held` postpones, and `gate` has judged."""
    remembered = held.plan or plan
    return remembered if gate.keeps_announcement else replace(remembered, announced_for=None)


async def no_facts(_: Facts) -> None:
    """Look nothing up, for a gate that the question alone answers."""
