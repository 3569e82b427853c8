"""What came of a run of the update side, for a program, a person at the keyboard, and others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.application.flake_update import messages
from agent.application.report import error_fields
from agent.domain.errors import AgentError, ExitCode
from agent.domain.flake_update.report import summary

if TYPE_CHECKING:
    from agent.application.flake_update.ports import Proposal
    from agent.application.notification import Message
    from agent.domain.flake_update.comparison import Comparison


class Outcome(StrEnum):
    """How a run ended."""

    LOCK_UNCHANGED = "lock-unchanged"
    HOSTS_UNCHANGED = "hosts-unchanged"
    ALREADY_PROPOSED = "already-proposed"
    ALREADY_PUSHED = "already-pushed"
    DECLINED = "declined"
    DRY_RUN = "dry-run"
    PUSHED = "pushed"
    PROPOSED = "proposed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run, as far as it came."""

    outcome: Outcome
    comparison: Comparison | None = None
    branch: str | None = None
    revision: str | None = None
    proposal: Proposal | None = None
    error: AgentError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """0 as well where nothing was to be done."""
        return self.error.exit_code if self.error else ExitCode.DONE

    def fields(self) -> dict[str, object]:
        """Return the fields of the event `flake_update.finished`."""
        hosts = self.comparison
        return {
            "outcome": self.outcome.value,
            "branch": self.branch,
            "revision": self.revision,
            "url": self.proposal.url if self.proposal else None,
            "changed": [one.host for one in hosts.changed] if hosts else [],
            "broken": [one.host for one in hosts.broken] if hosts else [],
            "exit_code": self.exit_code.value,
            **(error_fields(self.error) if self.error else {}),
        }


def message_of(result: RunResult, look_at: str) -> Message:
    """Return the notification about a run."""
    if result.error is not None:
        return messages.failure(result.error, look_at)
    if result.outcome in (Outcome.PUSHED, Outcome.PROPOSED):
        compared = result.comparison
        broken = [one.host for one in compared.broken] if compared else []
        built = [one.host for one in compared.hosts if one.host not in broken] if compared else []
        return messages.success(result.branch or "", built, result.proposal, broken)
    url = result.proposal.url if result.proposal else None
    why = {
        Outcome.ALREADY_PROPOSED: f"the update is proposed already: {url}",
        Outcome.ALREADY_PUSHED: f"the update is on its branch already: {result.branch}",
        Outcome.DECLINED: f"the update was declined: {url}",
        Outcome.HOSTS_UNCHANGED: "flake.lock has newer inputs, but no host changes",
    }
    return messages.nothing(why.get(result.outcome, "flake.lock is already up to date"), url)


def headline(result: RunResult) -> str:
    """Return one line on what came of a run."""
    text = f"{result.outcome}"
    if result.branch:
        text += f" ({result.branch})"
    if result.proposal:
        text += f": {result.proposal.url}"
    if result.comparison and result.comparison.hosts:
        text += f"; {summary(result.comparison)}"
    return text
