"""The ports: what the use cases need of the world. Adapters implement them, and so do the fakes.

Every port that can fail raises the `AgentError` its docstring names, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from datetime import datetime, timedelta

    from agent.application.events import Event
    from agent.domain.activation_unit import ActivationSeen
    from agent.domain.build import Build
    from agent.domain.candidate import Candidate
    from agent.domain.check import Check, CheckResult
    from agent.domain.decide import History
    from agent.domain.errors import AgentError
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.gates import FetchPlan, FreeSpace
    from agent.domain.job import Job, Select
    from agent.domain.marks import Mark, Marks
    from agent.domain.path_record import Denial, Standing, TakenBuild
    from agent.domain.pause import Pause
    from agent.domain.policy import Action, ConfirmPolicy
    from agent.domain.reboot import Inhibitor, RebootPlan
    from agent.domain.sighting import Moment, Sighting
    from agent.domain.store_path import StorePath
    from agent.domain.systems import BootArtifacts, Systems
    from agent.domain.trust import FlakeSource


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...

    def elapsed(self) -> float:
        """Return seconds on a clock that never jumps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class EventSink(Protocol):
    """Where events go."""

    def emit(self, event: Event, /, **fields: object) -> None:
        """Log `event`; a field's name may have dots in the log (`error_kind` is `error.kind`)."""
        ...

    def bind(self, **fields: object) -> None:
        """Add `fields` to every later event."""
        ...


@dataclass(frozen=True, slots=True)
class Outlook:
    """What Hydra says about builds to come; None where it does not say."""

    newer_build_failed: bool | None = None
    gone_since_eval: int | None = None
    """The newest finished eval, when it has no such job any more."""
    is_jobset_disabled: bool | None = None
    evaluation_error: str | None = None
    """What keeps the job from being evaluated; empty where nothing does.

    It is the job's own error or one of the whole evaluation, not one of another job.
    """
    fault: AgentError | None = None
    """Why not everything could be asked."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What is newer than the build that Hydra offers; None where it does not say, or nothing is."""

    newest: Build | None = None
    """The job's build in the newest eval, finished or not."""
    waiting: int | None = None
    """The newest good build, when only the rest of its eval keeps it from being offered."""
    is_project_disabled: bool | None = None
    """Whether nothing in the project is evaluated, although its jobsets are enabled."""
    fault: AgentError | None = None
    """Why not everything could be asked."""


class Hydra(Protocol):
    """A Hydra instance. Everything raises HydraError."""

    def spare(self, wait: float | None) -> None:
        """Ask for as little as possible from now on, and nothing twice: Hydra was too busy.

        `wait`: the seconds that it asks to be left alone, where it was asked a moment ago; None
        where that is longer ago.
        """
        ...

    async def newest_good_build(self, job: Job, select: Select) -> int:
        """Return the id of the job's newest good build.

        Where there is none, the error's kind says why as far as Hydra tells: JOBSET_MISSING,
        JOBSET_RENAMED, JOBSET_DISABLED, JOBSET_NEVER_EVALUATED, JOB_MISSING, JOB_NOT_EVALUATED,
        JOB_NEVER_GOOD, JOB_NOT_BUILT_YET, BUILD_UNFINISHED.
        """
        ...

    async def build(self, build_id: int) -> Build:
        """Return a build as Hydra describes it."""
        ...

    async def locked_flake(self, build: Build) -> tuple[int, LockedFlakeReference]:
        """Return the newest existing eval of a build, and the flake it evaluated."""
        ...

    async def outlook(self, job: Job, build: Build | None) -> Outlook:
        """Return what can be known about builds to come: nothing if Hydra is spared; no fault."""
        ...

    async def pending(self, job: Job, build: Build, select: Select) -> Pending:
        """Return what is newer than a build that was offered; never raises.

        It takes more questions than `outlook`, and is for a person who wants to know.
        """
        ...


class Progress(Protocol):
    """Told how a substitution goes."""

    def update(self, paths: int, paths_expected: int, size: int, size_expected: int) -> None:
        """Note paths and bytes done, and how many there will be as far as is known."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a substitution brought: number of paths, and their bytes in the store."""

    paths: int
    size: int


