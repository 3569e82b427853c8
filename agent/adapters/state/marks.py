"""The marks: links that are roots for the garbage collector, each changed by one rename."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.state.stopwatch import UPTIME, Stopwatch, Uptime
from agent.adapters.whole_file import replace_file, sync_directory
from agent.application.ports import MarkStore
from agent.domain.errors import HostError, Kind
from agent.domain.marks import UNREADABLE_HINT, Mark, Marks
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path

    from agent.domain.store_path import StorePath

_MAX_NAME: Final = 256
_UNDECIDED: Final = (Mark.PENDING, Mark.ROLLING_BACK)
_SPECIALISATION: Final = ".specialisation"
_NAME: Final = re.compile(r"[A-Za-z0-9_.+?=-]{0,200}")
"""The characters of a file name in the store."""
_WATCH: Final = ".pending-for"
"""A file beside the marks; the garbage collector does not take it for a root."""


class _UnreadableError(HostError):
    """In the place of a mark there is something other than a link to a store path."""


class MarkLinks(MarkStore):
    """Keeps the marks in `marks_dir`, which is made where it is missing.

    Of several processes that rename one mark exactly one succeeds: the kernel sees to it.
    """

    def __init__(self, marks_dir: Path, store_dir: Path, uptime: Uptime = UPTIME) -> None:
        self._dir = marks_dir
        self._store_dir = str(store_dir)
        self._watch = Stopwatch(marks_dir / _WATCH, uptime)

    @override
    def read(self) -> Marks:
        found: dict[str, StorePath | None] = {}
        unreadable: list[tuple[Mark, str]] = []
        for mark in Mark:
            try:
                found[mark.replace("-", "_")] = self._read(mark)
            except _UnreadableError as error:
                unreadable.append((mark, error.message))
        return Marks(**found, unreadable=tuple(unreadable))

    @override
    def pending_for(self) -> timedelta | None:
        # The link's inode and time, which a rename keeps, say that it still is the same one; its
        # time says nothing else, since the clock may have been set after a boot.
        for mark in _UNDECIDED:
            with self._errors_translated(), suppress(FileNotFoundError):
                link = (self._dir / mark).lstat()
                return self._watch.look(f"{link.st_ino}:{link.st_mtime_ns}")
        return None

    @override
    def specialisation(self) -> str | None:
        try:
            with (self._dir / _SPECIALISATION).open("rb") as stream:
                name = stream.read(_MAX_NAME).decode("ascii").strip()
        except (OSError, ValueError):
            return None
        return name if _NAME.fullmatch(name) else None

    @override
    def note_specialisation(self, name: str | None) -> None:
        file = self._dir / _SPECIALISATION
        if name == self.specialisation():
            return
        with self._errors_translated():
            if name is None:
                file.unlink(missing_ok=True)
            else:
                self._dir.mkdir(parents=True, exist_ok=True)
                replace_file(file, f"{name}\n")
            sync_directory(self._dir)

    @override
    def set(self, mark: Mark, toplevel: StorePath) -> None:
        new = self._dir / f".{mark}.new"
        with self._errors_translated():
            self._dir.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.symlink_to(toplevel)
            self._make_way(mark)
            new.replace(self._dir / mark)
            sync_directory(self._dir)
        if mark is Mark.PENDING:
            self.pending_for()

    @override
    def remove(self, mark: Mark) -> None:
        with self._errors_translated():
            if (self._dir / mark).is_symlink():
                (self._dir / mark).unlink(missing_ok=True)
                self._try_sync()
        if mark in _UNDECIDED:
            self._watch.forget()

    @override
    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        if self._read(mark) != toplevel:
            return False
        with self._errors_translated():
            self._make_way(to)
            try:
                (self._dir / mark).rename(self._dir / to)
            except FileNotFoundError:
                return False
            self._try_sync()
        if mark in _UNDECIDED and to not in _UNDECIDED:
            self._watch.forget()
        return True

    def _read(self, mark: Mark) -> StorePath | None:
        link = self._dir / mark
        with self._errors_translated():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise _unreadable(f"the mark {link} is no link") from error
        path = parse_store_path(target, self._store_dir)
        if path is None:
            where = f"{target[:200]!r}, which is no path of {self._store_dir}"
            raise _unreadable(f"the mark {link} leads to {where}")
        return path

    def _make_way(self, mark: Mark) -> None:
        """Move a directory out of a mark's place; a link or a file is replaced by the rename."""
        place = self._dir / mark
        if place.is_dir() and not place.is_symlink():
            place.rename(self._dir / f".{mark}.unreadable")

    def _try_sync(self) -> None:
        """Sync a change that is made and visible already, if possible.

        It must not fail: the caller would believe that nothing was decided.
        """
        with suppress(OSError):
            sync_directory(self._dir)

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HostError(
                Kind.MARKS_UNUSABLE,
                f"cannot use the marks in {self._dir}: {error.strerror}"
                f" ({error.filename or self._dir})",
                hint="the agent needs links there, and to write them, to keep the host safe",
            ) from error


def _unreadable(what: str) -> _UnreadableError:
    return _UnreadableError(Kind.MARKS_UNUSABLE, what, hint=UNREADABLE_HINT)
