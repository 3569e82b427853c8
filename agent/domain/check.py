"""Health checks: what is asked, and what came of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.domain.secrets import hide_secrets

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
    """Echo requests to one host: well when `required_replies` of `count` are answered in time.

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
        """What is probed, for a person."""
        return self.host


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """One HTTP request: well when the answer is as described, in time.

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
        """What is probed, for a person."""
        return self.url


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """One TCP connection: well when it is accepted in time; nothing is sent.

    `timeout` bounds the whole check, the name's resolution included.
    """

    name: str
    host: str
    port: int
    timeout: timedelta
    is_wanted: bool = False

    type = "tcp"

    @property
    def target(self) -> str:
        """What is probed, for a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """One name, asked of the system's resolver: well when it has an address, in time.

    Where `addresses` are given, at least one of the answers must be among them: a name may have
    more addresses than those that matter, and a resolver may give some of them only.
    """

    name: str
    host: str
    timeout: timedelta
    addresses: tuple[str, ...] = ()
    is_wanted: bool = False

    type = "dns"

    @property
    def target(self) -> str:
        """What is probed, for a person."""
        return self.host


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """One unit of systemd: well when it is active, as `systemctl is-active` has it.

    That includes a unit that reloads, and a oneshot that has ended well and remains after exit;
    one that is still starting is not well. A oneshot that a timer starts is well while it rests or
    runs, unless its last run failed.
    """

    name: str
    unit: str
    timeout: timedelta
    is_wanted: bool = False

    type = "unit"

    @property
    def target(self) -> str:
        """What is probed, for a person."""
        return self.unit


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """One program, without a shell: well when it exits with 0, in time.

    When its time is over, or it has ended, whatever is left of its process group is killed.
    """

    name: str
    command: tuple[str, ...]
    timeout: timedelta
    is_wanted: bool = False

    type = "command"

    @property
    def target(self) -> str:
        """What is run, for a person, without what looks like a credential."""
        shown = hide_secrets(list(self.command))
        assert isinstance(shown, list)  # noqa: S101 - a list stays one
        return shlex.join(shown)


Check = IcmpCheck | HttpCheck | TcpCheck | DnsCheck | UnitCheck | CommandCheck


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of one check; `reason` is empty when it is well.

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