class Nix(Protocol):
    """nix itself. Everything raises NixError."""

    async def fetch_source(self, flake: LockedFlakeReference) -> FlakeSource:
        """Return what a flake's source says of its inputs; none of those is fetched.

        Kinds: NIX_MISSING, EVALUATION_FAILED, FLAKE_UNREACHABLE, STORE_FULL, NIX_TIMEOUT,
        NIX_NONSENSE.
        """
        ...

    async def evaluate_toplevel(self, flake: LockedFlakeReference, host: str) -> StorePath:
        """Return the output path of the host's toplevel; nothing is built.

        Kinds: NIX_MISSING, EVALUATION_FAILED, STORE_FULL, NIX_TIMEOUT, NIX_NONSENSE.
        """
        ...

    async def plan_fetch(self, path: StorePath) -> FetchPlan:
        """Return what substituting the closure of `path` would bring; nothing is fetched.

        Where the host may build, a path in no cache is an empty plan.

        Kinds: NIX_MISSING, PATH_NOT_CACHED, CACHE_UNREACHABLE, FETCH_FAILED, NIX_TIMEOUT.
        """
        ...

    async def substituters(self) -> tuple[str, ...]:
        """Return the URLs of the substituters that are in force; never raises."""
        ...

    async def substitute(self, path: StorePath, progress: Progress) -> Fetched:
        """Bring the closure of `path` into the store, and keep it from the garbage collector.

        Kinds: as `plan_fetch`, and SIGNATURE_UNTRUSTED, STORE_FULL.
        """
        ...


class Resolver(Protocol):
    """The name service of this host."""

    async def addresses(self, host: str) -> tuple[str, ...] | None:
        """Return the addresses of a host: () where it has none, None where nobody can tell now."""
        ...


@dataclass(frozen=True, slots=True)
class ActivationExit:
    """How `nixos-rebuild ACTION` ended; it does not tell how far it got.

    `returncode` is switch-to-configuration's own where it ran, negative for a signal. `tail` is
    the end of stderr.
    """

    returncode: int
    tail: str
    timed_out: bool = False
    refused: str = ""
    """The options that it did not know: it has done nothing then."""
    script_failed: bool = False
    """The activation script is known to have broken off, though no sentence says so: a home's."""


class NixosRebuild(Protocol):
    """nixos-rebuild, or what stands in its place for a home."""

    def sweep(self) -> None:
        """Remove what builds that were killed have left; the caller holds the agent's lock."""
        ...

    async def build(self, flake: LockedFlakeReference, host: str) -> StorePath:
        """Return the toplevel that `nixos-rebuild build` gives; with all in the store it is quick.

        Raises NixError: NIXOS_REBUILD_MISSING, NIXOS_REBUILD_OPTIONS, BUILD_ERROR, NIX_TIMEOUT,
        NIX_NONSENSE.
        """
        ...

    async def activate_flake(
        self,
        action: Action,
        flake: LockedFlakeReference,
        host: str,
        specialisation: str | None = None,
    ) -> ActivationExit:
        """Run `nixos-rebuild ACTION --flake`; raises only for NIXOS_REBUILD_MISSING.

        A specialisation can be given where it is to run at once: with `switch` and `test`.
        """
        ...

    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        """Run `nixos-rebuild ACTION --store-path`; raises only for NIXOS_REBUILD_MISSING."""
        ...


