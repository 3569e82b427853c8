"""Shows a long command's progress on standard error, in groups that CI log viewers can fold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from typing_extensions import override

from agent.application import events
from agent.application.flake_update import events as update_events
from agent.application.ports import EventSink
from agent.domain.secrets import hide_secrets

if TYPE_CHECKING:
    from agent.application.events import Event

_MARKS = {"error": "✗", "warning": "!", "info": " "}
_GOOD = frozenset({"unchanged", "changed", "fixed"})
_NOT_SHOWN = (events.PROGRAM_STARTED, events.PROGRAM_ENDED)


def is_in_ci() -> bool:
    """Whether a CI runs this: Forgejo, GitHub and all others set the variable CI."""
    return bool(os.environ.get("CI"))


class FoldedSink(EventSink):
    """Writes events as text; with `folds` each step is a `::group::` in the CI's log."""

    def __init__(self, stream: TextIO, *, folds: bool) -> None:
        self._stream = stream
        self._folds = folds

    @override
    def bind(self, **fields: object) -> None:
        """Do nothing: readers of this log know the context."""

    @override
    def emit(self, event: Event, /, **fields: object) -> None:
        named = events.by_logged_name(fields)
        if event is update_events.STEP_STARTED:
            title = _safe(named["title"])
            self._write(f"::group::{title}" if self._folds else f"\n── {title} ──")
        elif event is update_events.STEP_ENDED:
            if self._folds:
                self._write("::endgroup::")
        elif event is events.PROGRAM_SPOKE:
            # The bar prevents the CI runner from interpreting a program's output as a command.
            self._write(f"  | {_safe(named['line'])}")
        elif event is update_events.HOST_COMPARED:
            self._write_host(named)
        elif event not in _NOT_SHOWN and event.level != "debug":
            self._write_event(event, named)

    def _write_host(self, named: dict[str, object]) -> None:
        mark = "✓" if named["verdict"] in _GOOD else "✗"
        count = named["packages"]
        packages = "" if count is None else f", {count} package(s)"
        reason = f": {_safe(named['reason'])}" if named["reason"] else ""
        self._write(f"  {mark} {_safe(named['host'])}: {named['verdict']}{packages}{reason}")
        for line in str(named["log"]).splitlines():
            self._write(f"      | {_safe(line)}")

    def _write_event(self, event: Event, named: dict[str, object]) -> None:
        shown = (
            f"{name}: {_safe(', '.join(value) if isinstance(value, list) else value)}"
            for name, value in named.items()
            if value not in (None, "", [])
        )
        name = event.name.partition(".")[2].replace("_", " ")
        self._write(f"  {_MARKS[event.level]} {name} {'; '.join(shown)}".rstrip())

    def _write(self, text: str) -> None:
        try:
            self._stream.write(f"{hide_secrets(text)}\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed standard error must not end the run


def _safe(value: object) -> str:
    """Return untrusted text on one line, without control characters or commands for a CI runner."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return text.replace("##[", "# #[").strip()
