"""What a type of check has to bring: a table of the settings, and a probe."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from agent.fields.section import Section

if TYPE_CHECKING:
    from agent.domain.check import Check, CheckResult

DEFAULT_TIMEOUT: Final = timedelta(seconds=5)

SomeCheck = TypeVar("SomeCheck")


class CheckSection(Section):
    """A table of the settings that describes a check; each has a `name` and a `timeout`."""

    if TYPE_CHECKING:
        name: str
        timeout: timedelta

    @abstractmethod
    def check(self, name: str) -> Check:
        """Return the check that the table describes, under a name."""


class Room(Enum):
    """What a probe needs, of which there is not without number; the value is how many at once."""

    SOCKETS = 512
    """Pings and connections, however many descriptors there are: neighbours that have yet to be
    found are not without number either (1,024: net.ipv4.neigh.default.gc_thresh3)."""
    HTTP = 100
    """HTTP checks; with many more, connections time out in their own crowd."""
    LOOKUPS = 32
    """DNS checks; each takes one of the threads that resolve names for all."""
    PROGRAMS = 16
    """Programs of checks."""


class Probe(Generic[SomeCheck]):
    """Runs the checks of one type, in one event loop."""

    room: ClassVar[Room]

    def prepare(self, check: SomeCheck) -> None:
        """Make what a check needs, before its time begins; never raises."""

    @abstractmethod
    async def probe(self, check: SomeCheck) -> CheckResult:
        """Return what came of the check, within its timeout; never raises."""

    async def close(self) -> None:
        """Let go of what was made."""