class Host(Protocol):
    """The host's own files and links. Everything raises HostError."""

    def systems(self) -> Systems:
        """Return running, booted and profile as they are now. HOST_UNREADABLE."""
        ...

    def platform(self) -> str | None:
        """Return nix's name of this host's platform, as its running system says."""
        ...

    def boot_artifacts(self, toplevel: StorePath) -> BootArtifacts | None:
        """Return what only a reboot can change, None if `toplevel` is not (wholly) there."""
        ...

    def switch_inhibitors(self, toplevel: StorePath) -> Mapping[str, str] | None:
        """Return a system's switch inhibitors by name; None where it has none, or none to read."""
        ...

    def counterpart(self, toplevel: StorePath) -> StorePath:
        """Return the specialisation of `toplevel` that the host has booted, or `toplevel`."""
        ...

    def specialisation_name(self, path: StorePath) -> str | None:
        """Return by which name a generation of the profile has `path` as its specialisation."""
        ...

    def specialisations(self, toplevel: StorePath) -> Mapping[str, StorePath]:
        """Return the specialisations of `toplevel` by name, as far as they are in the store."""
        ...

    def equivalents(self, toplevel: StorePath) -> frozenset[StorePath]:
        """Return `toplevel` and its specialisations, as far as they are in the store."""
        ...

    def hostname_of(self, toplevel: StorePath) -> str | None:
        """Return the host name that a system would set, None where it sets none."""
        ...

    def free_space(self) -> FreeSpace:
        """Return the room in the store's file system and on the boot partition."""
        ...

    def touched_units(self, old: StorePath, new: StorePath) -> frozenset[str]:
        """Return the names of the units that are new or different in the system `new`."""
        ...

    def has_unit(self, toplevel: StorePath, unit: str) -> bool:
        """Return whether a system has a unit file of that name."""
        ...

    def exists(self, toplevel: StorePath) -> bool:
        """Return whether a system is in the store."""
        ...

    def changed_at(self) -> datetime | None:
        """Return when the links to the running system and the profile were made; the later."""
        ...

    def booted_at(self) -> datetime | None:
        """Return when the link to the booted system was made, in this boot."""
        ...

    def default_gateways(self) -> tuple[str, ...]:
        """Return the addresses of the default gateways, IPv4 first; none without a route."""
        ...

    async def reboot(self, *, forced: bool = False) -> None:
        """Ask for a reboot and return at once; `forced`: past whoever blocks it. REBOOT_FAILED."""
        ...


class Profile(Protocol):
    """The system profile. Everything raises HostError (ROLL_BACK_FAILED)."""

    async def set(self, toplevel: StorePath) -> None:
        """Make `toplevel` the newest generation, unless it is the profile already."""
        ...

    async def remove_generations(self, toplevel: StorePath) -> int:
        """Remove all generations but the present one that are `toplevel`; return how many."""
        ...

    def generation_before(self) -> StorePath | None:
        """Return the system of the newest generation older than the present one."""
        ...


_AT_REST = ("inactive", "failed", "maintenance")
"""Of systemd's states of units (systemd(1)), those without a program."""


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """What systemd says of a unit, in its own words; `exit_status` is of its main process.

    It is always an answer: where systemd gives none, there is no status.
    """

    load_state: str = "not-found"
    active_state: str = "inactive"
    sub_state: str = "dead"
    result: str = "success"
    exit_status: int = 0

    @property
    def is_at_work(self) -> bool:
        """Whether its program runs, is about to, or has not ended yet."""
        return self.active_state not in _AT_REST and not self.sub_state.startswith("auto-restart")


