"""The port to the lock that lets one agent act at a time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class WaitReason(StrEnum):
    """What a confirmation waits for."""

    TURN = "turn"
    """Another agent, or an activation, is running."""
    LATER = "later"
    """It could not judge the system, and looks again after a while."""


class Lock(Protocol):
    """One agent at a time."""

    def hold(self) -> AbstractContextManager[None]:
        """Hold the lock; LockedError (LOCKED) says who has it, HostError why it can't be taken.

        To let go of it never raises.
        """

    def waiting(self, wait: WaitReason) -> AbstractContextManager[None]:
        """Let others see that a confirmation waits; never raises."""

    def is_waiting(self, wait: WaitReason) -> bool | None:
        """Return whether a confirmation waits right now; None if that is unknown."""
