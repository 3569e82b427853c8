"""The marks: links that say which systems the agent stands on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.domain.store_path import StorePath

UNREADABLE_HINT: Final = "remove it: the next run finds out where the host is"


class Mark(StrEnum):
    """The names of the marks, each a link to a store path and a root of the garbage collector."""

    CONFIRMED = "confirmed"
    """The profile's system whose checks have passed here: where a roll-back goes."""
    PENDING = "pending"
    """Being activated, or activated and not yet confirmed. Whoever renames it has decided."""
    STAGED = "staged"
    """In the profile for the next boot."""
    TESTED = "tested"
    """Running by `test`, its checks have passed; the profile is another one."""
    ROLLING_BACK = "rolling-back"
    """What is being rolled back from: until it is gone the roll-back has to be finished."""
    REBOOTING_BACK = "rebooting-back"
    """What is being rolled back from, once the reboot for that has been asked for: only once."""
    ROLLED_BACK = "rolled-back"
    """What was rolled back from, until that stands in the history."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the marks point; None for one that is not there, or that is `unreadable`."""

    confirmed: StorePath | None = None
    pending: StorePath | None = None
    staged: StorePath | None = None
    tested: StorePath | None = None
    rolling_back: StorePath | None = None
    rebooting_back: StorePath | None = None
    rolled_back: StorePath | None = None
    unreadable: tuple[tuple[Mark, str], ...] = ()
    """What stands in a mark's place and is no link to a store path, and what it is instead."""

    def may_be(self, *marks: Mark) -> bool:
        """Whether one of `marks` is there, and nobody knows where it points."""
        return any(mark in marks for mark, _ in self.unreadable)

    @property
    def left(self) -> StorePath | None:
        """What is being rolled back from, in either way."""
        return self.rolling_back or self.rebooting_back

    @property
    def known(self) -> frozenset[StorePath]:
        """The systems that the agent itself may have left running or in the profile."""
        found = (
            *(self.confirmed, self.pending, self.staged, self.tested),
            *(self.rolling_back, self.rebooting_back),
        )
        return frozenset(path for path in found if path is not None)
