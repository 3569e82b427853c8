"""Durations, sizes, hosts and units as people write them."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*(B|KiB|MiB|GiB|TiB)?")
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_LONGEST: Final = timedelta(days=366)
_LARGEST: Final = (1 << 63) - 1
_MAX_TEXT: Final = 40
"""The longest sensible duration."""
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# A name whose last label is a number would be parsed as an address (WHATWG URL, inet_aton).
_HOST: Final = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\.?\Z){_LABEL}\.?")
_BRACKETED: Final = re.compile(r"\[[^][]*:[^][]*\](?::[0-9]*)?")
_ZONE: Final = re.compile(r"[A-Za-z0-9_.-]{1,20}")
_MAX_HOST: Final = 253
_MAX_URL: Final = 8192
"""No server accepts a longer one."""
# unit_name_is_valid() of systemd: a plain unit, or an instance of a template.
_UNIT: Final = re.compile(
    r"[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\@-]+)?"
    r"\.(?:service|socket|target|device|mount|automount|swap|timer|path|slice|scope)"
)
_MAX_UNIT: Final = 255


def parse_duration(value: object) -> timedelta:
    """Return a duration: `"90s"`, `"1h30m"`, or a number of seconds; above 0, at most 366 days."""
    match value:
        case timedelta():
            return _within(value.total_seconds())
        case bool():
            pass
        case int() | float():
            return _within(value)
        case str() if len(value) < _MAX_TEXT:
            if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
                return _within(float(value))
            if re.fullmatch(rf"(?:{_DURATION.pattern}\s*)+", value):
                return _within(
                    sum(float(n) * _SECONDS[unit] for n, unit in _DURATION.findall(value))
                )
    raise ValueError('a duration is "90s", "5m", "2h", "3d" or a number of seconds')


def _within(seconds: float) -> timedelta:
    # A comparison is false for NaN.
    if not 0 < seconds <= _LONGEST.total_seconds() or not (found := timedelta(seconds=seconds)):
        raise ValueError("a duration is above 0 and at most 366 days")
    return found


def format_duration(value: timedelta) -> str:
    """Return a duration in the largest unit that gives a whole number."""
    for unit in ("d", "h", "m", "s"):
        count = value.total_seconds() / _SECONDS[unit]
        if count == int(count):
            return f"{int(count)}{unit}"
    return f"{value.total_seconds():.6f}".rstrip("0") + "s"


def parse_size(value: object) -> int:
    """Return a size in bytes: `"64MiB"`, `"1.5GiB"`, or a number of bytes; below 8 EiB."""
    match value:
        case bool():
            pass
        case int():
            return _fitting(value)
        case str() if found := _SIZE.fullmatch(value):
            number, unit = found.groups()
            if number.isdigit():
                return _fitting(int(number) * _BYTES[unit or "B"])
            if unit:
                return _fitting(int(float(number) * _BYTES[unit]))
    raise ValueError('a size is "64MiB", "1GiB" or a number of bytes')


def _fitting(size: int) -> int:
    if not 0 <= size <= _LARGEST:
        raise ValueError("a size is 0 or more, and below 8 EiB")
    return size


def format_size(value: int) -> str:
    """Return a size in the largest unit that gives a whole number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return str(value)


def parse_host(value: str) -> str:
    """Return a host name or an IP address (scoped or not) unchanged."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        is_good = len(value) <= _MAX_HOST and bool(_HOST.fullmatch(value))
    else:
        zone = getattr(address, "scope_id", None)
        is_good = zone is None or bool(_ZONE.fullmatch(zone))
    if not is_good:
        raise ValueError(f"{value[:100]!r} is neither a host name nor an address")
    return value


def parse_http_url(value: str) -> str:
    """Return an http or https URL without credentials, unchanged."""
    if re.search(r"//[^/?#]*@", value):
        raise ValueError("a URL here must not contain a user name or password: it would be logged")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a URL has no spaces and only ASCII characters")
    if len(value) > _MAX_URL:
        raise ValueError(f"a URL is at most {_MAX_URL} characters long")
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{value[:100]!r} is not an http or https URL")
    if _BRACKETED.fullmatch(url.netloc) is None and re.search(r"[][]", url.netloc):
        raise ValueError("only an IPv6 address may be in brackets")
    parse_host(url.hostname)
    _ = url.port  # raises ValueError if it is not an address
    return value


def parse_unit(value: str) -> str:
    """Return the full name of a systemd unit, unchanged."""
    if len(value) > _MAX_UNIT or not _UNIT.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is not the full name of a unit, such as 'nginx.service'")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema(
        {
            "$comment": 'duration such as "90s" or "1h30m"',
            "anyOf": [
                {
                    "type": "string",
                    "pattern": r"^([0-9]{1,9}(\.[0-9]+)?|([0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)\s*)+)$",
                    "maxLength": _MAX_TEXT - 1,
                },
                {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": int(_LONGEST.total_seconds()),
                },
            ],
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size),
    WithJsonSchema(
        {
            "$comment": 'size such as "512MiB"',
            "anyOf": [
                {
                    "type": "string",
                    "pattern": r"^[0-9]{1,19}((\.[0-9]{1,9})?\s*(B|KiB|MiB|GiB|TiB))?$",
                },
                {"type": "integer", "minimum": 0, "maximum": _LARGEST},
            ],
        }
    ),
]
