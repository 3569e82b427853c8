"""The facts that gates are judged by, each of them determined only if a gate needs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent.domain.check import CheckResult
    from agent.domain.path_record import Standing, TakenBuild
    from agent.domain.pause import Pause
    from agent.domain.reboot import RebootConditions
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Free bytes for unprivileged programs; `boot` is None without a boot partition."""

    store: int
    boot: int | None


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What remains to be substituted of a candidate: paths, download size and size on disk."""

    paths: int
    download_bytes: int
    unpacked_bytes: int


NOTHING_TO_FETCH: Final = FetchPlan(paths=0, download_bytes=0, unpacked_bytes=0)
"""Of what is in the store already."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A system that the agent has not activated: which, and since when, if known."""

    what: str
    path: StorePath | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Booted:
    """The booted system; `unexpected` if it is not the profile's."""

    unexpected: Foreign | None


@dataclass(frozen=True, slots=True)
class SystemBelow:
    """The host's own system, for a home; None: it is unknown whether it is being upgraded."""

    is_upgrading: bool | None


@dataclass(frozen=True, slots=True)
class ClockState:
    """Whether the clock is synchronised, None if unknown, and for how long it has not been."""

    is_synchronised: bool | None
    unknown_for: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class AgentUnits:
    """Whether the running system and the candidate have the agent's confirm unit."""

    has_it: bool
    would_have_it: bool


@dataclass(frozen=True, slots=True)
class Specialisations:
    """The specialisation that is to run, None for none, and those that the candidate has."""

    wanted: str | None
    found: Sequence[str]


class Facts(Protocol):
    """The facts at one stage of one run; a fact that several gates need is determined once.

    Each method raises AgentError if the fact cannot be determined.
    """

    async def pause(self) -> Pause | None:
        """Return the pause in force."""

    async def system_below(self) -> SystemBelow | None:
        """Return what is known of the host's own system, for a home; None for a host."""

    async def booted(self) -> Booted | None:
        """Return what is known of the booted system; None if nothing is ever booted."""

    async def foreign(self) -> Foreign | None:
        """Return the system that the agent has not activated, if there is one."""

    async def standings(self) -> Sequence[Standing]:
        """Return the record of the path, and of the candidate's if that is another path."""

    async def newest_taken(self) -> TakenBuild | None:
        """Return the newest build of the candidate's job that this host has taken."""

    async def clock(self) -> ClockState:
        """Return the state of the clock, unknown where the stage has no windows."""

    async def free_space(self) -> FreeSpace:
        """Return the free space in the store and on the boot partition."""

    async def fetch_plan(self) -> FetchPlan:
        """Return what remains to be fetched of the candidate."""

    async def health(self) -> Sequence[CheckResult]:
        """Return the results of the health checks."""

    async def agent_units(self) -> AgentUnits:
        """Return which systems have the agent's confirm unit."""

    async def specialisations(self) -> Specialisations:
        """Return which specialisation is to run, and which ones the candidate has."""

    async def reboot_conditions(self) -> RebootConditions:
        """Return what a reboot would meet."""
