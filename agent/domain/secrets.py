"""Hides credentials in what is logged or shown."""

from __future__ import annotations

import re
from typing import Final

_SECRET_NAME: Final = re.compile(
    r"[\w-]{0,60}?(?:token|password|passwd|secret|credential)[\w-]{0,60}", re.IGNORECASE
)
# Repetitions are bounded: these look at whatever a program prints, in linear time.
_IN_URL: Final = re.compile(r"(//)[^/\s]+@")
_IN_QUERY: Final = re.compile(
    r"([?&][^=&?\s]{0,60}?(?:token|key|password|secret|signature)[^=&?\s]{0,60}=)[^&\s]+",
    re.IGNORECASE,
)
_ASSIGNED: Final = re.compile(
    r"((?:token|password|passwd|secret|credential)[\w-]{0,40}\s{0,3}=\s{0,3})[^\s,;&]+",
    re.IGNORECASE,
)
_HIDDEN: Final = "***"
_PATTERNS: Final = (
    (_IN_URL, rf"\g<1>{_HIDDEN}@"),
    (_IN_QUERY, rf"\g<1>{_HIDDEN}"),
    (_ASSIGNED, rf"\g<1>{_HIDDEN}"),
)


def hide_secrets(value: object) -> object:
    """Return `value` (JSON's types) without what looks like a credential.

    Hidden are user information and telling query parameters in URLs, whatever `=` gives to a
    telling name, and in a list what follows an item that is a telling name, as in
    `--option access-tokens …`.
    """
    match value:
        case dict():
            return {key: hide_secrets(item) for key, item in value.items()}
        case list() | tuple():
            before = ["", *value]
            return [
                _HIDDEN if _is_telling(last) else hide_secrets(item)
                for last, item in zip(before, value, strict=False)
            ]
        case str():
            for pattern, shown in _PATTERNS:
                value = pattern.sub(shown, value)
            return value
        case _:
            return value


def _is_telling(item: object) -> bool:
    return isinstance(item, str) and bool(_SECRET_NAME.fullmatch(item))
