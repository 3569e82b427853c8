"""The HTTP check: does a web service answer as it should?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from typing_extensions import override

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.domain.check import HttpCheck, StatusRange
from agent.fields.section import AbsolutePath, HttpUrl
from agent.fields.values import Duration

if TYPE_CHECKING:
    from datetime import timedelta


def _status(value: str) -> str:
    if not re.fullmatch(r"[1-5][0-9]{2}(-[1-5][0-9]{2})?", value):
        raise ValueError(f"{value[:20]!r} is neither a status code nor a range such as '200-299'")
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


class HttpCheckSection(CheckSection):
    """Does a web service answer as expected?"""

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
    """Maximum time to the end of the answer's headers."""
    ca_file: AbsolutePath | None = None
    """PEM file with certificate authorities to trust in addition to the system's."""
    wanted: StrictBool = False
    """Whether it is only wanted: its failure is reported but has no effect."""

    @field_validator("body", "body_regex")
    @classmethod
    def _can_be_found(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("method") == "HEAD":
            raise ValueError("the answer to HEAD has no body to search")
        return value

    @field_validator("body_regex")
    @classmethod
    def _is_regular(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return value

    @field_validator("max_latency")
    @classmethod
    def _comes_in_time(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if value is not None and value > info.data.get("timeout", value):
            raise ValueError("max_latency is longer than timeout")
        return value

    @override
    def check(self, name: str) -> HttpCheck:
        return HttpCheck(
            name=name,
            url=self.url,
            timeout=self.timeout,
            method=self.method,
            status=tuple(_range(bounds) for bounds in self.status),
            body=self.body,
            body_regex=self.body_regex,
            max_latency=self.max_latency,
            ca_file=str(self.ca_file) if self.ca_file else None,
            is_wanted=self.wanted,
        )


def _range(bounds: str) -> StatusRange:
    first, _, last = bounds.partition("-")
    return StatusRange(int(first), int(last or first))


SECTION: Final = HttpCheckSection
ORDER: Final = 20
