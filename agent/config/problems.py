"""Describes what is wrong with settings: each problem with its key, in the terms of the file."""

from __future__ import annotations

import difflib
import json
import os
import re
from typing import TYPE_CHECKING, Final

from agent.checks.registry import check_sections
from agent.config.settings import ENVIRONMENT_PREFIX, Settings
from agent.fields.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
_NAMED: Final = re.compile(r"\b([a-z_]+(?:\.[a-z_]+)*)(?= (?:=|is|makes)\b| =)")
_UNKNOWN: Final = "is not a known setting"

# Names of the NixOS module's options for settings with another name.
_NAMES_OF_THE_MODULE: Final = {
    "operation": "action",
    "allowReboot": "reboot.mode",
    "healthChecks": "health",
    "canaryHosts": "canary_hosts",
}


def problem_of(details: ErrorDetails) -> tuple[str, str]:
    """Return (key, what is wrong) for one of pydantic's errors.

    The value is omitted because it may be a misplaced secret.
    """
    key, model = _place(details["loc"])
    types = " or ".join(f"'{name}'" for name in check_sections())
    match details["type"]:
        case "missing":
            wrong = "is required"
        case "extra_forbidden":
            wrong = _unknown(str(details["loc"][-1]), model)
        case "union_tag_not_found":
            key, wrong = f"{key}.type", f"is required: {types}"
        case "union_tag_invalid":
            key, wrong = f"{key}.type", f"must be {types}"
        case "tuple_type":
            wrong = "must be a list (written as JSON if it comes from a variable)"
        case "model_type" | "model_attributes_type":
            wrong = "must be a table (written as JSON if it comes from a variable)"
        case _:
            wrong = details["msg"].removeprefix("Value error, ")
            wrong = wrong.replace("Input should be", "must be")
    return key, wrong


def variable_at_fault(
    details: ErrorDetails, overrides: Mapping[str, object], wrong: str
) -> str | None:
    """Return the variable with the value that pydantic reports; None if it is not from a variable.

    A conflict of two settings is reported for one of them: a variable for the other counts, too.
    """
    named = (tuple(name.split(".")) for name in _NAMED.findall(wrong))
    place = details["loc"]
    # A key that a list's item lacks is missing in the place where the item was written.
    is_of_an_item = details["type"] == "missing" and any(isinstance(part, int) for part in place)
    for location in (place[:-1] if is_of_an_item else place, *named):
        if found := _variable_of(location, overrides):
            return found
    return None


def _variable_of(location: tuple[int | str, ...], overrides: Mapping[str, object]) -> str | None:
    if not location or _has(overrides, location):
        return None  # the command line takes precedence over variables
    names = {name.upper(): name for name in os.environ}
    for length in range(len(location), 0, -1):
        parts, rest = location[:length], location[length:]
        name = names.get((ENVIRONMENT_PREFIX + "__".join(map(str, parts))).upper())
        if name is not None and (not rest or _has(_written_in(name), rest)):
            return name
    return None


def _written_in(name: str) -> object:
    try:
        return json.loads(os.environ[name])
    except (ValueError, RecursionError):
        return None


def _has(value: object, location: tuple[int | str, ...]) -> bool:
    """Whether a table or list has a value there; parts that are tags are skipped."""
    for part in location:
        match value, part:
            case dict(), _ if part in value:
                value = value[part]
            case list(), int() if part < len(value):
                value = value[part]
            case dict(), _ if part in check_sections():
                pass
            case _:
                return False
    return True


def unknown_variables() -> Iterator[tuple[str, str]]:
    """Yield the unknown names of variables, which pydantic-settings ignores.

    It does report unknown keys within a table.
    """
    for name in sorted(os.environ):
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or name == CONFIG_VARIABLE:
            continue
        first, _, rest = name[len(ENVIRONMENT_PREFIX) :].lower().partition("__")
        field = Settings.model_fields.get(first)
        is_table = field is not None and _section(field.annotation) is not None
        if field is None or (rest and not is_table):
            yield name, _unknown(first, Settings)


def _place(location: tuple[int | str, ...]) -> tuple[str, type[BaseModel]]:
    """Return the key as in the file, and the model that the last part should belong to."""
    key = ""
    parent: type[BaseModel] = Settings
    model: type[BaseModel] | None = None
    for before, part in zip((None, *location), location, strict=False):
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        if isinstance(before, int) and part in check_sections():
            model = check_sections()[part]  # the tag of a tagged union is not part of the key
            continue
        key += f".{part}" if key else part
        parent = model or parent
        field = parent.model_fields.get(part)
        model = _section(field.annotation) if field else None
    return key, parent


def _section(annotation: object) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def _unknown(name: str, model: type[BaseModel]) -> str:
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    meant = _NAMES_OF_THE_MODULE.get(name) or next(iter(near), None)
    # A key below a setting that is not a table may match its own name.
    is_suggested = meant not in (None, name)
    return f"{_UNKNOWN}; did you mean {meant!r}?" if is_suggested else _UNKNOWN
