"""The record of a store path on this host: denied, suspect, or neither."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.domain.candidate import OF_ONE_BUILD
from agent.domain.errors import Kind

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.store_path import StorePath

_FIRST_WAIT: Final = timedelta(minutes=10)
_LONGEST_WAIT: Final = timedelta(hours=24)
_MOST_DOUBLINGS: Final = 10


class Fault(StrEnum):
    """Where the cause of a failed upgrade lies."""

    BROKEN = "broken"
    """In the system itself: it is denied."""
    SUSPECT = "suspect"
    """Perhaps outside of it: it is tried again, each time after a longer wait."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A store path that must not be activated; instants are aware, in UTC."""

    toplevel: StorePath
    reason: str
    denied_at: datetime
    by: str
    """`agent`, or the name of the user who denied it."""
    build_id: int | None = None
    until: datetime | None = None
    """None: until an administrator lifts the denial."""


@dataclass(frozen=True, slots=True)
class TakenBuild:
    """A build that this host has taken; later builds of its job are compared with it."""

    build_id: int
    toplevel: str | None
    taken_at: datetime | None
    """When its run ended; None if unknown."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the history has about one path since it was last confirmed or allowed here."""

    denial: Denial | None = None
    """The denial in force, if there is one."""
    suspicions: int = 0
    """How often it has failed for a reason that may lie outside of it."""
    suspected_at: datetime | None = None
    """When it last failed."""
    roll_backs: int = 0
    """How often the host was rolled back from it, for whatever reason."""


_OF_THE_CANDIDATE: Final = OF_ONE_BUILD | {
    *(Kind.EVALUATION_FAILED, Kind.HOST_MISMATCH, Kind.BUILD_ERROR),
    *(Kind.NIX_NONSENSE, Kind.NIX_TIMEOUT),
}


def fault_of_preparation(kind: Kind, *, is_fetching: bool) -> Fault | None:
    """Return how to hold a path that failed before anything on the host was changed.

    Another attempt costs an evaluation or a download, and would fail in the same way. Errors of the
    network or the host (no route, a slow connection, no space, no nix) do not count against it.
    """
    is_slow = is_fetching and kind is Kind.NIX_TIMEOUT
    return Fault.SUSPECT if kind in _OF_THE_CANDIDATE and not is_slow else None


def suspect_until(standing: Standing) -> datetime | None:
    """Return until when a suspect path is held: 10 minutes, doubled each time, up to a day."""
    if standing.suspected_at is None or standing.suspicions == 0:
        return None
    doublings = min(standing.suspicions - 1, _MOST_DOUBLINGS)
    wait: timedelta = _FIRST_WAIT * 2**doublings
    return standing.suspected_at + min(wait, _LONGEST_WAIT)


def fault_of(cause: Fault | None, standing: Standing) -> Fault | None:
    """Return how to hold a path after a roll-back; after its second roll-back it is denied.

    A `cause` of None means that the run was asked to end, which is not a fault.
    """
    return Fault.BROKEN if cause is not None and standing.roll_backs else cause
