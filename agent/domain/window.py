"""Windows: the hours in which something may be done, in a time zone's wall clock time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, tzinfo

_DAY: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=7)
"""The longest window: a longer one would overlap with itself."""


@dataclass(frozen=True, slots=True)
class Window:
    """Opens on each of `days` at `start` in `zone`, for `length` of elapsed time.

    A start that is skipped by daylight saving time is as long after midnight as usual; of one that
    occurs twice, the first counts. `length` is not affected, and is at most `LONGEST`.
    """

    days: frozenset[int]
    """The days on which it opens; Monday is 0."""
    start: time
    length: timedelta
    zone: tzinfo

    def opening(self, day: date) -> Span:
        """Return when the window of `day` is open."""
        start = datetime.combine(day, self.start, self.zone).astimezone(UTC)
        return Span(start, start + self.length)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` until just before `end`; both aware, in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """Several windows, of which each host uses a part; without any, it is always open."""

    windows: tuple[Window, ...] = ()
    splay: timedelta = timedelta(0)
    """Each host begins up to this much after a window opens, always by the same amount."""
    margin: timedelta = timedelta(0)
    """At least this much of the window must be left to begin something."""

    def is_open(self, now: datetime, host: str, *, has_begun: bool = False) -> bool:
        """Whether something may be begun now; splay and margin do not apply to what `has_begun`."""
        if not self.windows:
            return True
        if has_begun:
            return any(span.start <= now < span.end for span in self._openings(now))
        return any(now >= span.start for span in self._spans(now, host))

    def next_opening(self, now: datetime, host: str) -> datetime | None:
        """Return when something may next be begun: `now` if it may be begun now, None if never."""
        if self.is_open(now, host):
            return now
        return min((span.start for span in self._spans(now, host)), default=None)

    def _spans(self, now: datetime, host: str) -> Iterator[Span]:
        """Yield the intervals in which `host` may begin something, now or later, unsorted."""
        shift = self.splay * place_of(host)
        for span in _joined(self._openings(now)):
            usable = Span(span.start + shift, span.end - self.margin)
            if now < usable.end and usable.start < usable.end:
                yield usable

    def _openings(self, now: datetime) -> Iterator[Span]:
        """Yield all that are open now, may overlap with those, or open in the following week."""
        for window in self.windows:
            today = now.astimezone(window.zone).date()
            for days in range(-2 * LONGEST.days - 1, 2 * LONGEST.days + 2):
                day = today + days * _DAY
                if day.weekday() in window.days:
                    yield window.opening(day)


def place_of(host: str) -> float:
    """Return a host's position in a splay, from 0 to just below 1, always the same."""
    digest = hashlib.sha256(host.encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def _joined(spans: Iterator[Span]) -> Iterator[Span]:
    """Merge intervals that touch or overlap."""
    current: Span | None = None
    for span in sorted(spans, key=lambda span: span.start):
        if current is None:
            current = span
        elif span.start <= current.end:
            current = Span(current.start, max(current.end, span.end))
        else:
            yield current
            current = span
    if current is not None:
        yield current
