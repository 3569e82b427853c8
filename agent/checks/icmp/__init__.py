"""The ICMP check: does a host answer?"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StrictBool, ValidationInfo, field_validator
from typing_extensions import override

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.domain.check import IcmpCheck
from agent.fields.section import HostName
from agent.fields.values import Duration


class IcmpCheckSection(CheckSection):
    """Does a host answer echo requests? IPv4 or IPv6."""

    type: Literal["icmp"]
    """`icmp`."""
    host: HostName
    """Host name or address."""
    name: str = ""
    """Name in reports; by default the host."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check, including name resolution."""
    count: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """Maximum number of echo requests."""
    required_replies: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """How many of them must be answered."""
    wanted: StrictBool = False
    """Whether it is only wanted: its failure is reported but has no effect."""

    @field_validator("required_replies")
    @classmethod
    def _can_be_answered(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("count", value):
            raise ValueError("required_replies is more than count")
        return value

    @override
    def check(self, name: str) -> IcmpCheck:
        return IcmpCheck(
            name=name,
            host=self.host,
            timeout=self.timeout,
            count=self.count,
            required_replies=self.required_replies,
            is_wanted=self.wanted,
        )


SECTION: Final = IcmpCheckSection
ORDER: Final = 10
