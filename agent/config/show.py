"""Prints settings: the merged values with secrets hidden, and the JSON schema."""

from __future__ import annotations

import ast
import inspect
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import PlainSerializer

from agent.config.settings import Settings
from agent.domain.secrets import hide_secrets
from agent.fields.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel


def shown(settings: Settings) -> str:
    """Return the settings as JSON, with the file's keys, and with secrets hidden."""
    return json.dumps(hide_secrets(settings.model_dump(mode="json")), indent=2)


def schema() -> str:
    """Return the JSON schema of the configuration file."""
    made = Settings.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for key in ("hydra", "host"):
        made["properties"][key].pop("default", None)
    made["required"] = ["hydra"]
    _write_defaults(made, Settings)
    _describe(made, Settings)
    for section in _sections(Section):
        # A base class has no table of its own.
        if section.__name__ in made["$defs"]:
            _write_defaults(made["$defs"][section.__name__], section)
            _describe(made["$defs"][section.__name__], section)
    return json.dumps(made, indent=2)


def _sections(base: type[Section]) -> Iterator[type[Section]]:
    for section in base.__subclasses__():
        yield section
        yield from _sections(section)


def _write_defaults(table: dict[str, Any], model: type[BaseModel]) -> None:
    """Write the defaults of durations and sizes as in a file, such as "30m"."""
    for name, field in model.model_fields.items():
        facts = table["properties"][name]
        for note in field.metadata:
            if isinstance(note, PlainSerializer) and facts.get("default") is not None:
                facts["default"] = note.func(field.default)  # type: ignore[call-arg]


def _describe(table: dict[str, Any], model: type[BaseModel]) -> None:
    """Describe each setting by the text below it in the source.

    Pydantic would do so when the class is created, which takes a tenth of every run's start.
    """
    for source in model.__mro__:
        if source.__module__.partition(".")[0] == __package__.partition(".")[0]:
            (made,) = ast.parse(inspect.getsource(source)).body
            for name, text in _described(made):
                facts = {"description": text, **table["properties"][name]}
                table["properties"][name] = dict(sorted(facts.items()))


def _described(made: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the fields of a class with the texts that follow them."""
    for statement, after in pairwise(made.body if isinstance(made, ast.ClassDef) else ()):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                yield name, inspect.cleandoc(text)
            case _:
                pass
