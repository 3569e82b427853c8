"""Holds where windows rely on a clock that is not known to be synchronised.

It is asked before the windows, of which a wrong clock says nothing, and never opens by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.domain.errors import HostError, Kind
from agent.domain.gate import ALWAYS, Answer, Gate, Held, Open, Question

if TYPE_CHECKING:
    from agent.domain.facts import ClockState

_LOOK_AGAIN: Final = timedelta(minutes=10)
"""After a boot it is soon synchronised."""
_HOUR: Final = timedelta(hours=1)


def judge(question: Question, clock: ClockState) -> Answer:
    """Hold until it is; after `clock.patience` the run fails."""
    if not question.schedule.windows:
        return Open("nothing relies on it")
    if clock.is_synchronised:
        return Open("synchronised")
    what = "is not synchronised" if clock.is_synchronised is False else "may not be synchronised"
    hours = clock.unknown_for // _HOUR
    since = f", for {hours} hours by now" if hours else ""
    return Held(
        f"the clock {what}, and {question.windows} rely on it{since}",
        opens_at=question.now + _LOOK_AGAIN,
        overdue=_overdue(hours) if clock.unknown_for >= question.policy.clock_patience else None,
    )


def _overdue(hours: int) -> HostError:
    return HostError(
        Kind.CLOCK_UNSYNCHRONISED,
        f"the clock has not been synchronised for {hours} hours in which this host was up, and"
        " windows rely on it: nothing is upgraded or rebooted",
        hint="see `timedatectl` or `chronyc tracking`: systemd-timesyncd or chronyd has to reach a"
        " time server; without windows the clock does not matter, and `agent upgrade --ignore-gate"
        " clock --reason TEXT` passes it once",
    )


GATE: Final = Gate(
    name="clock",
    order=80,
    stages=ALWAYS,
    holds_when="windows rely on a clock that is not known to be synchronised; after"
    " `clock.patience` the run fails instead",
    facts=lambda facts: facts.clock(),
    judge=judge,
    postpones=True,
    keeps_announcement=True,
)
