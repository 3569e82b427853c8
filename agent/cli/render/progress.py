"""Shows the progress of a substitution: a bar on a terminal, otherwise occasional log lines."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.application import events
from agent.application.ports import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.application.ports import EventSink

_INTERVAL: Final = 10.0


class LoggedProgress(Progress):
    """Logs `fetch.progressed`, at most every ten seconds of the clock `elapsed`."""

    def __init__(self, sink: EventSink, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._elapsed = elapsed
        self._last = elapsed()

    @override
    def update(self, paths: int, paths_expected: int, size: int, size_expected: int) -> None:
        now = self._elapsed()
        if now - self._last >= _INTERVAL:
            self._last = now
            self._sink.emit(
                events.FETCH_PROGRESSED,
                paths=paths,
                paths_expected=paths_expected,
                bytes=size,
                bytes_expected=size_expected,
            )


@contextmanager
def progress_for(sink: EventSink, *, on_terminal: bool) -> Iterator[Progress]:
    """Yield the progress display that suits the output."""
    if not on_terminal:
        yield LoggedProgress(sink)
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.hide()


class Bar(Progress):
    """A bar on the terminal, shown only while something is being fetched."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("fetching"),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TextColumn("{task.fields[paths]} paths"),
            # rich's own console keeps the first stream and environment that it was used with.
            console=Console(),
            transient=True,
        )
        self._task = self._bar.add_task("fetch", total=None, paths="")

    @override
    def update(self, paths: int, paths_expected: int, size: int, size_expected: int) -> None:
        if paths_expected == 0 or paths >= paths_expected:
            self.hide()
            return
        self._bar.update(
            self._task,
            completed=size,
            total=size_expected or None,
            paths=f"{paths}/{paths_expected}",
        )
        self._bar.start()

    def hide(self) -> None:
        """Remove the bar."""
        self._bar.stop()
