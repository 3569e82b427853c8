"""Every event of the update side; see `agent.application.events`."""

from __future__ import annotations

from functools import partial
from typing import Final

from agent.application.events import ERROR, event_of, events_among

_debug = partial(event_of, "debug")
_info = partial(event_of, "info")
_warning = partial(event_of, "warning")
_error = partial(event_of, "error")

STEP_STARTED = _info(
    "flake_update.step_started",
    "A step has begun; all events until its end belong to it.",
    title="what is done",
)
STEP_ENDED = _debug("flake_update.step_ended", "The step has ended.", title="what was done")
HOSTS_FOUND = _info(
    "flake_update.hosts_found", "The hosts that the update is compared on.", hosts="their names"
)
LOCK_UNCHANGED = _info("flake_update.lock_unchanged", "All inputs are up to date.")
LOCK_CHANGED = _info(
    "flake_update.lock_changed",
    "`flake.lock` locks revisions other than the committed ones.",
    inputs="names of the inputs that changed",
)
EVALUATED_SINGLY = _warning(
    "flake_update.evaluated_singly",
    "The hosts could not be evaluated all at once, and are evaluated one by one.",
    **ERROR,
)
HOST_COMPARED = _info(
    "flake_update.host_compared",
    "What the update changes on a host.",
    host="its name",
    verdict="unchanged, changed, breaks, fixed or still-broken",
    packages="how many packages change; null if they could not be compared",
    reason="why it is broken",
    log="the last lines of the failed build's log",
)
BRANCH_PUSHED = _info(
    "flake_update.branch_pushed",
    "The update is on its branch on the remote.",
    branch="its name",
    revision="its commit",
)
BRANCH_TAKEN_BACK = _info(
    "flake_update.branch_taken_back",
    "The push was undone: the branch is as it was before, or removed.",
    branch="its name",
    former="its former revision; null if it was new",
)
BRANCH_LEFT = _error(
    "flake_update.branch_left",
    "A branch without a proposal may be left on the remote: the push could not be undone.",
    branch="its name",
    **ERROR,
)
EVAL_FOUND = _info(
    "flake_update.eval_found",
    "Hydra has evaluated the update's revision, or one that is the same for every host.",
    eval_id="the eval",
    revision="the commit",
)
HYDRA_UNANSWERED = _warning(
    "flake_update.hydra_unanswered",
    "A request to Hydra failed, and is repeated later.",
    **ERROR,
)
JOBS_COUNTED = _info(
    "flake_update.jobs_counted",
    "The status of the hosts' jobs has changed.",
    green="how many have succeeded",
    red="how many have failed",
    waiting="how many are unfinished",
)
PROPOSAL_OPENED = _info(
    "flake_update.proposal_opened",
    "The update is proposed.",
    branch="its branch",
    number="of the pull request",
    url="of its page",
)
PROPOSAL_REFRESHED = _info(
    "flake_update.proposal_refreshed",
    "The proposal of the branch now describes the new update.",
    branch="its branch",
    number="of the pull request",
    url="of its page",
)
PROPOSAL_UNFINISHED = _warning(
    "flake_update.proposal_unfinished",
    "The update is proposed, but part of the proposal's set-up has failed.",
    step="labels, assignees, auto-merge or the note on the older proposal",
    url="of its page",
    **ERROR,
)
UPDATE_FAILED = _error("flake_update.failed", "The update has failed.", **ERROR)
UPDATE_FINISHED = _info(
    "flake_update.finished",
    "The run's summary, and its last event, unless it was interrupted.",
    outcome="lock-unchanged, hosts-unchanged, already-proposed, already-pushed, declined, dry-run,"
    " pushed, proposed or failed",
    branch="the update's branch, if there is one",
    revision="its commit",
    url="of the proposal",
    changed="names of the hosts that change",
    broken="names of the hosts that are broken",
    exit_code="exit code of the process",
    **ERROR,
)

ALL: Final = events_among(list(globals().values()))
