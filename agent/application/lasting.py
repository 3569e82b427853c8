"""How long what holds an upgrade has been so: other people's systems, a clock without time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.domain.errors import HostError, Kind
from agent.domain.sighting import look

if TYPE_CHECKING:
    from agent.application.ports import Ports
    from agent.domain.gates import Foreign, Gate
    from agent.domain.policy import Policy

_CLOCK: Final = "clock"


@dataclass(frozen=True, slots=True)
class ClockState:
    """Whether the clock is synchronised, None where nobody knows; and for how long it is not."""

    is_synchronised: bool | None
    unknown_for: timedelta = timedelta(0)


async def ask_clock(ports: Ports, *, keeps: bool) -> ClockState:
    """Return the state of the clock; with `keeps` it is remembered for the next look."""
    is_synchronised = await ports.systemd.is_clock_synchronised()
    if is_synchronised:
        if keeps:
            ports.sightings.forget(_CLOCK)
        return ClockState(is_synchronised)
    moment = ports.sightings.moment(ports.clock.now(), is_clock_right=False)
    sighting = look(ports.sightings.last(_CLOCK), "unsynchronised", moment)
    if keeps:
        ports.sightings.keep(_CLOCK, sighting)
    return ClockState(is_synchronised, sighting.age)


def refuse_to_wait_for_the_clock(ports: Ports, policy: Policy) -> None:
    """End a run that the clock holds, if it has been without time for too long.

    Raises:
        HostError: CLOCK_UNSYNCHRONISED, after `clock.patience`.
    """
    last = ports.sightings.last(_CLOCK)
    if last is None or last.age < policy.clock_patience:
        return
    ports.sink.emit(events.CLOCK_OVERDUE, seconds=last.age.total_seconds())
    raise HostError(
        Kind.CLOCK_UNSYNCHRONISED,
        f"the clock has not been synchronised for {last.age // timedelta(hours=1)} hours in which"
        " this host was up, and windows rely on it: nothing is upgraded or rebooted",
        hint="see `timedatectl` or `chronyc tracking`: systemd-timesyncd or chronyd has to reach a"
        " time server; without windows the clock does not matter, and `agent upgrade --ignore-gate"
        " clock --reason TEXT` passes it once",
    )


async def since_first_seen(ports: Ports, gate: Gate, foreign: Foreign, *, keeps: bool) -> Foreign:
    """Return `foreign` with the instant since which its *path* has been there.

    The links say when they were made, and `/run/current-system` is made anew at each boot: that
    counts only for what was never seen before. With `keeps` it is remembered.
    """
    now = ports.clock.now()
    is_right = await ports.systemd.is_clock_synchronised() is True
    moment = ports.sightings.moment(now, is_clock_right=is_right)
    about = f"{foreign.what} {foreign.path or 'unknown'}"
    sighting = look(ports.sightings.last(gate), about, moment, now - foreign.since)
    if keeps:
        ports.sightings.keep(gate, sighting)
    return replace(foreign, since=now - sighting.age)
