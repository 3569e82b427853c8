"""What a reboot waits for, and what is remembered while it waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.store_path import StorePath
    from agent.domain.window import Schedule

_WORD_HOLDS: Final = timedelta(hours=1)
"""How late an announced reboot may be before it is announced again."""


@dataclass(frozen=True, slots=True)
class RebootPolicy:
    """When the host may reboot."""

    schedule: Schedule
    inhibitor_limit: timedelta
    """How long an inhibitor is respected."""
    user_notice: timedelta
    """How long before the reboot logged-in users are warned."""
    tries_boot: bool
    """Whether the boot default stays on the confirmed system until the new one is confirmed."""


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """A program or user that inhibits a shutdown, according to logind."""

    who: str
    why: str


@dataclass(frozen=True, slots=True)
class RebootPlan:
    """What is remembered of a waiting reboot, for the system that it is to start."""

    toplevel: StorePath
    inhibited_since: datetime | None = None
    announced_for: datetime | None = None
    """The time that was announced to the users who were logged in."""

    def is_due(self, now: datetime) -> bool:
        """Whether it was announced for now, so that users who stay do not hold it again.

        An announcement that is long past does not count.
        """
        at = self.announced_for
        return at is not None and at <= now < at + _WORD_HOLDS


@dataclass(frozen=True, slots=True)
class RebootConditions:
    """What is in the way of a reboot; None means unknown, and is treated as an obstacle."""

    plan: RebootPlan
    inhibitors: tuple[Inhibitor, ...] | None
    people: tuple[str, ...] | None
    """The names of the logged-in users."""

    @property
    def is_inhibited(self) -> bool:
        """Whether a shutdown is inhibited, or may be."""
        return self.inhibitors != ()

    def as_of(self, now: datetime, policy: RebootPolicy) -> RebootConditions:
        """Return the conditions with a plan that is valid from `now` on.

        Times in the future, from before the clock was set back, are dropped. The time for which a
        reboot has been inhibited is kept across windows, until nothing inhibits it any more.
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
