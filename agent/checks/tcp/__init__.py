"""The TCP check: does a port accept connections?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StrictBool
from typing_extensions import override

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.fields.section import HostName
from agent.fields.values import Duration

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """One TCP connection: passes if it is accepted in time; nothing is sent.

    `timeout` limits the whole check, including name resolution.
    """

    name: str
    host: str
    port: int
    timeout: timedelta
    is_wanted: bool = False

    type = "tcp"

    @property
    def target(self) -> str:
        """What is probed, human-readable."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class TcpCheckSection(CheckSection):
    """Does a port accept connections? Nothing is sent."""

    type: Literal["tcp"]
    """`tcp`."""
    host: HostName
    """Host name or address."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)]
    """Port number."""
    name: str = ""
    """Name in reports; by default `host:port`."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check, including name resolution."""
    wanted: StrictBool = False
    """Whether it is only wanted: its failure is reported but has no effect."""

    @override
    def check(self, name: str) -> TcpCheck:
        return TcpCheck(name, self.host, self.port, self.timeout, self.wanted)


SECTION: Final = TcpCheckSection
ORDER: Final = 30
