from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.application import events
from agent.application.events import event_of
from agent.domain.errors import Kind
from agent.domain.secrets import hide_secrets
from agent.telemetry.log import StructlogSink, line_buffered, resolve_format

ROOT = Path(__file__).parents[2]
SAID = event_of("info", "thing.happened", "A thing has happened.")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def logged(*fields_of_events, level="debug", event=SAID, bound=None):
    stream = io.StringIO()
    sink = StructlogSink(stream, level=level, format="json")
    sink.bind(**(bound or {}))
    for fields in fields_of_events:
        sink.emit(event, **fields)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def shown(*, said=SAID, to=None, **fields):
    to = to or io.StringIO()
    StructlogSink(to, level="debug", format="console").emit(said, **fields)
    return to.getvalue()


def test_each_event_is_one_json_object_on_one_line():
    first, second = logged({"a": 1}, {"b": [{"c": None}]})
    assert (first["event"], first["level"], first["a"]) == ("thing.happened", "info", 1)
    assert second["b"] == [{"c": None}]
    told = datetime.fromisoformat(first["timestamp"])
    assert told.tzinfo == UTC
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first["timestamp"])


def test_the_fields_of_a_fault_have_dots():
    (said,) = logged(
        {"error_kind": Kind.LOCKED, "error_message": "why", "error_hint": "do", "my_error_x": 1}
    )
    assert (said["error.kind"], said["error.message"], said["error.hint"]) == (
        "locked",
        "why",
        "do",
    )
    assert said["my_error_x"] == 1


def test_bound_fields_are_in_every_later_event():
    stream = io.StringIO()
    sink = StructlogSink(stream, level="debug", format="json")
    sink.emit(SAID)
    sink.bind(host="h", run_id="r")
    sink.bind(build_id=7)
    sink.emit(SAID, build_id=8)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert "host" not in first
    assert (second["host"], second["run_id"], second["build_id"]) == ("h", "r", 8)


FLAKE = "git+https://bob:hunter2@git.example.org/hosts?rev=abc"


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (events.BUILD_SELECTED, {"build_id": 7, "flake": FLAKE}),
        (events.VERIFY_STARTED, {"flake": FLAKE}),
        (events.RUN_FAILED, {"error_message": f"cannot evaluate h of {FLAKE}: no answer"}),
        (
            events.RUN_FINISHED,
            {
                "flake": FLAKE,
                "error_message": f"cannot evaluate h of {FLAKE}",
                "reasons": [{"name": "x", "reason": f"no {FLAKE}"}],
                "durations": {},
            },
        ),
        (events.PROGRAM_STARTED, {"argv": ("nix", "--option", "access-tokens", "hunter2")}),
        (events.BUG_FOUND, {"exception": f"Traceback\nValueError: {FLAKE}"}),
    ],
)
def test_a_credential_is_hidden_in_every_field_of_every_event(format, event, fields):  # noqa: A002 - the setting's name
    stream = io.StringIO()
    sink = StructlogSink(stream, level="debug", format=format)
    sink.bind(job=f"{FLAKE}#job")
    sink.emit(event, **fields)
    assert "***" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


HELD = [
    {"build_id": 9, "reasons": [{"name": "denied", "reason": "it broke sshd"}]},
    {
        "build_id": 8,
        "reasons": [{"name": "suspect", "reason": "failed"}, {"name": "health", "reason": "no"}],
    },
]


@pytest.mark.parametrize(
    ("decision", "held", "told"),
    [
        ("upgrade", HELD[:1], ["build 9: denied: it broke sshd"]),
        ("hold", HELD[:1], None),
        ("hold", HELD, ["build 9: denied: it broke sshd", "build 8: suspect: failed; health: no"]),
        ("done", [], None),
    ],
)
def test_a_person_is_told_which_builds_are_held_and_why(decision, held, told):
    stream = io.StringIO()
    sink = StructlogSink(stream, level="debug", format="console")
    sink.emit(events.RUN_FINISHED, decision=decision, reasons=[], durations={}, held=held)
    said = stream.getvalue().partition("held=")[2].strip().strip('"')
    assert said == ("" if told is None else str(told))


class Odd:
    def __str__(self):
        return "odd one"


class Broken:
    def __str__(self):
        raise ValueError("no")

    def __repr__(self):
        return "<broken>"


