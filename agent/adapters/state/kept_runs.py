"""The runs that are under way, in a plain file beside the history.

An upgrade that has begun is here from before its effects until the history has its end: a
history that is locked, full, damaged or lost then costs neither the baseline of a verdict nor the
denial of what was rolled back from.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.adapters.state.journal_inserts import columns_of
from agent.adapters.state.journal_rows import Row, denial_of, run_of, store_path
from agent.adapters.state_dir import make_private, state_fault
from agent.adapters.whole_file import sync_directory
from agent.application import events
from agent.domain.errors import JournalError
from agent.domain.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.application.ports import EventSink, RunRecord
    from agent.domain.path_record import Denial
    from agent.domain.store_path import StorePath

_MOST: Final = 8
_MAX_FILE: Final = 1 << 20
_MAX_TEXT: Final = 1 << 16
"""Characters of one column; a longer one is left out."""
_BLOCK: Final = 1 << 16
"""Bytes of the file when it is written on a full disk; twice as many are reserved for it."""
_SAFELY: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
PHASES: Final = (Outcome.ARMED, Outcome.ACTIVATING, Outcome.PENDING, Outcome.ROLLING_BACK)
"""What a run that touches the host goes through before it ends, in order."""


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run, and the denial that it has led to."""

    run: RunRecord
    denial: Denial | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it only waits to be written into the history."""
        return self.run.outcome not in PHASES


def phase_of(run: RunRecord) -> int:
    """Return how far a run has got: the place of its outcome among the phases."""
    try:
        return [str(phase) for phase in PHASES].index(run.outcome)
    except ValueError:
        return len(PHASES)


class KeptRuns:
    """Keeps some runs in `upgrades.json`; each change is one rename."""

    def __init__(self, state_dir: Path, sink: EventSink) -> None:
        self._file = state_dir / "upgrades.json"
        self._spare = state_dir / "upgrades.spare"
        self._sink = sink
        self._is_named = False

    def read(self) -> tuple[KeptRun, ...]:
        """Return the runs that can be read, the oldest first; never raises."""
        try:
            content = self._content()
        except FileNotFoundError:
            return ()
        except OSError:
            content = b""
        try:
            rows = json.loads(content)["runs"]
            return tuple(kept for row in rows[-_MOST:] if (kept := _parse(row)) is not None)
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            if not self._is_named:
                self._is_named = True
                self._sink.emit(
                    events.JOURNAL_ROW_UNREADABLE, table=self._file.name, row=0, columns=["runs"]
                )
            return ()

    def put(self, values: dict[str, Any], denial: Denial | None = None) -> None:
        """Keep a run, by the columns of its row, in place of what was kept of it.

        A denial that was kept with it stays.

        Raises:
            JournalError: it cannot be written.
        """
        row = {name: _short(value) for name, value in values.items()}
        others = []
        for kept in self._rows():
            if kept.get("run_id") == row["run_id"]:
                row["denial"] = kept.get("denial")
            else:
                others.append(kept)
        if denial is not None:
            row["denial"] = {**columns_of(denial), "reason": denial.reason[:_MAX_TEXT]}
        self._write([*others, row][-_MOST:])

    def forget(self, run_ids: Sequence[str], toplevel: StorePath | None = None) -> None:
        """Keep these runs, or those of a system, no longer; what cannot be changed stays."""
        rows = self._rows()
        left = [
            row
            for row in rows
            if row.get("run_id") not in run_ids
            and (toplevel is None or row.get("toplevel") != toplevel)
        ]
        if len(left) == len(rows):
            return
        try:
            if left:
                self._write(left)
            else:
                self._file.unlink(missing_ok=True)
        except (OSError, JournalError):
            return

    def reserve(self, size: int = 2 * _BLOCK) -> None:
        """Reserve some room on the disk for when it is full, if there is any.

        Half of it is given back with each use, and taken again at once.
        """
        with suppress(OSError):
            handle = os.open(self._spare, os.O_WRONLY | os.O_CREAT | _SAFELY, 0o600)
            try:
                if os.fstat(handle).st_size < size:
                    os.write(handle, bytes(size))
                    os.fsync(handle)
            finally:
                os.close(handle)

    def _content(self) -> bytes:
        handle = os.open(self._file, os.O_RDONLY | _SAFELY)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return b""
            content = b""
            while len(content) < _MAX_FILE and (part := os.read(handle, _MAX_FILE)):
                content += part
            return content
        finally:
            os.close(handle)

    def _rows(self) -> list[dict[str, Any]]:
        """Return the rows as they are written, without what is no row."""
        try:
            rows = json.loads(self._content())["runs"]
        except (OSError, ValueError, RecursionError, TypeError, KeyError):
            return []
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def _write(self, rows: list[dict[str, Any]]) -> None:
        content = json.dumps({"runs": rows}).encode()
        try:
            make_private(self._file.parent)
            new = self._file.with_name(f"{self._file.name}.new")
            try:
                _write_file(new, os.O_CREAT | os.O_TRUNC, content)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                # Over bytes that are there already; JSON may end with white space.
                new.unlink(missing_ok=True)
                new = self._spare
                _write_file(new, 0, content.ljust(_BLOCK))
                os.truncate(new, max(len(content), _BLOCK))
                new.replace(self._file)
                self.reserve(_BLOCK)
            else:
                new.replace(self._file)
            sync_directory(self._file.parent)
        except OSError as error:
            fault = state_fault(self._file, error)
            raise JournalError(fault.kind, fault.message, hint=fault.hint) from error


def _write_file(file: Path, flags: int, content: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | _SAFELY | flags, 0o600)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _parse(row: object) -> KeptRun | None:
    if not isinstance(row, dict):
        return None
    run = run_of(Row(row))
    value = row.get("denial")
    if run is None:
        return None
    if value is None:
        return KeptRun(run)
    # A denial that cannot be read is one all the same, of the path that is named with it.
    given = value if isinstance(value, dict) else {}
    return KeptRun(
        run,
        denial_of(Row({**given, "toplevel": store_path(given.get("toplevel")) or run.toplevel})),
    )


def _short(value: object) -> object:
    return None if isinstance(value, str) and len(value) > _MAX_TEXT else value
