"""The ports to what the agent remembers of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent.domain.candidate import Candidate
    from agent.domain.choose import History
    from agent.domain.job import Job
    from agent.domain.path_record import Denial, Standing, TakenBuild
    from agent.domain.pause import Pause
    from agent.domain.reboot import RebootPlan
    from agent.domain.run_record import RunRecord
    from agent.domain.sighting import Moment, Sighting
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


class Sightings(Protocol):
    """How long something has been seen on this host, by a name. Nothing raises."""

    def moment(self, now: datetime, *, is_clock_right: bool) -> Moment:
        """Return the present moment, given the wall clock's part of it."""

    def last(self, name: str) -> Sighting | None:
        """Return what was seen last, None if nothing was, or that is unknown."""

    def keep(self, name: str, sighting: Sighting) -> None:
        """Remember what is seen now."""

    def forget(self, name: str) -> None:
        """Note that it is gone: the next sighting counts as the first."""


class GoodBuilds(Protocol):
    """The good builds that were seen on this host and not taken. Nothing raises."""

    def read(self, job: Job) -> tuple[Candidate, ...]:
        """Return those of a job, the newest first; none where they cannot be read."""

    def keep(self, job: Job, builds: Sequence[Candidate]) -> None:
        """Remember these builds of `job`, and no others."""


class JournalReader(Protocol):
    """What the history of this host says, and what waits on it. Everything raises JournalError."""

    def note_contact(self, now: datetime) -> None:
        """Write down when Hydra last answered, outside the history."""

    def last_contact(self) -> datetime | None:
        """Return when Hydra last answered; None if unknown. It never raises."""

    def runs(self, limit: int) -> tuple[RunRecord, ...]:
        """Return the newest rows, the newest first."""

    def under_way(self) -> RunRecord | None:
        """Return the newest row whose outcome is one of `UNDER_WAY`."""

    def standing_of(self, toplevel: StorePath, now: datetime) -> Standing:
        """Return what this host has recorded for or against a path.

        Suspicions and roll-backs count since it was last confirmed, or an administrator allowed it.
        """

    def denials(self, now: datetime) -> tuple[Denial, ...]:
        """Return the denials in force, the newest first."""

    def toplevel_of(self, build_id: int) -> StorePath | None:
        """Return the path of a build that the history knows."""

    def newest_taken(self, job: Job) -> TakenBuild | None:
        """Return the build of `job` with the highest id that this host has activated or staged.

        Builds before one that `sets_measure`, or before `forget_taken`, count no more.
        """

    def history_of(self, candidate: Candidate) -> History:
        """Return what was done with a candidate, or built in its place, on this host."""

    def pause(self, now: datetime) -> Pause | None:
        """Return the pause that is in force."""

    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        """Return what is remembered of the reboot into a system; nothing of it may be known."""


class Journal(JournalReader, Protocol):
    """The history of this host, and what waits on it. Everything raises JournalError.

    Kinds: STATE_READ_ONLY, STATE_FULL, STATE_UNUSABLE, JOURNAL_TOO_NEW.
    """

    def prepare(self) -> None:
        """Make sure that the history can be written; a damaged file is set aside."""

    def record(self, run: RunRecord) -> None:
        """Write or rewrite the row of `run.run_id`; on disk when this returns.

        A finished run that ended exactly as the last row did, without an effect on the host,
        only raises that row's `repeats` and `finished_at`.
        """

    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        """Deny a path; with the row of its run, both are written or neither."""

    def allow(self, toplevel: StorePath, reason: str, by: str, now: datetime) -> bool:
        """Lift a denial, and forget suspicions and roll-backs; False if nothing was held."""

    def forget_taken(self, job: Job, reason: str, by: str, now: datetime) -> TakenBuild | None:
        """Stop counting the builds that were taken so far; return the newest of them.

        None, and nothing is written, where none counts.
        """

    def set_pause(self, pause: Pause | None) -> None:
        """Begin a pause in place of any other, or end it."""

    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        """Remember this reboot and no other."""

    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        """Return whether the boot partition has been cleaned while this system ran."""

    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        """Remember that the boot partition is cleaned while this system runs."""


class IdleNote(Protocol):
    """What lets the next run find out with one request that there is nothing to do."""

    def forget(self) -> None:
        """Make the next run a full one; HostError if that is not possible."""

    def write(self, build_id: int, systems: Systems) -> None:
        """Note that nothing is to do while Hydra's newest build and the host's links are these.

        HostError if that can't be written.
        """
