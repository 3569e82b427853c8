"""Every event that the agent can log: names, levels, fields.

`docs/reference/events.md` is made from this table, and that of `flake_update/events.py`. An event
is a fact in the past tense with fields, never prose; `host`, `run_id` and `job` are bound to all of
a run's events, `build_id` to those after a build was chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event: `fields` maps each field that it may carry to its meaning."""

    name: str
    level: Level
    meaning: str
    fields: dict[str, str]


def event_of(level: Level, name: str, meaning: str, /, **fields: str) -> Event:
    """Return an event; each keyword is a field, and what it means."""
    return Event(name, level, meaning, fields)


def events_among(values: Iterable[object]) -> tuple[Event, ...]:
    """Return the events among the values of a module, by name."""
    found = (value for value in values if isinstance(value, Event))
    return tuple(sorted(found, key=lambda event: event.name))


def by_logged_name(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields by their names in the log, where `error_kind` and its like are `error.kind`."""
    return {re.sub("^error_", "error.", name): value for name, value in fields.items()}


_debug = partial(event_of, "debug")
_info = partial(event_of, "info")
_warning = partial(event_of, "warning")
_error = partial(event_of, "error")

ERROR: Final = {
    "error.kind": "stable name of the fault",
    "error.message": "what happened, and why",
    "error.hint": "what to do about it, if anything",
}
_CANDIDATE: Final = {
    "build_id": "Hydra's build",
    "eval_id": "the build's newest eval; null if none was requested",
    "flake": "locked flake reference of that eval",
    "toplevel": "store path of the system",
}

RUN_STARTED = _debug(
    "run.started",
    "A run has begun.",
    action="the configured action",
    strategy="flake or store-path",
    dry_run="true or false",
)
RUN_FINISHED = _info(
    "run.finished",
    "The run's summary: exactly one per run, and always its last event.",
    decision="done, hold, upgrade, await-reboot or reboot; null if it failed before",
    outcome="nothing-to-do, held, confirmed, pending, rolled-back, staged, dry-activated, dry-run,"
    " awaits-reboot, rebooting or failed",
    reasons="list of {name, reason}: why it was held, waits or was rolled back",
    exit_code="exit code of the process",
    durations="seconds by step: recover, observe, gates, verify, fetch, build, recheck, baseline,"
    " activate, confirm, roll-back, loader, total",
    bytes_fetched="bytes added to the store by substitution",
    paths_fetched="store paths substituted",
    action="the action performed, if any",
    running="running system at the end",
    booted="booted system",
    profile="profile's system at the end",
    held="list of {build_id, toplevel, reasons, opens_at}: the builds that are held, if there are"
    " any: those that are newer than the one that is taken, or all",
    gates="list of {gate, open, reason}, in a dry run",
    **_CANDIDATE,
    **ERROR,
)
RUN_IDLE = _info(
    "run.idle",
    "The idle path found nothing to do: Hydra's newest build is the one this host runs.",
    build_id="Hydra's newest build",
    run_id="the run",
    host="the host",
    job="its job",
    durations="seconds by step: total",
)
RUN_FAILED = _error("run.failed", "The run has failed.", **ERROR)
RUN_HELD = _info(
    "run.held",
    "The run cannot continue now, but a later one may: nothing is wrong with this host.",
    **ERROR,
)
BUG_FOUND = _error("run.crashed", "A bug in the agent.", exception="the traceback")
REQUEST_RETRIED = _warning(
    "hydra.request_retried",
    "A request has failed in a way that may pass, and is repeated.",
    path="path of the request",
    attempt="number of failed attempts so far",
    wait="seconds until the next attempt",
    **ERROR,
)
BUILD_SELECTED = _info(
    "hydra.build_selected",
    "Hydra has named a good build for this host.",
    **_CANDIDATE,
    finished_at="when Hydra finished it",
)
NEWER_BUILD_RED = _warning(
    "hydra.newer_build_failed", "The job's newest build failed; an older one is good."
)
JOB_GONE = _warning(
    "hydra.job_gone",
    "The newest finished eval no longer has the job: no new build will come.",
    eval_id="that eval",
)
JOBSET_IS_DISABLED = _warning(
    "hydra.jobset_disabled", "The jobset is disabled: no new build will come."
)
PROJECT_IS_DISABLED = _warning(
    "hydra.project_disabled",
    "The project is disabled, although the jobset is not: no new build will come. A run only"
    " checks this when the jobset's next check is long overdue.",
)
EVALUATION_BROKEN = _warning(
    "hydra.evaluation_failed",
    "Hydra cannot evaluate the job at present: no new build will come until it can.",
    message="the innermost error of the job's own evaluation, or of the whole jobset's",
)
OUTLOOK_UNKNOWN = _debug(
    "hydra.outlook_unknown",
    "Hydra did not say whether a newer build has failed or the job is gone.",
    **ERROR,
)
OLDER_BUILD_CHOSEN = _info(
    "hydra.older_build_chosen",
    "A build other than Hydra's newest good one was chosen, since newer ones are held.",
    **_CANDIDATE,
    newer="list of {build_id, toplevel, reasons, opens_at}: the builds that are held",
)
DECISION_MADE = _info(
    "run.decided",
    "The run has decided what to do.",
    decision="as in run.finished",
    reason="why, if there is a reason",
)
GATE_HELD = _info("gate.held", "A gate holds the upgrade.", gate="its name", reason="why")
GATE_PASSED = _info("gate.passed", "A gate lets the upgrade pass.", gate="its name", reason="why")
GATE_IGNORED = _warning(
    "gate.ignored",
    "An administrator ignores a gate that holds the upgrade.",
    gate="its name",
    reason="what it says",
    given_reason="the administrator's reason",
    by="the administrator's user name",
)
CANARY_DROPPED = _warning(
    "health.canary_dropped",
    "A canary is not asked: the candidate's settings no longer name it.",
    check="its name",
    target="what would have been probed",
)
GATE_OVERDUE = _error(
    "gate.overdue",
    "A gate has held for too long, such as `clock` for `clock.patience`: the run fails.",
    gate="its name",
    reason="a sentence",
)
SILENCE_OVERDUE = _error(
    "hydra.overdue",
    "Hydra or its cache has been unreachable for longer than `hydra.patience`: the run fails.",
    about="`hydra` or `cache`",
    seconds="for how long, as far as is known",
    kind="the fault of this run",
)
CHECK_FINISHED = _info(
    "check.finished",
    "A check of health or of a confirmation has ended.",
    check="its name",
    type="icmp, http, tcp, dns, unit or command",
    target="what is checked: host, URL, host and port, name, unit or command",
    well="true or false",
    wanted="true if it may fail",
    conclusive="false if it could not be run, which proves nothing",
    reason="why it fails",
    latency="seconds until the deciding answer",
)
VERIFY_STARTED = _info("verify.started", "The flake is being evaluated.", **_CANDIDATE)
VERIFY_PASSED = _info(
    "verify.passed", "The flake evaluates to exactly the path that Hydra built.", **_CANDIDATE
)
VERIFY_SKIPPED = _warning(
    "verify.skipped",
    "verify = false: nothing proves that the candidate is this host's configuration.",
)
FETCH_STARTED = _info(
    "fetch.started",
    "The candidate's closure is being substituted.",
    toplevel="store path of the system",
)
FETCH_PROGRESSED = _info(
    "fetch.progressed",
    "Substitution continues; at most every ten seconds.",
    paths="paths done",
    paths_expected="total number of paths",
    bytes="bytes done",
    bytes_expected="total number of bytes",
)
FETCH_FINISHED = _info(
    "fetch.finished",
    "The candidate's closure is in the store.",
    paths="paths fetched",
    bytes="bytes fetched",
)
BUILD_FINISHED = _info(
    "build.finished", "nixos-rebuild build has ended.", toplevel="the path that it built"
)
BUILD_DIFFERS = _warning(
    "build.differed",
    "verify = false, and nixos-rebuild built a path other than Hydra's.",
    toplevel="Hydra's path",
    built="the path that it built",
)
ACTIVATION_STARTED = _info(
    "activation.started",
    "nixos-rebuild is about to change the host.",
    action="switch, boot, test or dry-activate",
    toplevel="store path of the system",
    reasons="the reason given by each gate",
)
ACTIVATION_FINISHED = _info(
    "activation.finished",
    "nixos-rebuild has ended; the fields show the state of the host.",
    action="the action",
    returncode="its exit code, negative for a signal",
    running="running system",
    profile="profile's system",
)
DEAD_MAN_ARMED = _info(
    "deadman.armed",
    "The dead-man's timer will roll the upgrade back unless it is confirmed.",
    seconds="when it fires",
    toplevel="the system to be confirmed",
)
DEAD_MAN_FIRED = _warning(
    "deadman.fired",
    "The upgrade was not confirmed in time: the old system's agent takes over.",
    toplevel="the system to be confirmed",
)
BOOT_DEADLINE_IN_VAIN = _error(
    "boot_deadline.in_vain",
    "A booted system could be neither judged nor rolled back, and a reboot did not help: an"
    " administrator has to look at the host.",
    toplevel="the unconfirmed running system",
    exit_code="exit code of the attempt",
)
ACTIVATION_AWAITED = _warning(
    "activation.awaited",
    "nixos-rebuild has ended, but its activation is still running: the run waits, then stops it.",
)
RIVAL_AWAITED = _warning(
    "activation.rival_awaited",
    "Another activation was first: the run waits until it has ended, and keeps its system.",
    toplevel="the candidate, which was not activated",
)
ACTIVATION_STOPPED = _warning("activation.stopped", "An activation that did not end was stopped.")
BASELINE_TAKEN = _info(
    "confirmation.baseline_taken",
    "The state of the host just before the activation.",
    checks="whether each of confirm.checks passes, by name",
    failed_units="units that have already failed",
    hydra="whether Hydra answers",
    control="whether the default gateway or a substituter answers",
)
CONFIRMATION_JUDGED = _info(
    "confirmation.judged",
    "The activated system was judged once.",
    toplevel="store path of the system",
    verdict="healthy, broken or inconclusive, if the deadline were over now",
    reasons="list of {name, reason} for the verdict",
    notes="list of {name, reason} of failures that do not change it",
)
SYSTEM_CONFIRMED = _info(
    "confirmation.confirmed",
    "The system has proved healthy: roll-backs go to it from now on.",
    toplevel="store path of the system",
)
CONFIRMATION_INCONCLUSIVE = _warning(
    "confirmation.inconclusive",
    "The system could not be judged: it stays pending and is judged again later.",
    toplevel="store path of the system",
    reasons="list of {name, reason}",
)
CONFIRMATION_OVERDUE = _error(
    "confirmation.overdue",
    "The system could not be judged within confirm.patience: an administrator must decide.",
    toplevel="store path of the system",
    reasons="list of {name, reason}",
)
CONFIRMATION_BROKEN = _error(
    "confirmation.broken",
    "The system has proved broken.",
    toplevel="store path of the system",
    reasons="list of {name, reason}",
    rolls_back="false: it stays until an administrator decides",
)
CONFIRMATION_HANDED_OVER = _info(
    "confirmation.handed_over",
    "The new system's agent is asked to confirm its own system.",
    unit="the systemd unit",
    toplevel="store path of the system",
)
CONFIRM_UNIT_ENDED = _error(
    "confirmation.unit_failed",
    "The new system's agent could not judge the system.",
    unit="the systemd unit",
    result="systemd's result",
    exit_status="its exit code",
)
BOOT_CLEANED = _info(
    "loader.partition_cleaned",
    "The boot partition was too full, and the running system's installer has cleaned it.",
    toplevel="the running system",
    before="free bytes before",
    after="free bytes after",
)
BOOT_NOT_CLEANED = _error(
    "loader.partition_not_cleaned",
    "The boot partition is too full, and the running system's installer could not clean it.",
    toplevel="the running system",
    returncode="exit code of switch-to-configuration, if it was run",
    default="the system that the boot loader starts by default now",
    **ERROR,
)
ROLL_BACK_STARTED = _warning(
    "rollback.started",
    "The confirmed system is about to be activated again.",
    toplevel="the system that is rolled back",
    target="the confirmed system",
    fault="broken: it is denied; suspect: it is tried again later; null: neither",
    reasons="list of {name, reason}",
)
ROLL_BACK_REBOOTS = _warning(
    "rollback.reboot_requested",
    "The failed system was booted, and is rolled back by a reboot.",
    toplevel="the system that is rolled back",
    target="the confirmed system",
)
ROLL_BACK_NEEDS_REBOOT = _error(
    "rollback.reboot_needed",
    "Only a reboot by an administrator can start the confirmed system again.",
    toplevel="the failed system, which still runs",
    target="the confirmed system",
    reason="what differs",
    command="what an administrator has to run",
)
ROLL_BACK_FINISHED = _warning(
    "rollback.finished",
    "The confirmed system runs again.",
    toplevel="the system that was rolled back",
    target="the confirmed system",
)
SETTLING_FAILED = _warning(
    "confirmation.step_failed",
    "A step after a confirmation or a roll-back has failed. The verdict stands.",
    step="which step",
    toplevel="store path of the system that was confirmed or rolled back",
    **ERROR,
)
ROLL_BACK_LEFT = _warning(
    "rollback.left",
    "A system that the agent has not activated is running: it stays. The profile is set"
    " back if it is still the failed system's.",
    toplevel="the system that is rolled back",
    running="running system",
    profile="system of the profile",
)
ROLL_BACK_INCOMPLETE = _error(
    "rollback.incomplete",
    "The confirmed system runs again, but was not restored completely.",
    target="the confirmed system",
    boot_default="the system that the boot loader starts by default, if that is another",
    returncode="exit code of switch-to-configuration, if it was not 0",
)
GENERATIONS_REMOVED = _warning(
    "rollback.generations_removed",
    "Generations of the failed system were removed to free space on the boot partition.",
    toplevel="the failed system",
    count="how many",
)
CLAIM_LOST = _info(
    "confirmation.decided_elsewhere",
    "Another process has already decided about the pending system.",
    toplevel="store path of the system",
)
SYSTEM_ADOPTED = _info(
    "system.adopted",
    "The running system is taken as confirmed.",
    toplevel="store path of the system",
)
SYSTEM_DENIED = _warning(
    "system.denied",
    "A store path is denied on this host.",
    toplevel="store path of the system",
    reason="why",
    by="agent, or a user name",
)
DENIAL_LIFTED = _info(
    "system.allowed",
    "A store path may be activated again.",
    toplevel="store path of the system",
    reason="why",
    by="the administrator's user name",
)
DOWNGRADE_ALLOWED = _info(
    "downgrade.allowed",
    "The builds taken so far no longer count: the next one is accepted whatever its number.",
    build_id="the newest of them",
    reason="why",
    by="the administrator's user name",
)
RECOVERY_STEP = _warning(
    "recovery.step",
    "An earlier run was interrupted; this step finishes or undoes it.",
    step="as in docs/design/recovery.md",
    phase="its last phase in the history",
    toplevel="the system it was about",
)
PROFILE_GIVEN_BACK = _warning(
    "recovery.profile_given_back",
    "The profile was changed for an activation that was then refused; it is set back.",
    toplevel="the candidate",
    profile="the profile's system now",
)
CONFIRMATION_WAITS = _info(
    "confirmation.waits",
    "Another agent or an activation is running; the system is judged once that has ended.",
    **ERROR,
)
LOCK_IGNORED = _warning(
    "deadman.lock_ignored",
    "An agent that should have ended long ago holds the lock: the dead-man ignores the lock.",
    **ERROR,
)
REBOOT_NEEDED = _info(
    "reboot.needed", "Only a reboot completes the upgrade.", reason="what differs"
)
REBOOT_REQUESTED = _info(
    "reboot.requested",
    "A reboot of the host was requested.",
    reason="why",
    inhibitors="inhibitors that were respected for long enough",
)
REBOOT_POSTPONED = _info(
    "reboot.postponed",
    "The reboot is needed, but not allowed yet.",
    toplevel="the system that waits for it",
    obstacle="the gate that postpones it, such as `reboot-window`",
    reason="a sentence",
    until="when it is looked at again; null if unknown",
)
REBOOT_CANCELLED = _info(
    "reboot.cancelled",
    "A reboot that was announced to logged-in users is cancelled.",
    toplevel="the system that it was for",
    reason="why not",
)
RUN_SCHEDULED = _info("run.scheduled", "A timer was set for the next run.", at="when")
PAUSE_BEGUN = _warning(
    "pause.begun",
    "Nothing is upgraded or rebooted until the pause is over.",
    reason="why",
    by="the administrator's user name",
    until="when it ends by itself; null for never",
)
PAUSE_ENDED = _info("pause.ended", "Upgrades continue.", by="the administrator's user name")
LOADER_WITHOUT_FALLBACK = _warning(
    "loader.without_fallback",
    "The boot loader cannot start a system just once: if the new one hangs during boot, someone"
    " has to choose an older entry.",
    toplevel="the system that is about to be booted",
)
TRY_BOOT_SET = _info(
    "loader.try_boot_set",
    "The boot loader starts the new system once, and the confirmed one after that.",
    loader="systemd-boot or grub",
    toplevel="the new system",
    default="the system that is the default",
)
TRY_BOOT_FAILED = _warning(
    "loader.try_boot_failed",
    "The boot loader could not be set to boot the new system once: it is the default now.",
    loader="systemd-boot or grub",
    toplevel="the new system",
    default="the system that is the default",
)
DEFAULT_MOVED = _info(
    "loader.default_moved",
    "The confirmed system is the boot loader's default now.",
    toplevel="the confirmed system",
    default="the system that is the default",
)
DEFAULT_LEFT = _error(
    "loader.default_left",
    "The boot loader's default could not be changed to the confirmed system: the next boot starts"
    " an older one.",
    toplevel="the confirmed system",
    default="the system that is the default",
)
PROGRAM_STARTED = _debug("process.started", "A program was started.", argv="its arguments")
PROGRAM_SPOKE = _info(
    "process.output",
    "A line of a program's output.",
    program="its name",
    stream="stdout or stderr",
    line="the line, cut at 4 KiB",
)
PROGRAM_ENDED = _debug(
    "process.finished",
    "A program has ended.",
    program="its name",
    returncode="negative for a signal",
    seconds="how long it ran",
)
JOURNAL_SET_ASIDE = _error(
    "journal.set_aside",
    "The history file was damaged; it was renamed and a new one created.",
    path="where it is now",
    **ERROR,
)
JOURNAL_ROW_UNREADABLE = _warning(
    "journal.row_unreadable",
    "Part of a row of the history cannot be read; the rest of it still counts.",
    table="its table",
    row="its number",
    columns="the columns that were dropped",
)
RECORD_FAILED = _warning(
    "journal.record_failed",
    "The history could not be read or written; the run continues without it.",
    **ERROR,
)
IDLE_NOTE_FAILED = _warning(
    "idle.note_failed",
    "The note for the idle path could not be written: every run will be a full one.",
    **ERROR,
)
FORGE_REQUEST_RETRIED = _warning(
    "forge.request_retried",
    "A request to the forge has failed in a way that may pass, and is repeated.",
    **REQUEST_RETRIED.fields,
)
NOTIFICATION_SENT = _info(
    "notification.sent",
    "A service has accepted a notification.",
    title="its title",
    service="the service",
)
NOTIFICATION_FAILED = _warning(
    "notification.failed",
    "A notification could not be sent; the run continues.",
    title="its title",
    service="the service",
    **ERROR,
)

ALL: Final = events_among(list(globals().values()))
