"""The marks: links that record which systems the agent depends on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.domain.store_path import StorePath

UNREADABLE_HINT: Final = "remove it: the next run finds out where the host is"


class Mark(StrEnum):
    """The names of the marks, each a link to a store path and a garbage collector root."""

    CONFIRMED = "confirmed"
    """The system that has proved healthy as the profile's: the target of a roll-back."""
    PENDING = "pending"
    """Being activated, or activated and not yet confirmed. Renaming it decides which it becomes."""
    STAGED = "staged"
    """In the profile for the next boot."""
    TESTED = "tested"
    """Activated by `test`, its checks have passed; the profile is another system."""
    ROLLING_BACK = "rolling-back"
    """The failed system of a roll-back that is not finished yet."""
    REBOOTING_BACK = "rebooting-back"
    """The same, once the reboot has been requested, which happens only once."""
    ROLLED_BACK = "rolled-back"
    """The failed system of a finished roll-back, until the history has it."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the marks point; None for one that is missing, or that is `unreadable`."""

    confirmed: StorePath | None = None
    pending: StorePath | None = None
    staged: StorePath | None = None
    tested: StorePath | None = None
    rolling_back: StorePath | None = None
    rebooting_back: StorePath | None = None
    rolled_back: StorePath | None = None
    unreadable: tuple[tuple[Mark, str], ...] = ()
    """Marks that are not links to a store path, each with what is there instead."""

    def may_be(self, *marks: Mark) -> bool:
        """Whether one of `marks` is unreadable, so that it is unknown where it points."""
        return any(mark in marks for mark, _ in self.unreadable)

    @property
    def left(self) -> StorePath | None:
        """The failed system of an unfinished roll-back."""
        return self.rolling_back or self.rebooting_back

    @property
    def known(self) -> frozenset[StorePath]:
        """The systems that the agent itself may have left running or in the profile."""
        found = (
            *(self.confirmed, self.pending, self.staged, self.tested),
            *(self.rolling_back, self.rebooting_back),
        )
        return frozenset(path for path in found if path is not None)
