"""Every event that the agent can log: names, levels, fields.

`docs/reference/events.md` is made from this table. An event is a fact in the past tense with
fields, never prose; `host`, `run_id` and `job` are bound to all of a run's events, `build_id` to
those after a build was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event: `fields` maps each field that it may carry to its meaning."""

    name: str
    level: Level
    meaning: str
    fields: dict[str, str] = field(default_factory=dict)


_ERROR: Final = {
    "error.kind": "stable name of the fault",
    "error.message": "what happened, to what, and why",
    "error.hint": "what to do about it, where something can be done",
}
_CANDIDATE: Final = {
    "build_id": "Hydra's build",
    "eval_id": "the build's newest eval; null where none was asked for",
    "flake": "locked flake reference of that eval",
    "toplevel": "store path of the system",
}

RUN_STARTED = Event(
    "run.started",
    "debug",
    "A run has begun.",
    {"action": "what it is to do", "strategy": "flake or store-path", "dry_run": "true or false"},
)
RUN_FINISHED = Event(
    "run.finished",
    "info",
    "The run's summary: exactly one a run, and always its last event.",
    {
        "decision": "done, hold, upgrade, await-reboot or reboot; null if it failed before",
        "outcome": "nothing-to-do, held, confirmed, pending, rolled-back, staged, dry-activated,"
        " dry-run, awaits-reboot, rebooting or failed",
        "reasons": "list of {name, reason}: why it was held, waits or was rolled back",
        "exit_code": "exit code of the process",
        "durations": "seconds by step: recover, observe, gates, verify, fetch, build, recheck,"
        " baseline, activate, confirm, roll-back, loader, total",
        "bytes_fetched": "bytes added to the store by substitution",
        "paths_fetched": "store paths substituted",
        "action": "the action performed, if any",
        "running": "running system at the end",
        "booted": "booted system",
        "profile": "profile's system at the end",
        "gates": "list of {gate, open, reason}, in a dry run",
        **_CANDIDATE,
        **_ERROR,
    },
)
RUN_IDLE = Event(
    "run.idle",
    "info",
    "The idle path found nothing to do: Hydra's newest build is the one this host runs.",
    {
        "build_id": "Hydra's newest build",
        "run_id": "the run",
        "host": "the host",
        "job": "its job",
        "durations": "seconds by step: total",
    },
)
RUN_FAILED = Event("run.failed", "error", "The run met a fault.", _ERROR)
RUN_HELD = Event(
    "run.held",
    "info",
    "The run cannot go on now, and the next one may: nothing is wrong with this host.",
    _ERROR,
)
BUG_FOUND = Event(
    "run.crashed",
    "error",
    "A fault of the agent itself.",
    {"exception": "the traceback"},
)
REQUEST_RETRIED = Event(
    "hydra.request_retried",
    "warning",
    "A request failed in a way that can pass and is made again.",
    {
        "path": "path of the request",
        "attempt": "how many have failed so far",
        "wait": "seconds until the next attempt",
        **_ERROR,
    },
)
BUILD_SELECTED = Event(
    "hydra.build_selected",
    "info",
    "Hydra's good build for this host is known.",
    {**_CANDIDATE, "finished_at": "when Hydra finished it"},
)
NEWER_BUILD_RED = Event(
    "hydra.newer_build_failed", "warning", "The job's newest build failed; an older one is good."
)
JOB_GONE = Event(
    "hydra.job_gone",
    "warning",
    "The newest finished eval has no such job any more: no new build will ever come.",
    {"eval_id": "that eval"},
)
JOBSET_IS_DISABLED = Event(
    "hydra.jobset_disabled", "warning", "The jobset is disabled: no new build will come."
)
PROJECT_IS_DISABLED = Event(
    "hydra.project_disabled",
    "warning",
    "The project is disabled, though the jobset is not: no new build will come. A run asks about it"
    " only when the jobset's next check is long overdue.",
)
EVALUATION_BROKEN = Event(
    "hydra.evaluation_failed",
    "warning",
    "Hydra cannot evaluate the job at present: no new build will come until it can.",
    {"message": "the innermost error of the job's own evaluation, or of the whole jobset's"},
)
OUTLOOK_UNKNOWN = Event(
    "hydra.outlook_unknown",
    "debug",
    "Hydra did not say whether a newer build is red or the job is gone.",
    _ERROR,
)
DECISION_MADE = Event(
    "run.decided",
    "info",
    "The run knows what to do about the candidate.",
    {"decision": "as in run.finished", "reason": "why, where there is one"},
)
GATE_HELD = Event(
    "gate.held", "info", "A gate holds the upgrade.", {"gate": "its name", "reason": "why"}
)
GATE_PASSED = Event(
    "gate.passed", "info", "A gate lets the upgrade pass.", {"gate": "its name", "reason": "why"}
)
GATE_IGNORED = Event(
    "gate.ignored",
    "warning",
    "A person lets the upgrade pass a gate that holds it.",
    {
        "gate": "its name",
        "reason": "what it says",
        "given_reason": "why the person does so",
        "by": "who that is",
    },
)
CANARY_DROPPED = Event(
    "health.canary_dropped",
    "warning",
    "A canary is not asked: the candidate's settings no longer name it.",
    {"check": "its name", "target": "what would have been probed"},
)
CLOCK_OVERDUE = Event(
    "clock.overdue",
    "error",
    "The clock has not been synchronised for longer than `clock.patience`: the run fails.",
    {"seconds": "for how long, as far as is known"},
)
SILENCE_OVERDUE = Event(
    "hydra.overdue",
    "error",
    "Hydra or its cache has been out of reach for longer than `hydra.patience`: the run fails.",
    {
        "about": "`hydra` or `cache`",
        "seconds": "for how long, as far as is known",
        "kind": "the fault that was found this time",
    },
)
CHECK_FINISHED = Event(
    "check.finished",
    "info",
    "A check has ended, of health or of a confirmation.",
    {
        "check": "its name",
        "type": "icmp, http, tcp, dns, unit or command",
        "target": "what is asked: host, URL, host and port, name, unit or command",
        "well": "true or false",
        "wanted": "true if it may fail",
        "conclusive": "false if it could not be run, which proves nothing",
        "reason": "why it is not well",
        "latency": "seconds until the deciding answer",
    },
)
VERIFY_STARTED = Event("verify.started", "info", "The flake is being evaluated.", _CANDIDATE)
VERIFY_PASSED = Event(
    "verify.passed", "info", "The flake yields the very path that Hydra built.", _CANDIDATE
)
VERIFY_SKIPPED = Event(
    "verify.skipped",
    "warning",
    "verify = false: nothing proves that the candidate is this host's configuration.",
)
FETCH_STARTED = Event(
    "fetch.started",
    "info",
    "The candidate's closure is being substituted.",
    {"toplevel": "store path of the system"},
)
FETCH_PROGRESSED = Event(
    "fetch.progressed",
    "info",
    "Substitution goes on; at most every ten seconds.",
    {
        "paths": "paths done",
        "paths_expected": "paths in all",
        "bytes": "bytes done",
        "bytes_expected": "bytes in all",
    },
)
FETCH_FINISHED = Event(
    "fetch.finished",
    "info",
    "The candidate's closure is in the store.",
    {"paths": "paths fetched", "bytes": "bytes fetched"},
)
BUILD_FINISHED = Event(
    "build.finished", "info", "nixos-rebuild build has ended.", {"toplevel": "the path it gave"}
)
BUILD_DIFFERS = Event(
    "build.differed",
    "warning",
    "verify = false, and nixos-rebuild built another path than Hydra.",
    {"toplevel": "Hydra's path", "built": "the path it gave"},
)
ACTIVATION_STARTED = Event(
    "activation.started",
    "info",
    "nixos-rebuild is about to change the host.",
    {
        "action": "switch, boot, test or dry-activate",
        "toplevel": "store path of the system",
        "reasons": "what each gate said",
    },
)
ACTIVATION_FINISHED = Event(
    "activation.finished",
    "info",
    "nixos-rebuild has ended; what the host shows afterwards.",
    {
        "action": "what it did",
        "returncode": "its exit code, negative for a signal",
        "running": "running system",
        "profile": "profile's system",
    },
)
DEAD_MAN_ARMED = Event(
    "deadman.armed",
    "info",
    "Should nobody confirm the upgrade, the dead-man's timer will end it.",
    {"seconds": "when it fires", "toplevel": "the system to be confirmed"},
)
DEAD_MAN_FIRED = Event(
    "deadman.fired",
    "warning",
    "The upgrade was not confirmed in time: the old system's agent looks at it.",
    {"toplevel": "the system to be confirmed"},
)
BOOT_DEADLINE_IN_VAIN = Event(
    "boot_deadline.in_vain",
    "error",
    "A booted system could not be judged or left, and a reboot has not helped; a person must look.",
    {"toplevel": "the system that runs unconfirmed", "exit_code": "how the attempt ended"},
)
ACTIVATION_AWAITED = Event(
    "activation.awaited",
    "warning",
    "nixos-rebuild has ended, and its activation goes on: it is waited for, then stopped.",
)
RIVAL_AWAITED = Event(
    "activation.rival_awaited",
    "warning",
    "Another activation was first: the run waits for it to end, and keeps what it brings.",
    {"toplevel": "the candidate, which was not activated"},
)
ACTIVATION_STOPPED = Event(
    "activation.stopped", "warning", "An activation that did not end was stopped."
)
BASELINE_TAKEN = Event(
    "confirmation.baseline_taken",
    "info",
    "How things are just before the activation.",
    {
        "checks": "whether each of confirm.checks is well, by name",
        "failed_units": "units that have failed already",
        "hydra": "whether Hydra answers",
        "control": "whether the default gateway or a substituter answers",
    },
)
CONFIRMATION_JUDGED = Event(
    "confirmation.judged",
    "info",
    "The activated system was examined once.",
    {
        "toplevel": "store path of the system",
        "verdict": "healthy, broken or inconclusive, should the deadline end now",
        "reasons": "list of {name, reason} for the verdict",
        "notes": "list of {name, reason} of what is not well without changing it",
    },
)
SYSTEM_CONFIRMED = Event(
    "confirmation.confirmed",
    "info",
    "The system has proved healthy: roll-backs go to it from now on.",
    {"toplevel": "store path of the system"},
)
CONFIRMATION_INCONCLUSIVE = Event(
    "confirmation.inconclusive",
    "warning",
    "The system could not be judged: it stays pending and is examined again.",
    {"toplevel": "store path of the system", "reasons": "list of {name, reason}"},
)
CONFIRMATION_OVERDUE = Event(
    "confirmation.overdue",
    "error",
    "The system could not be judged within confirm.patience: a person has to decide.",
    {"toplevel": "store path of the system", "reasons": "list of {name, reason}"},
)
CONFIRMATION_BROKEN = Event(
    "confirmation.broken",
    "error",
    "The system has proved broken.",
    {
        "toplevel": "store path of the system",
        "reasons": "list of {name, reason}",
        "rolls_back": "false: it stays until a person decides",
    },
)
CONFIRMATION_HANDED_OVER = Event(
    "confirmation.handed_over",
    "info",
    "The new system's agent is asked to confirm its own system.",
    {"unit": "the systemd unit", "toplevel": "store path of the system"},
)
CONFIRM_UNIT_ENDED = Event(
    "confirmation.unit_failed",
    "error",
    "The new system's agent could not do its confirmation.",
    {"unit": "the systemd unit", "result": "systemd's result", "exit_status": "its exit code"},
)
BOOT_CLEANED = Event(
    "loader.partition_cleaned",
    "info",
    "The boot partition was too full, and the running system's installer has cleaned it.",
    {
        "toplevel": "the running system",
        "before": "free bytes before",
        "after": "free bytes after",
    },
)
BOOT_NOT_CLEANED = Event(
    "loader.partition_not_cleaned",
    "error",
    "The boot partition is too full, and the running system's installer could not clean it.",
    {
        "toplevel": "the running system",
        "returncode": "exit code of switch-to-configuration, where it ran",
        "default": "the system that the boot loader starts by default now",
        **_ERROR,
    },
)
ROLL_BACK_STARTED = Event(
    "rollback.started",
    "warning",
    "The confirmed system is about to be activated again.",
    {
        "toplevel": "the system that is left",
        "target": "the confirmed system",
        "fault": "broken: it is denied; suspect: it is tried again later; null: nobody's",
        "reasons": "list of {name, reason}",
    },
)
ROLL_BACK_REBOOTS = Event(
    "rollback.reboot_requested",
    "warning",
    "The failed system was booted, and is left by a reboot.",
    {"toplevel": "the system that is left", "target": "the confirmed system"},
)
ROLL_BACK_NEEDS_REBOOT = Event(
    "rollback.reboot_needed",
    "error",
    "Only a reboot can start the confirmed system again, and that is left to a person.",
    {
        "toplevel": "the failed system, which still runs",
        "target": "the confirmed system",
        "reason": "what differs",
        "command": "what a person has to run",
    },
)
ROLL_BACK_FINISHED = Event(
    "rollback.finished",
    "warning",
    "The confirmed system runs again.",
    {"toplevel": "the system that was left", "target": "the confirmed system"},
)
SETTLING_FAILED = Event(
    "confirmation.step_failed",
    "warning",
    "Part of what follows a confirmation or a roll-back could not be done. The verdict stands.",
    {
        "step": "which part",
        "toplevel": "store path of the system that was confirmed or rolled back from",
        **_ERROR,
    },
)
ROLL_BACK_LEFT = Event(
    "rollback.left",
    "warning",
    "By now a system runs that the agent has not activated: it stays. The profile is set back if it"
    " is still the failed system's.",
    {
        "toplevel": "what is rolled back from",
        "running": "running system",
        "profile": "system of the profile",
    },
)
ROLL_BACK_INCOMPLETE = Event(
    "rollback.incomplete",
    "error",
    "The confirmed system runs again, but not all of it is as it was.",
    {
        "target": "the confirmed system",
        "boot_default": "the system that the boot loader starts by default, if that is another",
        "returncode": "exit code of switch-to-configuration, if it was not 0",
    },
)
GENERATIONS_REMOVED = Event(
    "rollback.generations_removed",
    "warning",
    "The boot partition needs the room: generations of the failed system were removed.",
    {"toplevel": "the failed system", "count": "how many"},
)
CLAIM_LOST = Event(
    "confirmation.decided_elsewhere",
    "info",
    "Another process has decided about the pending system first.",
    {"toplevel": "store path of the system"},
)
SYSTEM_ADOPTED = Event(
    "system.adopted",
    "info",
    "The system found here is taken as confirmed.",
    {"toplevel": "store path of the system"},
)
SYSTEM_DENIED = Event(
    "system.denied",
    "warning",
    "A store path is denied on this host.",
    {"toplevel": "store path of the system", "reason": "why", "by": "agent, or a person"},
)
DENIAL_LIFTED = Event(
    "system.allowed",
    "info",
    "A store path may be activated again.",
    {"toplevel": "store path of the system", "reason": "why", "by": "the person"},
)
DOWNGRADE_ALLOWED = Event(
    "downgrade.allowed",
    "info",
    "The builds taken so far no longer count: the next one is taken whatever its number.",
    {"build_id": "the newest of them", "reason": "why", "by": "the person"},
)
RECOVERY_STEP = Event(
    "recovery.step",
    "warning",
    "An earlier run was cut short; this is done about it.",
    {
        "step": "as in docs/design/recovery.md",
        "phase": "the phase in which the history left it",
        "toplevel": "the system it was about",
    },
)
PROFILE_GIVEN_BACK = Event(
    "recovery.profile_given_back",
    "warning",
    "The profile was moved for an activation that was then refused; it is set back.",
    {"toplevel": "the candidate", "profile": "the profile's system now"},
)
CONFIRMATION_WAITS = Event(
    "confirmation.waits",
    "info",
    "Another agent or an activation is at work; the system is judged once that has ended.",
    _ERROR,
)
LOCK_IGNORED = Event(
    "deadman.lock_ignored",
    "warning",
    "An agent that should have ended long ago holds the lock: the dead-man goes on without it.",
    _ERROR,
)
REBOOT_NEEDED = Event(
    "reboot.needed", "info", "Only a reboot completes the upgrade.", {"reason": "what differs"}
)
REBOOT_REQUESTED = Event(
    "reboot.requested",
    "info",
    "The host is asked to reboot.",
    {"reason": "why", "inhibitors": "who blocks it, and has been respected long enough"},
)
REBOOT_POSTPONED = Event(
    "reboot.postponed",
    "info",
    "The reboot is needed, and may not be done yet.",
    {
        "toplevel": "the system that waits for it",
        "obstacle": "paused, clock, reboot-window, inhibited or users",
        "reason": "a sentence",
        "until": "when it is looked at again; null if nobody knows",
    },
)
REBOOT_CANCELLED = Event(
    "reboot.cancelled",
    "info",
    "A reboot that was announced to people is not done.",
    {"toplevel": "the system that it was for", "reason": "why not"},
)
RUN_SCHEDULED = Event(
    "run.scheduled",
    "info",
    "The next run begins when what this one waits for is due.",
    {"at": "when"},
)
PAUSE_BEGUN = Event(
    "pause.begun",
    "warning",
    "Nothing is upgraded or rebooted until the pause is over.",
    {"reason": "why", "by": "the person", "until": "when it ends by itself; null for never"},
)
PAUSE_ENDED = Event("pause.ended", "info", "Upgrades go on.", {"by": "the person"})
LOADER_WITHOUT_FALLBACK = Event(
    "loader.without_fallback",
    "warning",
    "The boot loader cannot start a system just once: if the new one hangs in its boot, a person"
    " has to pick an older entry.",
    {"toplevel": "the system that is about to be booted"},
)
TRY_BOOT_SET = Event(
    "loader.try_boot_set",
    "info",
    "The loader starts the new system once, and the confirmed one after that.",
    {
        "loader": "systemd-boot or grub",
        "toplevel": "the new system",
        "default": "the system that is the default",
    },
)
TRY_BOOT_FAILED = Event(
    "loader.try_boot_failed",
    "warning",
    "The loader could not be told to start the new system just once: it is the default.",
    {
        "loader": "systemd-boot or grub",
        "toplevel": "the new system",
        "default": "the system that is the default",
    },
)
DEFAULT_MOVED = Event(
    "loader.default_moved",
    "info",
    "The confirmed system is the loader's default now.",
    {"toplevel": "the confirmed system", "default": "the system that is the default"},
)
DEFAULT_LEFT = Event(
    "loader.default_left",
    "error",
    "The loader's default could not be moved to the confirmed system: the next boot starts an"
    " older one.",
    {"toplevel": "the confirmed system", "default": "the system that is the default"},
)
PROGRAM_STARTED = Event(
    "process.started", "debug", "A program was started.", {"argv": "its arguments"}
)
PROGRAM_SPOKE = Event(
    "process.output",
    "info",
    "A line that a program printed.",
    {"program": "its name", "stream": "stdout or stderr", "line": "the line, cut at 4 KiB"},
)
PROGRAM_ENDED = Event(
    "process.finished",
    "debug",
    "A program has ended.",
    {"program": "its name", "returncode": "negative for a signal", "seconds": "how long it ran"},
)
JOURNAL_SET_ASIDE = Event(
    "journal.set_aside",
    "error",
    "The history file was damaged; it was renamed and a new one begun.",
    {"path": "where it is now", **_ERROR},
)
JOURNAL_ROW_UNREADABLE = Event(
    "journal.row_unreadable",
    "warning",
    "Part of a row of the history cannot be read; the rest of it still counts.",
    {"table": "where it is", "row": "its number", "columns": "what was dropped"},
)
RECORD_FAILED = Event(
    "journal.record_failed",
    "warning",
    "A run that had failed already could not be added to the history.",
    _ERROR,
)
IDLE_NOTE_FAILED = Event(
    "idle.note_failed",
    "warning",
    "The note for the idle path could not be written: every run will be a full one.",
    _ERROR,
)
FORGE_REQUEST_RETRIED = Event(
    "forge.request_retried",
    "warning",
    "A request to the forge failed in a way that can pass and is made again.",
    REQUEST_RETRIED.fields,
)
NOTIFICATION_SENT = Event(
    "notification.sent",
    "info",
    "A service has taken a message.",
    {"title": "of the message", "service": "who took it"},
)
NOTIFICATION_FAILED = Event(
    "notification.failed",
    "warning",
    "Somebody could not be told; the run goes on as if it had been told.",
    {"title": "of the message", "service": "who did not take it", **_ERROR},
)

ALL: Final[tuple[Event, ...]] = tuple(
    sorted(
        (value for value in list(globals().values()) if isinstance(value, Event)),
        key=lambda event: event.name,
    )
)
