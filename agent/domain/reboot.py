"""What a reboot waits for, and what is remembered of one that does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.store_path import StorePath
    from agent.domain.window import Schedule

_WORD_HOLDS: Final = timedelta(hours=1)
"""How late an announced reboot may be; then it is announced again."""


@dataclass(frozen=True, slots=True)
class RebootPolicy:
    """When the host may reboot."""

    schedule: Schedule
    inhibitor_limit: timedelta
    """How long an inhibitor is respected."""
    user_notice: timedelta
    """How long people who are logged in are warned before."""
    tries_boot: bool
    """Whether the default entry stays on the confirmed system until the new one is confirmed."""


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """A program or person that blocks a shutdown, by logind's list."""

    who: str
    why: str


@dataclass(frozen=True, slots=True)
class RebootPlan:
    """What is remembered of a reboot that waits, by the system that it is for."""

    toplevel: StorePath
    inhibited_since: datetime | None = None
    announced_for: datetime | None = None
    """When it was announced to happen, to those who were logged in."""

    def is_due(self, now: datetime) -> bool:
        """Whether it was announced for now: it is then neither early nor held again by who stays.

        An announcement that is long over counts for nothing.
        """
        at = self.announced_for
        return at is not None and at <= now < at + _WORD_HOLDS


@dataclass(frozen=True, slots=True)
class RebootConditions:
    """What a reboot would meet; None is unknown: whoever may be there is respected and warned."""

    plan: RebootPlan
    inhibitors: tuple[Inhibitor, ...] | None
    people: tuple[str, ...] | None
    """The names of those who are logged in."""

    @property
    def is_inhibited(self) -> bool:
        """Whether a shutdown is blocked, or may be."""
        return self.inhibitors != ()

    def as_of(self, now: datetime, policy: RebootPolicy) -> RebootConditions:
        """Return them with a plan that counts from `now` on.

        Times of a clock that was set back since keep nothing waiting. How long a reboot was
        inhibited counts on from one window to the next, but not once nobody inhibits it.
        """
        since, at = self.plan.inhibited_since, self.plan.announced_for
        is_over = not self.is_inhibited or (since is not None and since > now)
        is_absurd = at is not None and at > now + policy.user_notice
        plan = replace(
            self.plan,
            inhibited_since=None if is_over else since,
            announced_for=None if is_absurd else at,
        )
        return replace(self, plan=plan)
