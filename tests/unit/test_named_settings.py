"""Every setting that a hint or a message names is one that there is."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from agent.application import events
from agent.application.flake_update import events as update_events
from agent.config.show import schema

AGENT = Path(__file__).parents[2] / "agent"
EVENTS = {event.name for event in (*events.ALL, *update_events.ALL)}
DOTTED = re.compile(r"(?<![\w./@{$-])([a-z_]+(?:\.[a-z_]+)+)(?![\w(/-])")


def keys(node, definitions, prefix=""):
    while "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]]
    for one in (*node.get("anyOf", ()), *([node["items"]] if "items" in node else ())):
        yield from keys(one, definitions, prefix)
    for name, one in node.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from keys(one, definitions, f"{prefix}{name}.")


def texts(tree):
    """Yield what people may be shown: sentences, and what is a hint or a setting's name."""
    named = {
        id(one.value)
        for one in ast.walk(tree)
        if isinstance(one, ast.keyword) and one.arg in ("hint", "setting")
    }
    for one in ast.walk(tree):
        is_text = isinstance(one, ast.Constant) and isinstance(one.value, str)
        if is_text and (" " in one.value or id(one) in named):
            yield one.value


@pytest.fixture(scope="module")
def known():
    whole = json.loads(schema())
    return set(keys(whole, whole["$defs"]))


def test_every_setting_that_is_named_exists(known):
    assert {"flake_update.forge.token_file", "hydra.instance"} <= known
    tables = {part for key in known for part in key.split(".")[:-1]}
    unknown = [
        f"{file.relative_to(AGENT)}: {name}"
        for file in sorted(AGENT.rglob("*.py"))
        for text in texts(ast.parse(file.read_text()))
        for name in DOTTED.findall(text)
        if name.partition(".")[0] in tables and name not in known | EVENTS
    ]
    assert unknown == []