class Systemd(Protocol):
    """The service manager. What raises, raises HostError.

    None is always the want of an answer: systemd is not there, did not answer in time, or answered
    what cannot be read. It decides nothing.
    """

    @property
    def has_host_below(self) -> bool:
        """Whether this is a user's manager, on a host with an agent of its own."""
        ...

    async def failed_units(self) -> frozenset[str] | None:
        """Return the units that have failed, or restart after a failure; None if unknown."""
        ...

    async def started_by_timers(self, units: frozenset[str]) -> frozenset[str] | None:
        """Return those of `units` that are oneshots which a timer of theirs has started last.

        None if that is unknown.
        """
        ...

    async def status(self, unit: str) -> UnitStatus | None:
        """Return the state of a unit; None if systemd gives no answer."""
        ...

    async def start(self, unit: str, *, afresh: bool = False) -> bool:
        """Start a unit again, without waiting for it; False if systemd gives no answer.

        One that is at work is left alone, unless it is to be begun `afresh`. CONFIRM_UNIT_FAILED:
        systemd says that it cannot start.
        """
        ...

    async def start_later(self, unit: str) -> None:
        """Ask for a unit to be started, and wait for nothing; never raises."""
        ...

    async def is_clock_synchronised(self) -> bool | None:
        """Return whether the clock is synchronised, None where nobody knows."""
        ...

    async def arm(self, delay: timedelta, run_id: str, toplevel: StorePath) -> None:
        """Let the dead-man look at this upgrade after `delay`; replaces an earlier timer.

        It outlives the agent, the login session and the switch. DEAD_MAN_UNARMED, SYSTEMD_SILENT.
        """
        ...

    async def disarm(self) -> None:
        """Remove the dead-man's timer; never raises."""
        ...

    async def wake(self, at: datetime) -> None:
        """Start the upgrade unit at `at`, in place of any earlier wish; never raises."""
        ...

    async def is_host_upgrading(self) -> bool | None:
        """Return whether the system below a home is being upgraded; None if that is unknown."""
        ...

    async def is_activating(self) -> bool | None:
        """Return whether a switch-to-configuration is at work, no matter who has started it.

        None if that is unknown.
        """
        ...

    async def activation(self) -> ActivationSeen:
        """Return what can be seen of the activation that is at work."""
        ...

    def has_work_left(self) -> bool:
        """Return whether the last switch or test was stopped before it had come to all units.

        Never raises. While one is at work it has work left, too.
        """
        ...

    async def begun(self, paths: frozenset[StorePath]) -> str:
        """Wait until the transient unit runs a program of one of `paths`; return its InvocationID.

        Without such a unit it waits for ever: it is to be cancelled. Never raises.
        """
        ...

    async def stop_activation(self, invocation: str) -> None:
        """Stop the transient unit while it is the one with this InvocationID; never raises.

        Returns when nothing is at work any more, or when that is not to be had.
        """
        ...

    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        """Run a system's switch-to-configuration as nixos-rebuild does. ROLL_BACK_FAILED."""
        ...


class Sightings(Protocol):
    """How long something has been seen on this host, by a name. Nothing raises."""

    def moment(self, now: datetime, *, is_clock_right: bool) -> Moment:
        """Return the present moment, given the wall clock's part of it."""
        ...

    def last(self, name: str) -> Sighting | None:
        """Return what was seen last, None if nothing was, or nobody knows any more."""
        ...

    def keep(self, name: str, sighting: Sighting) -> None:
        """Remember what is seen now."""
        ...

    def forget(self, name: str) -> None:
        """Note that nothing of the kind is there: the next sighting is the first."""
        ...


class Logind(Protocol):
    """Who may mind a reboot. Nothing raises."""

    async def inhibitors(self) -> tuple[Inhibitor, ...] | None:
        """Return who blocks a shutdown; None if that is unknown."""
        ...

    async def people(self) -> tuple[str, ...] | None:
        """Return the names of those who are logged in; greeters are nobody.

        None: nobody is known, but people may be there.
        """
        ...

    async def tell_people(self, text: str) -> None:
        """Write to everybody's terminal."""
        ...


class Loader(Protocol):
    """The boot loader. Nothing raises."""

    def fallback(self, toplevel: StorePath | None = None) -> str | None:
        """Return the name of the loader, if it can start a system just once, and then go back.

        It goes back to `toplevel`, or else to what is its default now.
        """
        ...

    def default(self) -> StorePath | None:
        """Return the system that is started by default, None where that is unknown."""
        ...

    def can_be_default(self, toplevel: StorePath) -> bool:
        """Return whether there is an entry of `toplevel` that `make_default` can choose."""
        ...

    async def make_default(self, toplevel: StorePath) -> bool:
        """Let the loader start `toplevel`, of which it has an entry; False if it cannot be had."""
        ...

    async def boot_once(self, toplevel: StorePath) -> bool:
        """Let the next boot, and only that, be of `toplevel`; False if that cannot be had."""
        ...

    async def forget_once(self) -> None:
        """Take back what `boot_once` has set: the next boot is of the default."""
        ...

    async def forget_choices(self) -> None:
        """Remove what stands above the default of the loader's files."""
        ...

    async def bless(self) -> None:
        """Tell that this boot was a good one, where the loader counts tries."""
        ...


