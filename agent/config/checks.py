"""The tables of checks, one model a kind, and the checks that they describe."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from agent.config.section import AbsolutePath, HostName, HttpUrl, Section
from agent.config.values import Duration, parse_unit
from agent.domain.check import (
    Check,
    CommandCheck,
    DnsCheck,
    HttpCheck,
    IcmpCheck,
    StatusRange,
    TcpCheck,
    UnitCheck,
)

DEFAULT_TIMEOUT: Final = timedelta(seconds=5)


def _status(value: str) -> str:
    if not re.fullmatch(r"[1-5][0-9]{2}(-[1-5][0-9]{2})?", value):
        raise ValueError(f"{value[:20]!r} is no status code and no range such as '200-299'")
    first, _, last = value.partition("-")
    if last and int(last) < int(first):
        raise ValueError(f"{value} ends before it begins")
    return value


def _statuses(value: object) -> object:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(str(item) if isinstance(item, int) else item for item in items)


_ONE_STATUS: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"},
    ]
}
Statuses = Annotated[
    tuple[Annotated[str, AfterValidator(_status)], ...],
    BeforeValidator(_statuses),
    Field(min_length=1),
    WithJsonSchema(
        {
            "$comment": "status code, range, or list of those",
            "anyOf": [
                *_ONE_STATUS["anyOf"],
                {"type": "array", "items": _ONE_STATUS, "minItems": 1},
            ],
        }
    ),
]


def _name(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return value
    raise ValueError("an address is no question for a resolver: give a name")


def _address(value: str) -> str:
    try:
        if "%" not in value:
            return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    raise ValueError(f"{value[:100]!r} is no IP address")


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    program = value[0]
    if not program.startswith("/") and (not program or "/" in program):
        raise ValueError("the program is an absolute path, or a name to be found on PATH")
    if any("\0" in word for word in value):
        raise ValueError("a command has no NUL")
    return value


class IcmpCheckSection(Section):
    """Is a host there? Echo requests, IPv4 or IPv6."""

    type: Literal["icmp"]
    """`icmp`."""
    host: HostName
    """Host name or address."""
    name: str = ""
    """Name in reports; by default the host."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check, name resolution included."""
    count: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """How many echo requests are sent at most."""
    required_replies: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """How many of them must be answered."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""

    @field_validator("required_replies")
    @classmethod
    def _can_be_answered(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("count", value):
            raise ValueError("required_replies is more than count")
        return value


class HttpCheckSection(Section):
    """Does a web service answer as it should?"""

    type: Literal["http"]
    """`http`."""
    url: HttpUrl
    """http or https URL."""
    name: str = ""
    """Name in reports; by default the URL."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check."""
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """HTTP method."""
    status: Statuses = ("200-399",)
    """Expected status: a code, a range such as `"200-299"`, or a list of those."""
    body: str | None = None
    """Text that the answer must contain."""
    body_regex: str | None = None
    """Regular expression (Python's) that must match somewhere in the answer."""
    max_latency: Duration | None = None
    """Longest time to the end of the answer's headers."""
    ca_file: AbsolutePath | None = None
    """PEM file with authorities to trust besides the system's."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""

    @field_validator("body", "body_regex")
    @classmethod
    def _can_be_found(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("method") == "HEAD":
            raise ValueError("the answer to HEAD has no body to look into")
        return value

    @field_validator("body_regex")
    @classmethod
    def _is_regular(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return value

    @field_validator("max_latency")
    @classmethod
    def _comes_in_time(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if value is not None and value > info.data.get("timeout", value):
            raise ValueError("max_latency is longer than timeout")
        return value


class TcpCheckSection(Section):
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
    """Time limit of the whole check, name resolution included."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""


class DnsCheckSection(Section):
    """Does a name resolve? The system's own resolver is asked, as by any other program."""

    type: Literal["dns"]
    """`dns`."""
    host: Annotated[HostName, AfterValidator(_name)]
    """The name to resolve."""
    addresses: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    """Addresses of which at least one must be among the answers; empty: any answer will do."""
    name: str = ""
    """Name in reports; by default the name to resolve."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""


class UnitCheckSection(Section):
    """Is a unit active, or has a timer's job ended well? One that is still starting is not."""

    type: Literal["unit"]
    """`unit`."""
    unit: Annotated[str, AfterValidator(parse_unit)]
    """The unit's full name, such as `nginx.service`."""
    name: str = ""
    """Name in reports; by default the unit."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""


class CommandCheckSection(Section):
    """Does a program exit with 0? It runs as the agent does, without a shell and without input."""

    type: Literal["command"]
    """`command`."""
    command: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_command)]
    """The program, a name or an absolute path, and its arguments."""
    name: str = ""
    """Name in reports; by default the command."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit, after which the program and all that it has started are killed."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""


CheckSection = Annotated[
    IcmpCheckSection
    | HttpCheckSection
    | TcpCheckSection
    | DnsCheckSection
    | UnitCheckSection
    | CommandCheckSection,
    Field(discriminator="type"),
]

CHECK_SECTIONS: Final[dict[str, type[Section]]] = {
    "icmp": IcmpCheckSection,
    "http": HttpCheckSection,
    "tcp": TcpCheckSection,
    "dns": DnsCheckSection,
    "unit": UnitCheckSection,
    "command": CommandCheckSection,
}
"""The tables by their `type`."""


def check_of(section: CheckSection) -> Check:
    """Return the check that a table describes; without a name it has that of its target."""
    check = _unnamed(section)
    return replace(check, name=section.name or check.target)


def _unnamed(section: CheckSection) -> Check:
    match section:
        case IcmpCheckSection():
            return IcmpCheck(
                name="",
                host=section.host,
                timeout=section.timeout,
                count=section.count,
                required_replies=section.required_replies,
                is_wanted=section.wanted,
            )
        case HttpCheckSection():
            return _http(section)
        case TcpCheckSection():
            return TcpCheck("", section.host, section.port, section.timeout, section.wanted)
        case DnsCheckSection():
            return DnsCheck("", section.host, section.timeout, section.addresses, section.wanted)
        case UnitCheckSection():
            return UnitCheck("", section.unit, section.timeout, section.wanted)
        case CommandCheckSection():
            return CommandCheck("", section.command, section.timeout, section.wanted)


def _http(section: HttpCheckSection) -> HttpCheck:
    return HttpCheck(
        name="",
        url=section.url,
        timeout=section.timeout,
        method=section.method,
        status=tuple(_range(bounds) for bounds in section.status),
        body=section.body,
        body_regex=section.body_regex,
        max_latency=section.max_latency,
        ca_file=str(section.ca_file) if section.ca_file else None,
        is_wanted=section.wanted,
    )


def _range(bounds: str) -> StatusRange:
    first, _, last = bounds.partition("-")
    return StatusRange(int(first), int(last or first))
