"""What a run would do now, and why: everything is asked, nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.application.act.recover import next_step, require_readable
from agent.application.facts.ask_gates import find_postponing
from agent.application.facts.stage_facts import StageFacts
from agent.application.history import run_fields
from agent.application.ports import Outlook, Pending
from agent.application.report import candidate_fields, error_fields, held_fields, reason_fields
from agent.application.run import begin
from agent.application.watch.choose import make_choice
from agent.application.watch.observe import find_newest
from agent.domain.candidate import Candidate
from agent.domain.choose import AwaitReboot, Decision, HeldCandidate, Hold, Reboot, held_builds
from agent.domain.errors import AgentError
from agent.domain.gate import Judgement, Stage
from agent.domain.marks import Marks
from agent.domain.recovery import Step

if TYPE_CHECKING:
    from agent.application.ports import Ports, RunRecord
    from agent.application.run import RunSettings
    from agent.domain.policy import Policy
    from agent.domain.systems import Systems


@dataclass
class Status:
    """What is known; a part that could not be asked is missing, and `error` says why."""

    systems: Systems | None = None
    marks: Marks = field(default_factory=Marks)
    last_run: RunRecord | None = None
    recovery: Step = Step.NOTHING
    """What an earlier run has left to be done first."""
    candidate: Candidate | None = None
    decision: Decision | None = None
    gates: list[Judgement] = field(default_factory=list)
    loader_fallback: str | None = None
    """The boot loader, if it can start a new system just once; None: it cannot."""
    needs_reboot: bool = False
    postponed: Judgement | None = None
    """What postpones the reboot that is needed."""
    outlook: Outlook = field(default_factory=Outlook)
    pending: Pending = field(default_factory=Pending)
    error: AgentError | None = None

    @property
    def held(self) -> tuple[HeldCandidate, ...]:
        """The builds that are held: all that may be taken, or those newer than the candidate."""
        return held_builds(self.decision)

    @property
    def verdict(self) -> str | None:
        """The name of what a run would do, gates included."""
        if self.decision is None:
            return None
        if isinstance(self.decision, Reboot) and self.postponed is not None:
            return AwaitReboot.name
        return self.decision.name

    def fields(self, *, is_booted: bool = True) -> dict[str, object]:
        """Return the status for a program; of a home nothing `is_booted`."""
        fields: dict[str, object] = {
            "running": self.systems.running if self.systems else None,
            "booted": self.systems.booted if self.systems else None,
            "profile": self.systems.profile if self.systems else None,
            "confirmed": self.marks.confirmed,
            "pending": self.marks.pending,
            "staged": self.marks.staged,
            "recovery": self.recovery,
            "candidate": candidate_fields(self.candidate) if self.candidate else None,
            "decision": self.verdict,
            "reason": getattr(self.decision, "reason", None),
            "gates": [
                {"gate": judgement.name, "open": judgement.is_open, "reason": judgement.reason}
                for judgement in self.gates
            ],
            "held": held_fields(self.held),
            "loader_fallback": self.loader_fallback,
            "reboot": self._reboot_fields(),
            "newer_build_failed": self.outlook.newer_build_failed,
            "newer_build": _newer_build_fields(self.pending),
            "build_waiting_for_eval": self.pending.waiting,
            "project_disabled": self.pending.is_project_disabled,
            "job_gone_since_eval": self.outlook.gone_since_eval,
            "jobset_disabled": self.outlook.is_jobset_disabled,
            "evaluation_error": self.outlook.evaluation_error,
            "last_run": run_fields(self.last_run) if self.last_run else None,
        }
        if not is_booted:
            for name in ("booted", "loader_fallback", "reboot"):
                del fields[name]
        if isinstance(self.decision, Hold):
            fields["reasons"] = reason_fields(self.decision.reasons)
        if self.error is not None:
            fields["error"] = {
                name.removeprefix("error_"): value
                for name, value in error_fields(self.error).items()
            }
        return fields

    def _reboot_fields(self) -> dict[str, object] | None:
        held = self.postponed
        if not self.needs_reboot:
            return None
        if held is None:
            return {"allowed": True}
        return {
            "allowed": False,
            "obstacle": held.gate,
            "reason": held.reason,
            "until": held.opens_at and held.opens_at.isoformat(),
        }


def _newer_build_fields(pending: Pending) -> dict[str, object] | None:
    if pending.newest is None:
        return None
    return {"build_id": pending.newest.id, "state": pending.newest.state}


async def take_status(ports: Ports, policy: Policy, settings: RunSettings) -> Status:
    """Return the status; a fault ends the questions, and is in it."""
    status = Status()
    run = begin(ports, policy, settings)
    try:
        status.systems = ports.host.systems()
        status.marks = ports.marks.read()
        require_readable(status.marks)
        status.last_run = next(iter(ports.journal.runs(1)), None)
        status.recovery = await next_step(run)
        if policy.reboot.tries_boot and status.systems.running is not None:
            status.loader_fallback = ports.loader.fallback(status.systems.running)
        found = await find_newest(ports.hydra, ports.host, policy, settings.store_dir)
        if isinstance(found.newest, Candidate):
            status.candidate = found.newest
        status.outlook = await ports.hydra.outlook(policy.job, found.build)
        if found.build is not None:
            status.pending = await ports.hydra.pending(policy.job, found.build, policy.select)
        choice = await make_choice(run, found.newest, every=True)
        status.decision, status.candidate = choice.decision, choice.candidate
        status.gates = choice.gates
        if choice.candidate is None and isinstance(choice.decision, Hold):
            status.error = choice.decision.fault
        waiting = choice.seen.systems.profile
        if isinstance(choice.decision, Reboot | AwaitReboot) and waiting:
            status.needs_reboot = True
            facts = StageFacts(run, Stage.BEFORE_REBOOT, waiting, choice.candidate, keeps=False)
            status.postponed = await find_postponing(facts)
    except AgentError as error:
        status.error = error
    return status
