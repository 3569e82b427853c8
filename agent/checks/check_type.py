"""What a check type must provide: a table of the settings, and a probe."""

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
    """A settings table that describes a check; each has a `name` and a `timeout`."""

    if TYPE_CHECKING:
        name: str
        timeout: timedelta

    @abstractmethod
    def check(self, name: str) -> Check:
        """Return the check that the table describes, with a name."""


class Room(Enum):
    """A limited resource that a probe needs; the value is how many may be used at once."""

    SOCKETS = 512
    """Pings and connections, whatever the limit of file descriptors: the number of unresolved
    neighbours is limited, too (1,024: net.ipv4.neigh.default.gc_thresh3)."""
    HTTP = 100
    """HTTP checks; many more at once would delay each other until they time out."""
    LOOKUPS = 32
    """DNS checks; each uses one of the threads that resolve names for all checks."""
    PROGRAMS = 16
    """Programs that checks run."""


class Probe(Generic[SomeCheck]):
    """Runs the checks of one type, in one event loop."""

    room: ClassVar[Room]

    def prepare(self, check: SomeCheck) -> None:
        """Prepare a check before its timeout starts; never raises."""

    @abstractmethod
    async def probe(self, check: SomeCheck) -> CheckResult:
        """Return the result of the check, within its timeout; never raises."""

    async def close(self) -> None:
        """Release what was prepared."""
