"""Generates the reference page of the settings from their JSON schema."""

from __future__ import annotations

import json
from typing import Any

from agent.config.settings import ENVIRONMENT_PREFIX
from agent.config.show import schema


def settings_page() -> str:
    """Return `docs/reference/settings.md`."""
    made = json.loads(schema())
    tables = made["$defs"]
    lines = [
        "# Settings",
        "",
        "Generated from the models in `agent/config/` by `make docs`; do not edit.",
        "",
        "Settings are read from a TOML file (`/etc/nixos-hydra-agent/config.toml`, or `--config`),",
        f"from variables (`{ENVIRONMENT_PREFIX}HYDRA__PROJECT` is `hydra.project`; lists and",
        "tables are JSON) and from the command line; the later takes precedence. An unknown key is",
        "an error. `agent config check` reports every problem, `agent config show` prints the",
        "merged settings, and `agent config schema` the JSON schema.",
        "",
        'A *duration* is `"90s"`, `"5m"`, `"2h"`, `"3d"`, `"1h30m"` or a number of seconds; a',
        '*size* is `"64MiB"`, `"1GiB"` or a number of bytes.',
        "",
        *_key_table("", made, tables),
    ]
    lines += _sections("", made, tables)
    lines += [
        "## Windows",
        "",
        "`[[upgrade.windows]]` and `[[reboot.windows]]` have the same keys.",
        "",
        *_key_table("", tables["WindowSection"], tables),
    ]
    checks = tables["HealthSection"]["properties"]["checks"]["items"]["discriminator"]["mapping"]
    lines += [
        "## Checks",
        "",
        "`[[health.checks]]` and `[[confirm.checks]]` accept the same types of checks.",
        "",
    ]
    for name, reference in checks.items():
        found = tables[reference.rpartition("/")[2]]
        lines += [f'### `type = "{name}"`', "", found["description"], ""]
        lines += _key_table("", found, tables)
    return "\n".join(lines).rstrip() + "\n"


def _sections(prefix: str, table: dict[str, Any], tables: dict[str, Any]) -> list[str]:
    """Return a section for each table in a table, and for those in these."""
    lines = []
    for name, facts in table["properties"].items():
        if (found := _referred(facts, tables)) and "properties" in found:
            lines += [f"## `[{prefix}{name}]`", "", found["description"], ""]
            lines += _key_table(f"{prefix}{name}.", found, tables)
            lines += _sections(f"{prefix}{name}.", found, tables)
    return lines


def _key_table(prefix: str, table: dict[str, Any], tables: dict[str, Any]) -> list[str]:
    required = table.get("required", [])
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, facts in table["properties"].items():
        if "properties" in (_referred(facts, tables) or {}):
            continue  # a table with a section of its own
        default = "required" if name in required else _default(facts)
        meaning = table_cell(facts["description"])
        rows.append(f"| `{prefix}{name}` | {_type(facts, tables)} | {default} | {meaning} |")
    return [*rows, ""]


def table_cell(text: str) -> str:
    """Return `text` as a cell of a table may have it."""
    return text.replace("|", "\\|")


def _default(facts: dict[str, Any]) -> str:
    found = facts.get("default")
    return "" if found in (None, "", []) else f"`{json.dumps(found)}`"


def _referred(facts: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any] | None:
    name = facts.get("$ref", "").rpartition("/")[2]
    return tables[name] if name else None


_TYPES = {"string": "text", "boolean": "true or false", "integer": "integer"}


def _type(facts: dict[str, Any], tables: dict[str, Any]) -> str:  # noqa: PLR0911 - one a shape
    """Return a schema's type in the words of the file."""
    facts = _referred(facts, tables) or facts
    match facts:
        case {"$comment": told}:
            return str(told)
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"oneOf": _} | {"type": "object"}:
            return "table"
        case {"anyOf": [first, {"type": "null"}]}:
            return _type(first, tables)
        case {"type": "array", "items": items}:
            return f"list of {_type(items, tables)}"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"{low} to {high}"
        case {"type": "string", "format": "path"}:
            return "path"
        case _:
            return _TYPES[facts["type"]]
