"""Every event of the update side; see `agent.application.events`."""

from __future__ import annotations

from typing import Final

from agent.application.events import Event

_ERROR: Final = {
    "error.kind": "stable name of the fault",
    "error.message": "what happened, to what, and why",
    "error.hint": "what to do about it, where something can be done",
}

STEP_STARTED = Event(
    "flake_update.step_started",
    "info",
    "A step has begun; what is logged until it ends belongs to it.",
    {"title": "what is done"},
)
STEP_ENDED = Event(
    "flake_update.step_ended", "debug", "The step has ended.", {"title": "what was done"}
)
HOSTS_FOUND = Event(
    "flake_update.hosts_found",
    "info",
    "The hosts that the update is looked at for.",
    {"hosts": "their names"},
)
LOCK_UNCHANGED = Event(
    "flake_update.lock_unchanged", "info", "All inputs are as new as they can be."
)
LOCK_CHANGED = Event(
    "flake_update.lock_changed",
    "info",
    "`flake.lock` locks other revisions than the committed one.",
    {"inputs": "names of the inputs that changed"},
)
EVALUATED_SINGLY = Event(
    "flake_update.evaluated_singly",
    "warning",
    "The hosts could not be evaluated all at once, and are evaluated one by one.",
    _ERROR,
)
HOST_COMPARED = Event(
    "flake_update.host_compared",
    "info",
    "What the update does to a host.",
    {
        "host": "its name",
        "verdict": "unchanged, changed, breaks, mended or still-broken",
        "packages": "how many packages change; null where they could not be compared",
        "reason": "why it is broken",
        "log": "the last lines of the log of what is broken",
    },
)
BRANCH_PUSHED = Event(
    "flake_update.branch_pushed",
    "info",
    "The update is on its branch on the remote.",
    {"branch": "its name", "revision": "its commit"},
)
BRANCH_TAKEN_BACK = Event(
    "flake_update.branch_taken_back",
    "info",
    "What was pushed is not, or no longer, to be seen: the branch is as it was before, or gone.",
    {"branch": "its name", "former": "its former revision; null if it was new"},
)
BRANCH_LEFT = Event(
    "flake_update.branch_left",
    "error",
    "A branch may be left on the remote, without a proposal: it could not be taken back.",
    {"branch": "its name", **_ERROR},
)
EVAL_FOUND = Event(
    "flake_update.eval_found",
    "info",
    "Hydra has evaluated the update's revision, or what is the same for every host.",
    {"eval_id": "the eval", "revision": "the commit"},
)
HYDRA_UNANSWERED = Event(
    "flake_update.hydra_unanswered",
    "warning",
    "Hydra could not be asked just now, and is asked again later.",
    _ERROR,
)
JOBS_COUNTED = Event(
    "flake_update.jobs_counted",
    "info",
    "How the hosts' jobs stand, when that has changed.",
    {"green": "how many are built", "red": "how many failed", "waiting": "how many are left"},
)
PROPOSAL_OPENED = Event(
    "flake_update.proposal_opened",
    "info",
    "The update is proposed.",
    {"branch": "its branch", "number": "of the pull request", "url": "of its page"},
)
PROPOSAL_REFRESHED = Event(
    "flake_update.proposal_refreshed",
    "info",
    "The proposal of the branch tells the new update.",
    {"branch": "its branch", "number": "of the pull request", "url": "of its page"},
)
PROPOSAL_UNFINISHED = Event(
    "flake_update.proposal_unfinished",
    "warning",
    "The update is proposed, but something that was wished for could not be done to the proposal.",
    {
        "step": "labels, assignees, auto-merge or the note on the older proposal",
        "url": "of its page",
        **_ERROR,
    },
)
UPDATE_FAILED = Event("flake_update.failed", "error", "The update met a fault.", _ERROR)
UPDATE_FINISHED = Event(
    "flake_update.finished",
    "info",
    "The run's summary, and its last event, unless it was interrupted.",
    {
        "outcome": "lock-unchanged, hosts-unchanged, already-proposed, already-pushed, declined,"
        " dry-run, pushed, proposed or failed",
        "branch": "the update's branch, if it came to that",
        "revision": "its commit",
        "url": "of the proposal",
        "changed": "names of the hosts that change",
        "broken": "names of the hosts that are broken",
        "exit_code": "exit code of the process",
        **_ERROR,
    },
)

ALL: Final[tuple[Event, ...]] = tuple(
    sorted(
        (value for value in list(globals().values()) if isinstance(value, Event)),
        key=lambda event: event.name,
    )
)
