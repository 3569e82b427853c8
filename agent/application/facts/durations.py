"""How long what holds an upgrade has been so: other people's systems, a clock without time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.domain.errors import HydraError
from agent.domain.facts import ClockState
from agent.domain.sighting import look

if TYPE_CHECKING:
    from agent.application.ports import FactPorts
    from agent.domain.candidate import Candidate
    from agent.domain.errors import AgentError
    from agent.domain.facts import Foreign
    from agent.domain.policy import Policy

_CLOCK: Final = "clock"
_HYDRA: Final = "hydra"
_CACHE: Final = "cache"


async def ask_clock(ports: FactPorts, *, keeps: bool) -> ClockState:
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


def lacked_time(ports: FactPorts) -> bool:
    """Whether the clock was without time when it was looked at last."""
    return ports.sightings.last(_CLOCK) is not None


async def since_first_seen(
    ports: FactPorts, name: str, foreign: Foreign, *, keeps: bool
) -> Foreign:
    """Return `foreign` with the instant since which its *path* has been there.

    The links say when they were made, and `/run/current-system` is made anew at each boot: that
    counts only for what was never seen before. With `keeps` it is remembered.
    """
    now = ports.clock.now()
    is_right = await ports.systemd.is_clock_synchronised() is True
    moment = ports.sightings.moment(now, is_clock_right=is_right)
    sighting = look(ports.sightings.last(name), _about(foreign), moment, now - foreign.since)
    if keeps:
        ports.sightings.keep(name, sighting)
    return replace(foreign, since=now - sighting.age)


def forget_silence(ports: FactPorts) -> None:
    """Note that Hydra has answered."""
    ports.sightings.forget(_HYDRA)


def forget_all_silence(ports: FactPorts) -> None:
    """Note that all that a run needs could be had."""
    forget_silence(ports)
    ports.sightings.forget(_CACHE)


async def is_overdue(
    ports: FactPorts, policy: Policy, error: AgentError, candidate: Candidate | None
) -> bool:
    """Return whether what a run could not reach has been out of reach for `hydra.patience`.

    Of Hydra that counts from its last answer, the idle path's included; of a cache from the first
    run that could not fetch this candidate.
    """
    now = ports.clock.now()
    is_right = await ports.systemd.is_clock_synchronised() is True
    moment = ports.sightings.moment(now, is_clock_right=is_right)
    if isinstance(error, HydraError):
        name, about = _HYDRA, "unreachable"
        contact = ports.journal.last_contact()
        if contact is not None and contact > now:
            contact = None  # by a clock that was set back since
    else:
        name, about, contact = _CACHE, candidate.toplevel if candidate else "unknown", None
    last = ports.sightings.last(name)
    if last is not None and contact is not None and contact > last.at.now:
        last = None  # it has answered an idle run meanwhile
    sighting = look(last, about, moment, now - (contact or now))
    ports.sightings.keep(name, sighting)
    if sighting.age < policy.hydra_patience:
        return False
    ports.sink.emit(
        events.SILENCE_OVERDUE, about=name, seconds=sighting.age.total_seconds(), kind=error.kind
    )
    return True


def forget_others(ports: FactPorts, name: str, foreign: Foreign | None) -> None:
    """Note that what was seen last is there no more, unless it is `foreign`."""
    last = ports.sightings.last(name)
    if last is not None and (foreign is None or last.about != _about(foreign)):
        ports.sightings.forget(name)


def _about(foreign: Foreign) -> str:
    return f"{foreign.what} {foreign.path or 'unknown'}"
