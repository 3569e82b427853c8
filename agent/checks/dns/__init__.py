"""The DNS check: does a name resolve?"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, StrictBool
from typing_extensions import override

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.fields.section import HostName
from agent.fields.values import Duration

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """One name for the system's resolver: passes if it has an address, in time.

    If `addresses` are given, at least one of the answers must be among them: a name may have
    more addresses than those that matter, and a resolver may return only some of them.
    """

    name: str
    host: str
    timeout: timedelta
    addresses: tuple[str, ...] = ()
    is_wanted: bool = False

    type = "dns"

    @property
    def target(self) -> str:
        """What is probed, human-readable."""
        return self.host


def _name(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return value
    raise ValueError("give a name to resolve, not an address")


def _address(value: str) -> str:
    try:
        if "%" not in value:
            return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    raise ValueError(f"{value[:100]!r} is not an IP address")


class DnsCheckSection(CheckSection):
    """Does a name resolve? The system's own resolver is used, as by any other program."""

    type: Literal["dns"]
    """`dns`."""
    host: Annotated[HostName, AfterValidator(_name)]
    """The name to resolve."""
    addresses: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    """Addresses of which at least one must be among the answers; empty: any answer passes."""
    name: str = ""
    """Name in reports; by default the name to resolve."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check."""
    wanted: StrictBool = False
    """Whether it is only wanted: its failure is reported but has no effect."""

    @override
    def check(self, name: str) -> DnsCheck:
        return DnsCheck(name, self.host, self.timeout, self.addresses, self.wanted)


SECTION: Final = DnsCheckSection
ORDER: Final = 40
