"""Sets up structlog, and turns events into log lines."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from typing_extensions import override

from agent.application.events import by_logged_name
from agent.application.ports import EventSink
from agent.domain.secrets import presentable
from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from agent.application.events import Event

Format = Literal["json", "console"]
_FRAME: Final = ("timestamp", "level", "event")
_BOUND: Final = ("host", "run_id", "job")
_SUMMARY: Final = ("outcome", "error.kind", "error.message", "error.hint", "exit_code")
_CONTAINERS: Final = (dict, list, tuple, set)
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class StructlogSink(EventSink):
    """Logs events through structlog to one stream, with the fields bound to a run.

    What looks like a credential is hidden in every field, wherever it came from.
    A stream that cannot be written to any more ends no run, least of all in the middle of an
    activation: what is logged afterwards is lost, and `is_lost` is set.
    """

    def __init__(self, stream: TextIO, *, level: str, format: Format) -> None:  # noqa: A002 - the setting's name
        self._stream = stream
        self.format = format
        self.is_lost = False
        tail: list[Processor]
        if format == "json":
            tail = [structlog.processors.JSONRenderer(serializer=_one_line)]
        else:
            colors = stream.isatty() and not os.environ.get("NO_COLOR")
            tail = [
                _for_person,
                _printable,
                structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=22, sort_keys=False),
            ]
        self._log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            structlog.PrintLogger(stream),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True)
                if format == "json"
                else structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
                _without_secrets,
                *tail,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            cache_logger_on_first_use=True,
        ).bind()

    @override
    def bind(self, **fields: object) -> None:
        self._log = self._log.bind(**fields)

    @override
    def emit(self, event: Event, /, **fields: object) -> None:
        named = by_logged_name(fields)
        if self.is_lost:
            return
        try:
            self._log.log(LEVELS[event.level], event.name, **named)
        except (OSError, ValueError):  # the latter of a stream that is closed
            self.is_lost = True
            with suppress(OSError, ValueError):
                _discard(self._stream)


def _discard(stream: TextIO) -> None:
    """Let a stream lead nowhere: what is left in its buffer would fail at the process's end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def resolve_format(wanted: str, stream: TextIO) -> Format:
    """Return the format that `auto` means for `stream`."""
    if wanted == "auto":
        return "console" if stream.isatty() else "json"
    return "json" if wanted == "json" else "console"


def line_buffered(stream: TextIO) -> TextIO:
    """Make sure that each line is seen, and survives a kill, as soon as it is logged."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return stream


def standard_output() -> TextIO:
    """Return standard output for log lines."""
    return line_buffered(sys.stdout)


def standard_error() -> TextIO:
    """Return standard error for log lines."""
    return line_buffered(sys.stderr)


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _without_secret(value) for name, value in event.items()}


def _without_secret(value: object) -> object:
    try:
        return presentable(value)
    except RecursionError:  # a circle
        return object.__repr__(value)


def _one_line(value: EventDict, **_options: object) -> str:
    """Return a line of ASCII, whatever is in it: every terminal, file and parser can take it."""
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # such as NaN, a tuple for a key, a circle
        return json.dumps({name: _plain(item) for name, item in value.items()})


def _plain(value: object) -> object:
    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return object.__repr__(value) if isinstance(value, _CONTAINERS) else repr(value)


def _for_person(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out what a person knows already, or can ask `agent status` for."""
    if event["event"] == "process.output":
        text = f"{event['program']}: {event['line']}"
        return {**{name: event[name] for name in _FRAME}, "event": text}
    if event["event"] == "run.finished":
        kept = {name: event.get(name) for name in (*_FRAME, *_SUMMARY)}
        kept["reasons"] = [f"{reason['name']}: {reason['reason']}" for reason in event["reasons"]]
        held = [_held(build) for build in event.get("held", ())]
        kept["held"] = held if len(held) > 1 or event.get("decision") != "hold" else []
        kept["seconds"] = event["durations"].get("total")
    else:
        kept = {name: value for name, value in event.items() if name not in _BOUND}
    return {name: value for name, value in kept.items() if value not in (None, "", [], {})}


def _held(build: dict[str, Any]) -> str:
    reasons = "; ".join(f"{reason['name']}: {reason['reason']}" for reason in build["reasons"])
    return f"build {build['build_id']}: {reasons}"


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep foreign text from breaking a person's line, or moving the cursor.

    A traceback keeps its lines.
    """
    return {
        name: _safe(value, "\n" if name == "exception" else "") for name, value in event.items()
    }


def _safe(value: object, kept: str) -> object:
    if isinstance(value, bool | int | float):
        return value
    return "".join(
        char if char.isprintable() or char in kept else " " if char.isspace() else "�"
        for char in str(value)
    )
