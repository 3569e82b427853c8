"""Keeps how long something has been seen on this host, in small files beside the marks."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.state.stopwatch import UPTIME, Uptime
from agent.adapters.whole_file import read_start, replace_file
from agent.application.ports import Sightings
from agent.domain.sighting import Moment, Sighting

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE: Final = 4096
_LONGEST: Final = timedelta(days=36_500)
"""No host is older: a longer time is damage, and would overflow."""
_PREFIX: Final = "seen-"
"""The garbage collector does not take such files for roots."""


class SightingFiles(Sightings):
    """Writes one file for each name into `directory`; one that cannot be read counts as not there.

    Nothing raises: where it cannot be written, each look is the first.
    """

    def __init__(self, directory: Path, uptime: Uptime = UPTIME) -> None:
        self._directory = directory
        self._uptime = uptime

    @override
    def moment(self, now: datetime, *, is_clock_right: bool) -> Moment:
        uptime = timedelta(seconds=self._uptime.seconds())
        return Moment(now, is_clock_right, self._uptime.boot_id(), uptime)

    @override
    def last(self, name: str) -> Sighting | None:
        try:
            return _parse(read_start(self._file(name), _MAX_FILE))
        except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None

    @override
    def keep(self, name: str, sighting: Sighting) -> None:
        file = self._file(name)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, _serialise(sighting))

    @override
    def forget(self, name: str) -> None:
        with suppress(OSError):
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._directory / f"{_PREFIX}{name}"


def _serialise(sighting: Sighting) -> str:
    at = sighting.at
    return json.dumps(
        {
            "about": sighting.about,
            "age": sighting.age.total_seconds(),
            "now": at.now.isoformat(),
            "is_clock_right": at.is_clock_right,
            "boot_id": at.boot_id,
            "uptime": at.uptime.total_seconds(),
        }
    )


def _parse(text: bytes) -> Sighting:
    """Return a sighting as it was written.

    Raises:
        ValueError, TypeError, KeyError, RecursionError, OverflowError: it is none.
    """
    fields = json.loads(text)
    now = datetime.fromisoformat(fields["now"])
    age, uptime = (timedelta(seconds=fields[name]) for name in ("age", "uptime"))
    about, boot_id = fields["about"], fields["boot_id"]
    if now.tzinfo is None or min(age, uptime) < timedelta(0) or max(age, uptime) > _LONGEST:
        raise ValueError("no sighting")
    if not isinstance(about, str) or not isinstance(boot_id, str):
        raise TypeError("no sighting")
    at = Moment(now.astimezone(UTC), fields["is_clock_right"] is True, boot_id, uptime)
    return Sighting(about, age, at)
