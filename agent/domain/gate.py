"""What a gate is: a reason not to continue now, asked at stages and judged by facts alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from agent.domain.candidate import Candidate
    from agent.domain.choose import Observation, Option
    from agent.domain.errors import AgentError
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
    """Once the candidate has been fetched and built, which may be hours later."""
    BEFORE_REBOOT = "before-reboot"
    """Before the reboot into a staged system, and again once the boot loader is ready for it."""

    @property
    def is_late(self) -> bool:
        """Whether the answers may have changed since an earlier stage."""
        return self is not Stage.CHOOSE


TO_ACTIVATE: Final = (Stage.CHOOSE, Stage.BEFORE_ACTIVATION)
ALWAYS: Final = (*TO_ACTIVATE, Stage.BEFORE_REBOOT)
ONCE_BUILT: Final = (Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT)
"""For gates that inspect the candidate, which is not in the store before."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the gates of a stage are asked about."""

    stage: Stage
    policy: Policy
    toplevel: StorePath
    """What is activated or booted; without verification it may differ from the candidate's path."""
    candidate: Candidate | None
    """None if an administrator has requested the reboot: Hydra is not asked then."""
    now: datetime

    @property
    def schedule(self) -> Schedule:
        """The windows that apply: for an upgrade, or for a reboot."""
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
    """What to remember of a reboot that it postpones."""
    overdue: AgentError | None = None
    """The error with which the run fails if the gate has held for too long."""


Answer = Open | Held


@dataclass(frozen=True, slots=True)
class Gate(Generic[KnownT]):
    """One gate; `agent/domain/gates/` has a file for each."""

    name: str
    order: int
    """Its position: cheap and local gates are asked first."""
    stages: tuple[Stage, ...]
    holds_when: str
    """Its sentence in the documentation."""
    facts: Callable[[Facts], Awaitable[KnownT]]
    """Selects the facts that it needs, and no others."""
    judge: Callable[[Question, KnownT], Answer | None]
    """Its judgement, a pure function; returns None if the gate does not apply to this host."""
    is_ignorable: bool = True
    """Whether it can be ignored with `--ignore-gate`."""
    is_asked_by_hand: bool = True
    """Whether it is asked if an administrator has requested the reboot."""
    is_of_candidate: bool = False
    """Whether it is asked about each candidate; the other gates are about the host."""
    facts_of_option: Callable[[Option, Observation], KnownT] | None = None
    """The facts that it needs, if the choice between several candidates has them already."""
    may_open_once_fetched: bool = False
    """Whether the candidate's own settings may open it; the other gates are still asked."""
    asks_world: bool = False
    """Whether it asks other hosts, also at the later stages."""
    postpones: bool = False
    """Whether it only concerns the time of a reboot: the system stays staged until it opens."""
    keeps_announcement: bool = False
    """Whether a reboot that it postpones keeps its announcement."""

    def __post_init__(self) -> None:
        """Reject a gate that would never be asked.

        Raises:
            TypeError: it has no stage.
        """
        if not self.stages:
            raise TypeError(f"the gate {self.name!r} has no stage")

    def judgement(self, question: Question, known: KnownT) -> Judgement | None:
        """Return its judgement, with its name."""
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
    """The judgement of one gate: open, or held with a human-readable reason."""

    gate: str
    is_open: bool
    reason: str
    fault: AgentError | None = None
    """Why the gate could not be asked; the run ends with this error and not with the gate."""
    opens_at: datetime | None = None
    plan: RebootPlan | None = None
    overdue: AgentError | None = None

    @property
    def name(self) -> str:
        """What holds: the gate, or the error because of which it could not be asked."""
        return self.gate if self.fault is None else self.fault.kind


def plan_after(gate: Gate[Any], held: Judgement, plan: RebootPlan) -> RebootPlan:
    """Return what to remember of a reboot that `held` postpones and `gate` has judged."""
    remembered = held.plan or plan
    return remembered if gate.keeps_announcement else replace(remembered, announced_for=None)


async def no_facts(_: Facts) -> None:
    """Return no facts, for a gate that needs none beyond the question."""