class Agenda(Protocol):
    """What waits on this host. Everything raises JournalError, as `Journal` does."""

    def pause(self, now: datetime) -> Pause | None:
        """Return the pause that is in force."""
        ...

    def set_pause(self, pause: Pause | None) -> None:
        """Begin a pause in place of any other, or end it."""
        ...

    def reboot_plan(self, toplevel: StorePath) -> RebootPlan:
        """Return what is remembered of the reboot into a system; nothing of it may be known."""
        ...

    def set_reboot_plan(self, plan: RebootPlan | None) -> None:
        """Remember this reboot and no other."""
        ...

    def is_boot_cleaned(self, toplevel: StorePath) -> bool:
        """Return whether the boot partition has been cleaned while this system ran."""
        ...

    def note_boot_cleaned(self, toplevel: StorePath) -> None:
        """Remember that the boot partition is cleaned while this system runs."""
        ...


class MarkStore(Protocol):
    """The marks. Everything raises HostError (MARKS_UNUSABLE); each change is one rename."""

    def read(self) -> Marks:
        """Return where the marks point; what is no mark in a mark's place is named, not raised."""
        ...

    def pending_for(self) -> timedelta | None:
        """Return how long the host was up with the present `pending`, or `rolling-back`.

        It counts from one call to the next within a boot, whatever the clock is set to; None where
        neither mark is there.
        """
        ...

    def specialisation(self) -> str | None:
        """Return the name that `note_specialisation` has left; None without, or if unreadable.

        It is empty for the system as such.
        """
        ...

    def note_specialisation(self, name: str | None) -> None:
        """Leave the name of the specialisation that runs, empty for none; None: no note."""
        ...

    def set(self, mark: Mark, toplevel: StorePath) -> None:
        """Let a mark point to `toplevel`, whatever it was."""
        ...

    def remove(self, mark: Mark) -> None:
        """Remove a mark; one that is not there is no error."""
        ...

    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        """Rename a mark that points to `toplevel`; of several who try, exactly one is told True."""
        ...


class IgnoredGate(NamedTuple):
    """A gate that held a run, and that a person has passed."""

    gate: str
    by: str
    """Who has done so."""
    because: str
    """Why, as that person says."""
    held: str
    """What the gate said."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One notable run, as the journal keeps it. Instants are aware, in UTC."""

    run_id: str
    started_at: datetime
    host: str
    job: str
    """`Job.key`"""
    outcome: str
    """As in the `run.finished` event, or the phase that is under way; what was reached, such as
    `staged`, where only something after it failed."""
    finished_at: datetime | None = None
    decision: str | None = None
    action: str | None = None
    build_id: int | None = None
    eval_id: int | None = None
    flake: str | None = None
    toplevel: str | None = None
    boot_id: str | None = None
    """The boot in which the host was touched."""
    previous: str | None = None
    """The running system before; None if nothing on the host was touched."""
    reasons: tuple[tuple[str, str], ...] = ()
    baseline: str | None = None
    """`Baseline.serialise()`: how things were just before the activation."""
    invocation: str | None = None
    """systemd's InvocationID of the last activation that the agent has started for it."""
    fault: str | None = None
    """`Fault` of a failed or rolled-back upgrade that had touched the host."""
    sets_measure: bool = False
    """A person has passed the gate `downgrade`: builds before this one count no more."""
    ignored_gates: tuple[IgnoredGate, ...] = ()
    """What held the run, and a person has let it pass."""
    target: str | None = None
    """Where a roll-back has gone, or is going: the system that is brought back."""
    error_kind: str | None = None
    error_message: str | None = None
    exit_code: int | None = None
    repeats: int = 0
    """How many later runs ended in the very same way, and were not given a row."""


