"""Windows as people write them: days, start, length and time zone."""

from __future__ import annotations

import re
from datetime import UTC, time, timedelta
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from agent.domain.window import LONGEST, Window
from agent.fields.section import Section
from agent.fields.values import Duration, format_duration

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: Final[tuple[Day, ...]] = get_args(Day)
_START: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _start(value: str) -> str:
    if not _START.fullmatch(value):
        raise ValueError("a start is a time of day such as '04:00'")
    return value


def _length(value: timedelta) -> timedelta:
    if value > LONGEST:
        raise ValueError("a window is at most 7 days long")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{value[:100]!r} is not a time zone known to this host, such as 'Europe/Berlin'"
        ) from error
    return value


Start = Annotated[
    str,
    AfterValidator(_start),
    WithJsonSchema(
        {
            "$comment": 'time of day such as "04:40"',
            "type": "string",
            "pattern": f"^{_START.pattern}$",
        }
    ),
]


class WindowSection(Section):
    """Hours in which something may start."""

    days: tuple[Day, ...] = _DAYS
    """The days on which it opens; by default every day."""
    start: Start
    """The time at which it opens, such as `"04:00"`."""
    length: Annotated[Duration, AfterValidator(_length)]
    """How long it is open, at most 7 days; it may extend past midnight or the end of the week."""
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    """The time zone, an IANA name such as `Europe/Berlin`."""

    @field_validator("days")
    @classmethod
    def _has_a_day(cls, value: tuple[Day, ...]) -> tuple[Day, ...]:
        if not value:
            raise ValueError("a window needs a day: mon, tue, wed, thu, fri, sat, sun")
        return value


class ScheduleSection(Section):
    """Windows, and which part of them a host uses."""

    windows: tuple[WindowSection, ...] = ()
    """When it may start; without any, always."""
    splay: Duration | None = None
    """Each host starts up to this much after a window opens, always by the same amount."""
    margin: Duration = Field(default=timedelta(minutes=15), validate_default=True)
    """How much of a window must be left to start in it."""

    @field_validator("margin")
    @classmethod
    def _leaves_room(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        windows: tuple[WindowSection, ...] = info.data.get("windows", ())
        splay: timedelta = info.data.get("splay") or timedelta(0)
        for number, window in enumerate(windows):
            if splay + value >= window.length:
                raise ValueError(
                    f"splay and margin leave no time in window {number}, which is open for"
                    f" {format_duration(window.length)}"
                )
        return value


def window_of(section: WindowSection) -> Window:
    """Return the window as the domain's type."""
    return Window(
        days=frozenset(_DAYS.index(day) for day in section.days),
        start=time.fromisoformat(section.start),
        length=section.length,
        zone=UTC if section.time_zone == "UTC" else ZoneInfo(section.time_zone),
    )
