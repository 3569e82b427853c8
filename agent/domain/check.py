"""Health checks and their results."""

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

    `timeout` limits the whole check, including name resolution.
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
    """One HTTP request: passes if the answer is as described, and in time.

    `body` must occur in the answer's first MiB, `body_regex` (Python's `re`) must match somewhere
    in it. `max_latency` limits the time to the end of the headers, `timeout` the whole check.
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
    """One systemd unit: passes if it is active according to `systemctl is-active`.

    That includes a unit that is reloading, and a oneshot that has succeeded and remains after exit;
    a unit that is still starting does not pass. A oneshot that a timer starts passes while it is
    inactive or running, unless its last run failed.
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
    """A check of one of the types in `agent/checks/`.

    The types above are defined here because the agent itself uses them, too.
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
        """Whether it is only *wanted*: its failure does not hold anything."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; `reason` is empty if it passed.

    `is_conclusive` is false if the check could not be run (a missing program or permission, no file
    descriptor left, an error in the probe), which proves nothing about what it checks.
    `is_cut_short` means that it would have been conclusive, had all checks had more time.
    """

    check: Check
    is_well: bool
    reason: str = ""
    latency: timedelta | None = None
    is_conclusive: bool = True
    is_cut_short: bool = False

    @property
    def is_blocking(self) -> bool:
        """Whether it keeps the host from upgrading: it failed, and is not only *wanted*."""
        return not self.is_well and not self.check.is_wanted
