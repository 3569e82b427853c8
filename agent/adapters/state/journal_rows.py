"""Turns rows of the history into objects, whatever the rows hold. Nothing else does.

A row may have been written by another version, by hand, or by a failing disk. What cannot be read
of it is dropped and named, and the rest counts: nothing that decides about the host may depend on
the history being whole. A denial needs no more than its path, and a pause nothing at all.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agent.domain.ignored_gate import IgnoredGate
from agent.domain.path_record import Denial, Fault
from agent.domain.pause import Pause
from agent.domain.reboot import RebootPlan
from agent.domain.run_record import COLUMNS, RunRecord, recorded
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.domain.store_path import StorePath

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "runs": COLUMNS,
    "denials": ("toplevel", "build_id", "reason", "by", "denied_at", "until"),
    "allowances": ("toplevel", "reason", "by", "allowed_at", "after_run"),
    "forgotten_builds": ("job", "reason", "by", "forgotten_at", "after_run"),
    "pauses": ("reason", "by", "since", "until"),
    "reboot_plans": ("toplevel", "inhibited_since", "announced_for"),
    "boot_cleanings": ("toplevel",),
    "good_builds": (*("job", "build_id", "toplevel", "system", "finished_at", "eval_id", "flake"),),
}
"""The columns of each table, but for the numbers of its rows."""
UNKNOWN_TIME: Final = datetime.fromtimestamp(0, UTC)
"""Used where a time is needed and cannot be read."""
LARGEST_NUMBER: Final = 2**53
"""No build, evaluation or row has a higher number: a damaged one would count as the newest."""
_BASELINE: Final = frozenset({"checks", "failed_units", "hydra", "control", "clock"})
_LARGEST_INTEGER: Final = 2**63
"""JSON can have larger numbers than SQLite."""
_LAST_YEAR: Final = 9998
"""Later times would overflow once something is added to them."""
_UNREADABLE: Final = "what was written here cannot be read"


@dataclass(frozen=True, slots=True)
class Row:
    """One row by column; `dropped` gathers the columns that could not be read."""

    values: Mapping[str, Any]
    dropped: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """Return a text; bytes and numbers in its place as they would be printed."""
        value = self.values.get(name)
        if value is None or (isinstance(value, str) and is_writable(value)):
            return value
        self.dropped.append(name)
        if isinstance(value, bytes):
            return decode(value)
        return str(value).encode(errors="backslashreplace").decode()

    def instant(self, name: str) -> datetime | None:
        """Return an aware instant in UTC; None where there is none that can be read."""
        value = self.values.get(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None and moment.year <= _LAST_YEAR:
                return moment.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            pass
        self.dropped.append(name)
        return None

    def number(self, name: str) -> int | None:
        """Return a number that SQLite has as an integer."""
        value = self.values.get(name)
        if value is None or (type(value) is int and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER):
            return value
        self.dropped.append(name)
        return None

    def count(self, name: str) -> int | None:
        """Return a number that counts something, or names a row or a build."""
        value = self.number(name)
        if value is None or 0 <= value <= LARGEST_NUMBER:
            return value
        self.dropped.append(name)
        return None

    def path(self, name: str) -> StorePath | None:
        """Return a path of the store, wherever that is."""
        text = self.values.get(name)
        text = decode(text) if isinstance(text, bytes) else text
        path = store_path(text)
        if path is None and text is not None:
            self.dropped.append(name)
        return path

    def reasons(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return reasons, as the JSON of a list of pairs of strings."""
        return tuple((each, reason) for each, reason in self._texts(name, 2))

    def ignored_gates(self, name: str) -> tuple[IgnoredGate, ...]:
        """Return gates that were passed, as the JSON of a list of their four strings."""
        return tuple(IgnoredGate(*passed) for passed in self._texts(name, 4))

    def _texts(self, name: str, width: int) -> list[list[str]]:
        """Return the JSON of a list of lists of `width` strings each."""
        try:
            value = json.loads(self.values.get(name) or "[]")
        except (TypeError, ValueError, RecursionError):
            value = None
        if isinstance(value, list) and all(_is_texts(each, width) for each in value):
            return value
        self.dropped.append(name)
        return []

    def baseline(self, name: str) -> str | None:
        """Return the JSON of a baseline; None where there is none that can be read."""
        value = self.text(name)
        try:
            if value is None or _is_baseline(json.loads(value)):
                return value
        except (ValueError, RecursionError):
            pass
        self.dropped.append(name)
        return None

    def fault(self, name: str) -> str | None:
        """Return a fault; an unknown one would be held against a healthy system."""
        value = self.text(name)
        if value is None or value in frozenset(Fault):
            return value
        self.dropped.append(name)
        return None


