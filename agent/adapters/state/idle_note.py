"""Writes the note that lets the next run take the idle path."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from typing_extensions import override

from agent import __version__
from agent.adapters.state_dir import state_fault
from agent.application import ports
from agent.lean import idle_poll
from agent.lean.hydra_urls import job_page

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from agent.domain.job import Job, Select
    from agent.domain.systems import Systems


@dataclass(frozen=True, slots=True)
class IdleNote(ports.IdleNote):
    """Writes `idle.json`: what must still hold for the host to have nothing to do.

    `interval` is how long one full run may stand for later ones; `is_logged` is false where the log
    level omits the line of an idle run. `fingerprint` is that of the settings before they were
    read, None where later runs cannot be idle. A home has no `booted_system`.
    """

    state_dir: Path
    marks_dir: Path
    job: Job
    select: Select
    host: str
    current_system: Path
    booted_system: Path | None
    profile: Path
    timeout: timedelta
    interval: timedelta
    is_logged: bool
    fingerprint: str | None

    @override
    def forget(self) -> None:
        try:
            (self.state_dir / idle_poll.NOTE).unlink(missing_ok=True)
        except OSError as error:
            raise state_fault(self.state_dir / idle_poll.NOTE, error) from error

    @override
    def write(self, build_id: int, systems: Systems) -> None:
        links = {
            str(self.current_system): systems.running,
            str(self.profile): systems.profile,
        }
        if self.booted_system is not None:
            links[str(self.booted_system)] = systems.booted
        if self.fingerprint is None or None in links.values():
            return
        try:
            marks = idle_poll.find_marks(str(self.marks_dir))
        except OSError:
            marks = {}  # the next run is a full one, and reports what is wrong with them
        instance = self.job.instance.rstrip("/")
        url = urlsplit(instance)
        names = (self.job.project, self.job.jobset, self.job.name)
        path = f"{url.path}{job_page(names, self.select)}"
        try:
            idle_poll.write_note(
                str(self.state_dir),
                {
                    "version": __version__,
                    "fingerprint": self.fingerprint,
                    "state_dir": str(self.state_dir),
                    "marks_dir": str(self.marks_dir),
                    "marks": marks,
                    "instance": instance,
                    "scheme": url.scheme,
                    "authority": url.netloc,
                    "path": path,
                    "build_id": build_id,
                    "links": links,
                    "until": time.time() + self.interval.total_seconds(),
                    "interval": self.interval.total_seconds(),
                    "timeout": self.timeout.total_seconds(),
                    "host": self.host,
                    "job": str(self.job),
                    "is_told": self.is_logged,
                },
            )
        except OSError as error:
            raise state_fault(self.state_dir / idle_poll.NOTE, error) from error
