"""Every event that is declared is emitted somewhere, with the fields it declares."""

from __future__ import annotations

import ast
from pathlib import Path

from agent.application import events
from agent.application.flake_update import events as update_events

AGENT = Path(events.__file__).parents[1]
CONSTANTS = {
    name: value
    for module in (events, update_events)
    for name, value in vars(module).items()
    if isinstance(value, events.Event)
}
ALL = (*events.ALL, *update_events.ALL)
# What the functions that are expanded into an event's fields return.
HELPERS = {
    "error_fields": {"error_kind", "error_message", "error_hint"},
    "candidate_fields": {"build_id", "eval_id", "flake", "toplevel"},
    "fields": None,  # Report.fields: judged where reports are tested
}


def emits():
    """Return (place, event constants, fields, functions expanded) of every emit call."""
    return [
        (f"{file.relative_to(AGENT)}:{node.lineno}", *_parts(node))
        for file in sorted(AGENT.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "emit"
        and node.args
    ]


def _parts(call):
    chosen = [
        part.attr
        for part in ast.walk(call.args[0])
        if isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and part.value.id == "events"
    ]
    fields = {keyword.arg for keyword in call.keywords if keyword.arg}
    expanded = [keyword.value for keyword in call.keywords if keyword.arg is None]
    return chosen, fields, expanded


EMITS = emits()
# Some pass through a variable or a table before they are emitted.
MENTIONED = {
    part.attr
    for file in AGENT.rglob("*.py")
    for part in ast.walk(ast.parse(file.read_text()))
    if isinstance(part, ast.Attribute)
    and isinstance(part.value, ast.Name)
    and part.value.id == "events"
}


def test_every_event_is_emitted_somewhere():
    assert '"event": "run.idle"' in (AGENT / "lean" / "idle_poll.py").read_text()
    silent = [name for name, event in CONSTANTS.items() if event is not events.RUN_IDLE]
    assert [name for name in silent if name not in MENTIONED] == []


def test_every_field_that_is_emitted_is_declared():
    for place, chosen, fields, expanded in EMITS:
        logged = logged_names(place, fields, expanded)
        for name in chosen:
            unknown = logged - set(CONSTANTS[name].fields)
            assert not unknown, f"{place}: {name} does not declare {unknown}"


def logged_names(place, fields, expanded):
    """Return the names of an emit call's fields, with those of the functions that are expanded."""
    found = set(fields)
    for part in expanded:
        if isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else part.func.id
            assert name in HELPERS, f"{place}: nobody knows the fields of {name}()"
            found |= (HELPERS[name] or set()) - {"error_hint"}
    return set(events.by_logged_name(dict.fromkeys(found)))


def test_emit_calls_are_found_at_all():
    assert len(EMITS) > 25


def test_an_event_has_a_name_in_two_parts_and_a_meaning():
    for event in ALL:
        area, _, what = event.name.partition(".")
        assert area.isidentifier(), event.name
        assert what.isidentifier(), event.name
        assert event.meaning.endswith("."), event.name
        assert all(meaning.strip() for meaning in event.fields.values()), event.name
        assert not {"event", "level", "timestamp"} & set(event.fields), event.name


def test_names_of_events_are_unique():
    assert len({event.name for event in ALL}) == len(CONSTANTS) == len(ALL)
