"""Health checks: what is asked, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class StatusRange:
    """HTTP status codes from `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, status: int) -> bool:
        return self.first <= status <= self.last

    @override
    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class IcmpCheck:
    """Echo requests to one host: passes when `required_replies` of `count` are answered in time.

    `timeout` bounds the whole check, the name's resolution included.
    """

    name: str
    host: str
    timeout: timedelta
    count: int = 3
    required_replies: int = 1
    is_wanted: bool = False

    type = "icmp"

    @property
    def target(self) -> str:
        """What is probed, human-readable."""
        return self.host


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """One HTTP request: passes when the answer is as described, in time.

    `body` must occur in the answer's first MiB, `body_regex` (Python's `re`) must match somewhere
    in it. `max_latency` bounds the time to the end of the headers. `timeout` bounds everything.
    """

    name: str
    url: str
    timeout: timedelta
    method: str = "GET"
    status: tuple[StatusRange, ...] = (StatusRange(200, 399),)
    body: str | None = None
    body_regex: str | None = None
    max_latency: timedelta | None = None
    ca_file: str | None = None
    is_wanted: bool = False

    type = "http"

    @property
    def target(self) -> str:
        """What is probed, human-readable."""
        return self.url


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """One unit of systemd: passes when it is active, as `systemctl is-active` has it.

    That includes a unit that reloads, and a oneshot that has ended well and remains after exit;
    one that is still starting does not pass. A oneshot that a timer starts passes while it rests or
    runs, unless its last run failed.
    """

    name: str
    unit: str
    timeout: timedelta
    is_wanted: bool = False

    type = "unit"

    @property
    def target(self) -> str:
        """What is probed, human-readable."""
        return self.unit


class Check(Protocol):
    """What is asked, by one of the types in `agent/checks/`.

    Those above are here because the agent itself asks them, too.
    """

    @property
    def name(self) -> str:
        """Its name in reports."""

    @property
    def type(self) -> str:
        """The name of its type."""

    @property
    def target(self) -> str:
        """What is probed, human-readable."""

    @property
    def timeout(self) -> timedelta:
        """The time limit of the whole check."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is merely wanted: its failure holds nothing."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of one check; `reason` is empty when it passed.

    `is_conclusive` is false where it could not be run at all (a missing program or permission, no
    descriptor left, a fault of the probe), which says nothing of what it is about. One that
    `is_cut_short` would have been, had all checks together had more time.
    """

    check: Check
    is_well: bool
    reason: str = ""
    latency: timedelta | None = None
    is_conclusive: bool = True
    is_cut_short: bool = False

    @property
    def is_blocking(self) -> bool:
        """Whether it keeps the host from upgrading: a failed check that is not merely wanted."""
        return not self.is_well and not self.check.is_wanted