class Journal(Protocol):
    """The history of this host. Everything raises JournalError.

    Kinds: STATE_READ_ONLY, STATE_FULL, STATE_UNUSABLE, JOURNAL_TOO_NEW.
    """

    def note_contact(self, now: datetime) -> None:
        """Leave the time of the last answer of Hydra, outside the history."""
        ...

    def last_contact(self) -> datetime | None:
        """Return when Hydra last answered; None where nobody can say. It never raises."""
        ...

    def prepare(self) -> None:
        """Make sure that the history can be written; a damaged file is set aside."""
        ...

    def record(self, run: RunRecord) -> None:
        """Write or rewrite the row of `run.run_id`; on disk when this returns.

        A finished run that ended exactly as the last row did, without an effect on the host,
        only raises that row's `repeats` and `finished_at`.
        """
        ...

    def runs(self, limit: int) -> tuple[RunRecord, ...]:
        """Return the newest rows, the newest first."""
        ...

    def under_way(self) -> RunRecord | None:
        """Return the newest row whose outcome is one of `UNDER_WAY`."""
        ...

    def standing_of(self, toplevel: StorePath, now: datetime) -> Standing:
        """Return what a path has earned here.

        Suspicions and roll-backs count since it was last confirmed, or a person allowed it.
        """
        ...

    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        """Deny a path; with the row of its run, both are written or neither."""
        ...

    def allow(self, toplevel: StorePath, reason: str, by: str, now: datetime) -> bool:
        """Lift a denial, and forget suspicions and roll-backs; False if nothing was held."""
        ...

    def denials(self, now: datetime) -> tuple[Denial, ...]:
        """Return the denials in force, the newest first."""
        ...

    def toplevel_of(self, build_id: int) -> StorePath | None:
        """Return the path of a build that the history knows."""
        ...

    def newest_taken(self, job: Job) -> TakenBuild | None:
        """Return the build of `job` with the highest id that this host has activated or staged.

        Builds before one that `sets_measure`, or before `forget_taken`, count no more.
        """
        ...

    def forget_taken(self, job: Job, reason: str, by: str, now: datetime) -> TakenBuild | None:
        """Let the builds that were taken so far count no more; return the newest of them.

        None, and nothing is written, where none counts.
        """
        ...

    def history_of(self, candidate: Candidate) -> History:
        """Return what was done with a candidate, or built in its place, on this host."""
        ...


class Prober(Protocol):
    """Runs health checks."""

    def room_for(self, check: Check) -> AbstractAsyncContextManager[None]:
        """Wait for room to run `check`: sockets are not without number. Its time begins inside.

        What it needs is loaded by the call, not within: it takes no time from others. Never raises.
        """
        ...

    async def probe(self, check: Check) -> CheckResult:
        """Return what came of one check; never raises, never takes longer than its timeout."""
        ...


class Wait(StrEnum):
    """What a confirmation waits for."""

    TURN = "turn"
    """Another agent, or an activation, is at work."""
    LATER = "later"
    """It could not judge the system, and looks again after a while."""


class SystemSettings(Protocol):
    """What systems bring as their own settings, before they run. Nothing raises."""

    def confirm_of(self, toplevel: StorePath) -> ConfirmPolicy | None:
        """Return how a system wants to be confirmed; None where that cannot be read.

        What of it is not understood is as in the settings of the agent that runs.
        """
        ...

    def dropped_canaries(self, toplevel: StorePath) -> frozenset[str]:
        """Return the names of this agent's canaries that a system's settings name no more.

        None is dropped where that is not clear, nor one that was asked for on the command line.
        """
        ...


class Lock(Protocol):
    """One agent at a time."""

    def hold(self) -> AbstractContextManager[None]:
        """Hold the lock; LockedError (LOCKED) says who has it, HostError why it can't be taken.

        To let go of it never raises.
        """
        ...

    def waiting(self, wait: Wait) -> AbstractContextManager[None]:
        """Let others see that a confirmation waits; never raises."""
        ...

    def is_waiting(self, wait: Wait) -> bool | None:
        """Return whether a confirmation waits right now; None if that is unknown."""
        ...


class IdleNote(Protocol):
    """What lets the next run find out with one request that there is nothing to do."""

    def forget(self) -> None:
        """Let the next run be a full one; HostError if that cannot be made sure."""
        ...

    def write(self, build_id: int, systems: Systems) -> None:
        """Note that nothing is to do while Hydra's newest build and the host's links are these.

        HostError if that can't be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a use case may need of the world."""

    clock: Clock
    sink: EventSink
    hydra: Hydra
    nix: Nix
    resolver: Resolver
    nixos_rebuild: NixosRebuild
    host: Host
    journal: Journal
    prober: Prober
    lock: Lock
    progress: Progress
    idle_note: IdleNote
    marks: MarkStore
    systemd: Systemd
    profile: Profile
    logind: Logind
    loader: Loader
    agenda: Agenda
    system_settings: SystemSettings
    sightings: Sightings