def store_path(text: object) -> StorePath | None:
    """Return a text as a path directly below any store directory, or None if it is none."""
    if not isinstance(text, str) or not text.startswith("/"):
        return None
    return parse_store_path(text, posixpath.dirname(text))


def is_writable(text: str) -> bool:
    """Whether a text can be encoded: JSON can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decode(value: bytes) -> str:
    """Return bytes as text; what is not UTF-8 is written out."""
    return value.decode(errors="backslashreplace")


def run_of(row: Row) -> RunRecord | None:
    """Return a run, or None where its id or its outcome cannot be read."""
    run_id, outcome = row.text("run_id"), row.text("outcome")
    if run_id is None or outcome is None:
        row.dropped.extend(name for name in ("run_id", "outcome") if row.values.get(name) is None)
        return None
    return recorded(
        run_id=run_id,
        started_at=row.instant("started_at") or UNKNOWN_TIME,
        host=row.text("host") or "",
        job=row.text("job") or "",
        outcome=outcome,
        finished_at=row.instant("finished_at"),
        decision=row.text("decision"),
        action=row.text("action"),
        build_id=row.number("build_id"),
        eval_id=row.number("eval_id"),
        flake=row.text("flake"),
        toplevel=row.text("toplevel"),
        boot_id=row.text("boot_id"),
        previous=row.text("previous"),
        reasons=row.reasons("reasons"),
        baseline=row.baseline("baseline"),
        invocation=row.text("invocation"),
        fault=row.fault("fault"),
        sets_measure=row.count("sets_measure") == 1,
        ignored_gates=row.ignored_gates("ignored_gates"),
        target=row.text("target"),
        error_kind=row.text("error_kind"),
        error_message=row.text("error_message"),
        exit_code=row.number("exit_code"),
        repeats=row.count("repeats") or 0,
    )


def denial_of(row: Row) -> Denial | None:
    """Return a denial, or None where its path cannot be read.

    Without a readable end it lasts until an administrator lifts it.
    """
    path = row.path("toplevel")
    if path is None:
        return None
    reason, by = row.text("reason"), row.text("by")
    return Denial(
        toplevel=path,
        reason=_UNREADABLE if reason is None else reason,
        denied_at=row.instant("denied_at") or UNKNOWN_TIME,
        by="unknown" if by is None else by,
        build_id=row.count("build_id"),
        until=row.instant("until"),
    )


def pause_of(row: Row) -> Pause:
    """Return a pause; where not all of it can be read, it lasts until an administrator ends it."""
    reason, by = row.text("reason"), row.text("by")
    since, until = row.instant("since"), row.instant("until")
    is_whole = since is not None and not row.dropped
    return Pause(
        reason=_UNREADABLE if reason is None else reason,
        by="unknown" if by is None else by,
        since=since or UNKNOWN_TIME,
        until=until if is_whole else None,
    )


def plan_of(row: Row, toplevel: StorePath) -> RebootPlan:
    """Return what is remembered of a reboot, as far as it can be read."""
    return RebootPlan(toplevel, row.instant("inhibited_since"), row.instant("announced_for"))


def allowance_of(row: Row) -> int:
    """Return the number of the run up to which all is forgiven; 0 where it cannot be read."""
    return row.count("after_run") or 0


def _is_baseline(value: object) -> bool:
    """Whether it has the shape of a baseline; another version may lack a part of it."""
    if not isinstance(value, dict) or not value.keys() & _BASELINE:
        return False
    checks, units = value.get("checks", {}), value.get("failed_units")
    return (
        isinstance(checks, dict)
        and all(isinstance(well, bool) for well in checks.values())
        and (units is None or _is_list_of_text(units))
        and all(value.get(name) in (None, True, False) for name in ("hydra", "control", "clock"))
    )


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_texts(value: object, width: int) -> bool:
    return isinstance(value, list) and [type(each) for each in value] == [str] * width