def circle():
    made = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Path("/x"), "/x"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01 00:00:00+00:00"),
        (Odd(), "odd one"),
        (Broken(), "<broken>"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (b"x", "b'x'"),
        ((1, 2), [1, 2]),
        (Kind.LOCKED, "locked"),
        (2**70, 2**70),
    ],
)
def test_any_value_can_be_logged(value, told):
    (said,) = logged({"value": value, "other": "kept"})
    assert said["value"] == told
    assert said["other"] == "kept"


@pytest.mark.parametrize("value", [{(1, 2): 3}, circle(), [float("nan")], {"a": {1: {None: 2}}}])
def test_a_container_that_is_no_json_costs_no_line(value):
    (said,) = logged({"value": value})
    assert said["event"] == "thing.happened"


_NASTY = 'a\nb\r\x00\x1b[2J\x85\u2028\u2029\x9b\udcff\ud800é😀"\\'


def test_no_text_breaks_a_line_or_needs_more_than_ascii():
    stream = io.StringIO()
    StructlogSink(stream, level="debug", format="json").emit(SAID, line=_NASTY)
    text = stream.getvalue()
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert all(char.isprintable() for char in text.removesuffix("\n"))
    assert json.loads(text)["line"] == _NASTY


@given(st.text(st.characters(codec=None)))
def test_any_text_without_a_credential_is_read_back_as_it_was(text):
    assert logged({"text": text})[0]["text"] == hide_secrets(text)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_of_any_encoding_gets_whole_lines(encoding):
    code = (
        "from agent.application.events import event_of\n"
        "from agent.telemetry.log import StructlogSink, standard_output\n"
        "sink = StructlogSink(standard_output(), level='info', format='json')\n"
        f"sink.emit(event_of('info', 'x.y', ''), line={_NASTY!a})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["line"] == _NASTY


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_less_important_events_are_left_out(level):
    order = ["debug", "info", "warning", "error"]
    stream = io.StringIO()
    sink = StructlogSink(stream, level=level, format="json")
    for name in order:
        sink.emit(event_of(name, f"x.{name}", ""))
    told = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
    assert told == order[order.index(level) :]


def test_a_person_gets_no_colours_where_there_is_no_terminal():
    text = shown(name="value", nothing=None, empty=[], text="", zero=0, no=False)
    assert "\x1b" not in text
    assert "thing.happened" in text
    assert "name=value" in text
    assert "zero=0" in text
    assert "no=False" in text
    assert "nothing" not in text
    assert "empty" not in text


def test_a_person_at_a_terminal_gets_colours_unless_they_are_unwanted(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(to=Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown(to=Terminal())


def test_foreign_text_neither_breaks_a_persons_line_nor_moves_the_cursor():
    text = shown(line=_NASTY, many=[_NASTY])
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "a b" in text


def test_a_programs_line_is_shown_to_a_person_after_its_name():
    text = shown(said=events.PROGRAM_SPOKE, program="nix", stream="stderr", line="a\x1b[2J\nb")
    assert "nix: a�[2J b" in text
    assert len(text.splitlines()) == 1


def test_a_lost_stream_ends_nothing():
    with Path("/dev/full").open("w") as stream:
        sink = StructlogSink(line_buffered(stream), level="info", format="json")
        sink.emit(SAID)
        assert sink.is_lost
        sink.emit(SAID)


def test_a_closed_stream_ends_nothing():
    stream = io.StringIO()
    sink = StructlogSink(stream, level="info", format="json")
    stream.close()
    sink.emit(SAID)
    assert sink.is_lost


def test_a_traceback_keeps_its_lines():
    text = shown(said=events.BUG_FOUND, exception="Traceback:\n  line\x1b[2J\nError")
    assert "Traceback:\n  line" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("wanted", "at_terminal", "elsewhere"),
    [("auto", "console", "json"), ("json", "json", "json"), ("console", "console", "console")],
)
def test_the_format_is_chosen_by_the_stream_unless_it_is_asked_for(wanted, at_terminal, elsewhere):
    assert resolve_format(wanted, Terminal()) == at_terminal
    assert resolve_format(wanted, io.StringIO()) == elsewhere


def test_each_line_is_out_as_soon_as_it_is_logged(tmp_path):
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        sink = StructlogSink(line_buffered(stream), level="info", format="json")
        sink.emit(SAID)
        assert json.loads((tmp_path / "log").read_text())["event"] == "thing.happened"


def test_a_stream_that_is_no_file_is_taken_as_it_is():
    stream = io.StringIO()
    assert line_buffered(stream) is stream
