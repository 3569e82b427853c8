"""What a run has to say for itself at its end."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.domain.errors import AgentError, ExitCode
from agent.domain.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent.application.ports import Clock, Fetched
    from agent.domain.candidate import Candidate
    from agent.domain.choose import HeldCandidate
    from agent.domain.gate import Judgement
    from agent.domain.policy import Action
    from agent.domain.systems import Systems

_EXIT_CODES = {
    Outcome.HELD: ExitCode.HELD,
    Outcome.PENDING: ExitCode.HELD,
    Outcome.FAILED: ExitCode.FAILED,
}


@dataclass(frozen=True)
class Result:
    """What came of a run, or of the step of one that decides how it ends."""

    outcome: Outcome
    reasons: tuple[tuple[str, str], ...] = ()
    error: AgentError | None = None
    is_recorded_elsewhere: bool = False
    """Another process writes the row of what this run has begun."""


@dataclass(frozen=True)
class Report:
    """The end of a run; instants are kept by the journal, durations are seconds by step."""

    decision: str | None = None
    outcome: Outcome | None = None
    reasons: tuple[tuple[str, str], ...] = ()
    action: Action | None = None
    candidate: Candidate | None = None
    systems: Systems | None = None
    held: tuple[HeldCandidate, ...] = ()
    """The builds that are held: those newer than the one that is taken, or all."""
    gates: Sequence[Judgement] = ()
    durations: Mapping[str, float] = field(default_factory=dict)
    fetched: Fetched | None = None
    error: AgentError | None = None
    is_overdue: bool = False
    """What the fault says is out of reach has been so for too long: a failure of its own."""
    is_recorded_elsewhere: bool = False
    """Another process has written the row of what this run has begun."""

    def of(self, result: Result) -> Report:
        """Return the report of a run that had this result."""
        return replace(self, **vars(result))

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that the run's outcome asks for."""
        if self.is_overdue:
            return ExitCode.FAILED
        if self.error is not None:
            return self.error.exit_code
        return _EXIT_CODES.get(self.outcome or Outcome.FAILED, ExitCode.DONE)

    def fields(self) -> dict[str, object]:
        """Return the fields of the `run.finished` event."""
        fields: dict[str, object] = {
            "decision": self.decision,
            "outcome": self.outcome,
            "reasons": reason_fields(self.reasons),
            "exit_code": int(self.exit_code),
            "durations": self.durations,
            "bytes_fetched": self.fetched.size if self.fetched else 0,
            "paths_fetched": self.fetched.paths if self.fetched else 0,
            "action": self.action,
        }
        if self.systems is not None:
            fields |= {
                "running": self.systems.running,
                "booted": self.systems.booted,
                "profile": self.systems.profile,
            }
        if self.candidate is not None:
            fields |= candidate_fields(self.candidate)
        if self.held:
            fields["held"] = held_fields(self.held)
        if self.gates:
            fields["gates"] = [
                {"gate": judgement.gate, "open": judgement.is_open, "reason": judgement.reason}
                for judgement in self.gates
            ]
        if self.error is not None:
            fields |= error_fields(self.error)
        return fields


class Summary:
    """What the report of a run says beside its result: its steps write it, and never read it."""

    def __init__(self) -> None:
        self._known = Report()
        self._seconds: dict[str, float] = {}

    def add(self, **known: Any) -> None:
        """Add fields of the report, in place of what they were before."""
        self._known = replace(self._known, **known)

    @contextmanager
    def step(self, name: str, clock: Clock) -> Iterator[None]:
        """Add the time of a `with` block to a step's; one that is done twice takes both times."""
        began = clock.elapsed()
        try:
            yield
        finally:
            spent = self._seconds.get(name, 0.0) + clock.elapsed() - began
            self._seconds[name] = round(spent, 3)

    def report(self) -> Report:
        """Return the report of a run that ends here."""
        return replace(self._known, durations=dict(self._seconds))


def candidate_fields(candidate: Candidate) -> dict[str, object]:
    """Return the fields that describe a candidate in events."""
    return {
        "build_id": candidate.build_id,
        "eval_id": candidate.eval_id,
        "flake": candidate.flake,
        "toplevel": candidate.toplevel,
    }


def held_fields(held: Iterable[HeldCandidate]) -> list[dict[str, object]]:
    """Return the fields that describe candidates that are held."""
    return [
        {
            "build_id": one.candidate.build_id,
            "toplevel": one.candidate.toplevel,
            "reasons": reason_fields(one.reasons),
            "opens_at": one.opens_at and one.opens_at.isoformat(),
        }
        for one in held
    ]


def reason_fields(reasons: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the fields that describe reasons in events."""
    return [{"name": name, "reason": reason} for name, reason in reasons]


def error_fields(error: AgentError) -> dict[str, object]:
    """Return the fields that describe a fault in events."""
    fields: dict[str, object] = {"error_kind": error.kind, "error_message": error.message}
    if error.hint:
        fields["error_hint"] = error.hint
    return fields
