"""What can go wrong, as one tree and one table.

    AgentError
    ├── ConfigError        the settings
    ├── HydraError         Hydra: the transport, its answers, what it has built
    ├── NixError           nix: evaluation, substitution, building, the store
    ├── FlakeError         the flake whose inputs are to be updated
    ├── GitError           git: its repository, and the remote
    ├── ActivationError    nixos-rebuild and switch-to-configuration
    ├── HostError          what the agent reads and does on the host itself
    ├── JournalError       the history file
    ├── ForgeError         the forge: its transport, its answers, what it refuses
    ├── NotifyError        services that messages go through
    └── LockedError        another agent is at work

The class says where a fault lies; its `Kind` says what it is. A kind is stable: logs, metrics and
scripts key on it. The table `KINDS` gives each kind its exit code, whether trying again within
the same run can help, and its meaning for the reference page.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from typing_extensions import override

from agent.domain.secrets import presentable


class ExitCode(IntEnum):
    """Exit codes of every command (after sysexits.h)."""

    DONE = 0
    FAILED = 1
    USAGE = 64
    BAD_ANSWER = 65
    NOT_FOUND = 66
    UNREACHABLE = 69
    BUG = 70
    HELD = 75
    UNAUTHORISED = 77
    BAD_CONFIG = 78
    INTERRUPTED = 130
    TERMINATED = 143


class Kind(StrEnum):
    """The stable name of a fault: `error.kind` in logs and reports."""

    # Settings
    CONFIG_MISSING = "config-missing"
    CONFIG_UNREADABLE = "config-unreadable"
    CONFIG_SYNTAX = "config-syntax"
    CONFIG_INVALID = "config-invalid"

    # Hydra: the transport
    HYDRA_REFUSED = "hydra-refused"
    HYDRA_UNRESOLVABLE = "hydra-unresolvable"
    HYDRA_TLS = "hydra-tls"
    HYDRA_DISCONNECTED = "hydra-disconnected"
    HYDRA_TRUNCATED = "hydra-truncated"
    HYDRA_TIMEOUT = "hydra-timeout"
    HYDRA_DEADLINE = "hydra-deadline"
    HYDRA_RATE_LIMITED = "hydra-rate-limited"
    HYDRA_SERVER_ERROR = "hydra-server-error"
    HYDRA_UNAUTHORISED = "hydra-unauthorised"

    # Hydra: answers of no sense
    HYDRA_NOT_HTTP = "hydra-not-http"
    HYDRA_STATUS = "hydra-status"
    HYDRA_EMPTY = "hydra-empty"
    HYDRA_NOT_JSON = "hydra-not-json"
    HYDRA_HTML = "hydra-html"
    HYDRA_WRONG_SHAPE = "hydra-wrong-shape"
    HYDRA_TOO_DEEP = "hydra-too-deep"
    HYDRA_TOO_LARGE = "hydra-too-large"
    HYDRA_REDIRECT = "hydra-redirect"
    HYDRA_REDIRECT_LOOP = "hydra-redirect-loop"
    HYDRA_REDIRECT_ORIGIN = "hydra-redirect-origin"

    # Hydra, answers of no sense
    JOBSET_MISSING = "jobset-missing"
    JOBSET_RENAMED = "jobset-renamed"
    JOBSET_DISABLED = "jobset-disabled"
    JOBSET_NEVER_EVALUATED = "jobset-never-evaluated"
    JOB_MISSING = "job-missing"
    JOB_NOT_EVALUATED = "job-not-evaluated"
    JOB_NEVER_GOOD = "job-never-good"
    JOB_NOT_BUILT_YET = "job-not-built-yet"
    JOB_WITHOUT_GOOD_BUILD = "job-without-good-build"
    BUILD_MISSING = "build-missing"
    BUILD_UNFINISHED = "build-unfinished"
    BUILD_FAILED = "build-failed"
    BUILD_OTHER_JOB = "build-other-job"
    BUILD_OTHER_SYSTEM = "build-other-system"
    BUILD_WITHOUT_EVAL = "build-without-eval"
    BUILD_WITHOUT_OUTPUT = "build-without-output"
    BUILD_OUTPUT_INVALID = "build-output-invalid"
    EVAL_MISSING = "eval-missing"
    EVAL_WITHOUT_FLAKE = "eval-without-flake"
    FLAKE_UNLOCKED = "flake-unlocked"
    FLAKE_LOOKS_LIKE_OPTION = "flake-looks-like-option"
    FLAKE_UNSAFE_CHARACTERS = "flake-unsafe-characters"
    FLAKE_UNSUPPORTED = "flake-unsupported"
    FLAKE_INSECURE = "flake-insecure"
    FLAKE_HAS_LOGIN = "flake-has-login"

    # nix
    NIX_MISSING = "nix-missing"
    EVALUATION_FAILED = "evaluation-failed"
    PATH_MISMATCH = "path-mismatch"
    HOST_MISMATCH = "host-mismatch"
    PATH_NOT_CACHED = "path-not-cached"
    SIGNATURE_UNTRUSTED = "signature-untrusted"
    CACHE_UNREACHABLE = "cache-unreachable"
    STORE_FULL = "store-full"
    FETCH_FAILED = "fetch-failed"
    FLAKE_UNREACHABLE = "flake-unreachable"
    BUILD_ERROR = "build-error"
    NIX_TIMEOUT = "nix-timeout"
    NIX_NONSENSE = "nix-nonsense"

    # The update side: the flake
    FLAKE_MISSING = "flake-missing"
    LOCK_FILE_MISSING = "lock-file-missing"
    LOCK_FILE_UNREADABLE = "lock-file-unreadable"
    HOSTS_MISSING = "hosts-missing"
    INPUT_UNKNOWN = "input-unknown"
    INPUT_UNAVAILABLE = "input-unavailable"
    HOSTS_BROKEN = "hosts-broken"
    JOBS_RED = "jobs-red"
    EVALUATION_RED = "evaluation-red"
    PROOF_OVERDUE = "proof-overdue"

    # The update side: git
    GIT_MISSING = "git-missing"
    GIT_FAILED = "git-failed"
    GIT_TIMEOUT = "git-timeout"
    REPOSITORY_MISSING = "repository-missing"
    REPOSITORY_SHALLOW = "repository-shallow"
    REPOSITORY_BUSY = "repository-busy"
    REMOTE_MISSING = "remote-missing"
    REMOTE_UNREACHABLE = "remote-unreachable"
    REMOTE_UNAUTHORISED = "remote-unauthorised"
    BASE_MISSING = "base-missing"
    BRANCH_DIVERGED = "branch-diverged"
    PUSH_REFUSED = "push-refused"
    HOOK_REFUSED = "hook-refused"
    SIGNING_FAILED = "signing-failed"
    IDENTITY_MISSING = "identity-missing"
    NO_SPACE = "no-space"

    # Activation
    NIXOS_REBUILD_MISSING = "nixos-rebuild-missing"
    NIXOS_REBUILD_OPTIONS = "nixos-rebuild-options"
    ACTIVATION_FAILED = "activation-failed"
    ACTIVATION_SCRIPT_FAILED = "activation-script-failed"
    UNITS_FAILED = "units-failed"
    ACTIVATION_NEEDS_REBOOT = "activation-needs-reboot"
    PRE_SWITCH_CHECK_FAILED = "pre-switch-check-failed"
    SWITCH_INHIBITED = "switch-inhibited"
    ACTIVATION_KILLED = "activation-killed"
    ACTIVATION_TIMEOUT = "activation-timeout"
    ACTIVATION_INEFFECTIVE = "activation-ineffective"
    ACTIVATION_BUSY = "activation-busy"
    ACTIVATION_REFUSED = "activation-refused"
    HOST_NOT_NIXOS = "host-not-nixos"
    REBOOT_FAILED = "reboot-failed"

    # Confirmation and roll-back
    DEAD_MAN_UNARMED = "dead-man-unarmed"
    CONFIRM_UNIT_FAILED = "confirm-unit-failed"
    SYSTEMD_SILENT = "systemd-silent"
    ROLLED_BACK = "rolled-back"
    CUT_SHORT = "cut-short"
    NOTHING_HELD = "nothing-held"
    ROLL_BACK_FAILED = "roll-back-failed"
    ROLL_BACK_NEEDS_REBOOT = "roll-back-needs-reboot"
    NO_CONFIRMED_SYSTEM = "no-confirmed-system"

    # The host
    CLOCK_UNSYNCHRONISED = "clock-unsynchronised"
    HOST_UNREADABLE = "host-unreadable"
    HOST_WITHOUT_STORE = "host-without-store"
    STATE_READ_ONLY = "state-read-only"
    STATE_PRIVATE = "state-private"
    NEEDS_ROOT = "needs-root"
    STATE_FULL = "state-full"
    STATE_IO_ERROR = "state-io-error"
    STATE_UNUSABLE = "state-unusable"
    MARKS_UNUSABLE = "marks-unusable"
    JOURNAL_CORRUPT = "journal-corrupt"
    JOURNAL_TOO_NEW = "journal-too-new"
    LOCKED = "locked"
    OUTPUT_CLOSED = "output-closed"
    DEMO_IMPOSSIBLE = "demo-impossible"

    # The forge
    FORGE_UNREACHABLE = "forge-unreachable"
    FORGE_TLS = "forge-tls"
    FORGE_TIMEOUT = "forge-timeout"
    FORGE_RATE_LIMITED = "forge-rate-limited"
    FORGE_SERVER_ERROR = "forge-server-error"
    FORGE_UNAUTHORISED = "forge-unauthorised"
    FORGE_FORBIDDEN = "forge-forbidden"
    FORGE_NOT_FOUND = "forge-not-found"
    FORGE_CONFLICT = "forge-conflict"
    FORGE_UNPROCESSABLE = "forge-unprocessable"
    FORGE_STATUS = "forge-status"
    FORGE_REDIRECT = "forge-redirect"
    FORGE_NONSENSE = "forge-nonsense"
    FORGE_NOT_READY = "forge-not-ready"
    AUTO_MERGE_REFUSED = "auto-merge-refused"

    # Notifications
    NOTIFY_UNUSABLE = "notify-unusable"
    NOTIFY_FAILED = "notify-failed"
    NOTIFY_TIMEOUT = "notify-timeout"

    # Credentials
    SECRET_MISSING = "secret-missing"  # noqa: S105 - the name of a fault
    SECRET_EXPOSED = "secret-exposed"  # noqa: S105 - the same
    SECRET_UNUSABLE = "secret-unusable"  # noqa: S105 - the same

    # The agent itself
    BUG = "bug"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"


@dataclass(frozen=True)
class KindFacts:
    """What follows from a kind: exit code, whether to retry within the run, and its meaning."""

    exit_code: ExitCode
    meaning: str
    retryable: bool = False
    passes: bool = False
    """Whether the cause passes by itself, so that a run soon may do better."""


def _facts(
    code: ExitCode, meaning: str, *, retryable: bool = False, passes: bool = False
) -> KindFacts:
    """Return the facts of a kind; what cannot be reached now can be later."""
    is_distance = code is ExitCode.UNREACHABLE
    return KindFacts(code, meaning, retryable=retryable, passes=passes or is_distance)


_C = ExitCode
KINDS: Final[dict[Kind, KindFacts]] = {
    Kind.CONFIG_MISSING: _facts(_C.BAD_CONFIG, "the configuration file does not exist"),
    Kind.CONFIG_UNREADABLE: _facts(_C.BAD_CONFIG, "the configuration file cannot be read"),
    Kind.CONFIG_SYNTAX: _facts(_C.BAD_CONFIG, "the configuration file is not TOML"),
    Kind.CONFIG_INVALID: _facts(_C.BAD_CONFIG, "settings are unknown, wrong or contradict another"),
    Kind.HYDRA_REFUSED: _facts(
        _C.UNREACHABLE, "nothing accepts connections at the instance", retryable=True
    ),
    Kind.HYDRA_UNRESOLVABLE: _facts(
        _C.UNREACHABLE, "the instance's host name has no address", retryable=True
    ),
    Kind.HYDRA_TLS: _facts(_C.UNREACHABLE, "no trusted TLS connection to the instance"),
    Kind.HYDRA_DISCONNECTED: _facts(
        _C.UNREACHABLE, "the connection broke before an answer", retryable=True
    ),
    Kind.HYDRA_TRUNCATED: _facts(
        _C.UNREACHABLE,
        "the connection broke within an answer, or the answer ends in its middle",
        retryable=True,
    ),
    Kind.HYDRA_TIMEOUT: _facts(
        _C.UNREACHABLE, "one request took longer than `hydra.timeout`", retryable=True
    ),
    Kind.HYDRA_DEADLINE: _facts(
        _C.UNREACHABLE, "the whole conversation took longer than `hydra.deadline`"
    ),
    Kind.HYDRA_RATE_LIMITED: _facts(
        _C.UNREACHABLE, "Hydra or its proxy asks for fewer requests (429)", retryable=True
    ),
    Kind.HYDRA_SERVER_ERROR: _facts(
        _C.UNREACHABLE,
        "Hydra or its proxy failed (5xx, or a 400 with the words of its database)",
        retryable=True,
    ),
    Kind.HYDRA_UNAUTHORISED: _facts(_C.UNAUTHORISED, "the instance wants a login (401, 403)"),
    Kind.HYDRA_NOT_HTTP: _facts(_C.BAD_ANSWER, "what answers at the instance does not speak HTTP"),
    Kind.HYDRA_STATUS: _facts(_C.BAD_ANSWER, "an HTTP status that Hydra never gives here"),
    Kind.HYDRA_EMPTY: _facts(_C.BAD_ANSWER, "an empty body where JSON belongs"),
    Kind.HYDRA_NOT_JSON: _facts(_C.BAD_ANSWER, "a body that is not JSON"),
    Kind.HYDRA_HTML: _facts(_C.BAD_ANSWER, "an HTML page where JSON belongs"),
    Kind.HYDRA_WRONG_SHAPE: _facts(_C.BAD_ANSWER, "JSON of another shape than Hydra's"),
    Kind.HYDRA_TOO_DEEP: _facts(_C.BAD_ANSWER, "JSON nested too deeply"),
    Kind.HYDRA_TOO_LARGE: _facts(_C.BAD_ANSWER, "a body above the size limit"),
    Kind.HYDRA_REDIRECT: _facts(_C.BAD_ANSWER, "a redirect to where no build is"),
    Kind.HYDRA_REDIRECT_LOOP: _facts(_C.BAD_ANSWER, "a redirect back to the same address"),
    Kind.HYDRA_REDIRECT_ORIGIN: _facts(_C.BAD_ANSWER, "a redirect to another origin"),
    Kind.JOBSET_MISSING: _facts(_C.NOT_FOUND, "no such project or jobset"),
    Kind.JOBSET_RENAMED: _facts(_C.NOT_FOUND, "the jobset has another name now"),
    Kind.JOBSET_DISABLED: _facts(
        _C.NOT_FOUND, "the jobset, or its project, is disabled and has no good build"
    ),
    Kind.JOBSET_NEVER_EVALUATED: _facts(
        _C.NOT_FOUND, "the jobset has never been evaluated successfully"
    ),
    Kind.JOB_MISSING: _facts(_C.NOT_FOUND, "the newest eval has no such job"),
    Kind.JOB_NEVER_GOOD: _facts(_C.NOT_FOUND, "the job has been built, but never successfully"),
    Kind.JOB_NOT_EVALUATED: _facts(
        _C.NOT_FOUND, "the job has no good build, and Hydra cannot evaluate it"
    ),
    Kind.JOB_NOT_BUILT_YET: _facts(
        _C.HELD, "the job waits for its first good build, or for the rest of its eval", passes=True
    ),
    Kind.JOB_WITHOUT_GOOD_BUILD: _facts(
        _C.NOT_FOUND, "the job has no good build, and Hydra did not tell why"
    ),
    Kind.BUILD_MISSING: _facts(_C.BAD_ANSWER, "the build that Hydra named does not exist"),
    Kind.BUILD_UNFINISHED: _facts(
        _C.HELD, "the newest good build is being built again", passes=True
    ),
    Kind.BUILD_FAILED: _facts(_C.BAD_ANSWER, "the build that Hydra named as good is not"),
    Kind.BUILD_OTHER_JOB: _facts(_C.BAD_ANSWER, "the build belongs to another job"),
    Kind.BUILD_OTHER_SYSTEM: _facts(_C.BAD_ANSWER, "the build is for another platform"),
    Kind.BUILD_WITHOUT_EVAL: _facts(_C.BAD_ANSWER, "the build belongs to no eval"),
    Kind.BUILD_WITHOUT_OUTPUT: _facts(_C.BAD_ANSWER, "the build has no output `out`"),
    Kind.BUILD_OUTPUT_INVALID: _facts(_C.BAD_ANSWER, "the build's output is no store path"),
    Kind.EVAL_MISSING: _facts(_C.BAD_ANSWER, "none of the build's evals exists any more"),
    Kind.EVAL_WITHOUT_FLAKE: _facts(_C.BAD_ANSWER, "the eval is not of a flake"),
    Kind.FLAKE_UNLOCKED: _facts(_C.BAD_ANSWER, "the eval's flake reference is not locked"),
    Kind.FLAKE_LOOKS_LIKE_OPTION: _facts(
        _C.BAD_ANSWER, "the eval's flake reference starts with a dash"
    ),
    Kind.FLAKE_UNSAFE_CHARACTERS: _facts(
        _C.BAD_ANSWER, "the eval's flake reference has characters no URL needs"
    ),
    Kind.FLAKE_UNSUPPORTED: _facts(
        _C.BAD_ANSWER, "the eval's flake reference is of a type the agent does not know"
    ),
    Kind.FLAKE_INSECURE: _facts(
        _C.BAD_ANSWER,
        "the flake or one of its inputs is on this host or comes without TLS and ssh, and"
        " `trust.allow_insecure` does not name it",
    ),
    Kind.FLAKE_HAS_LOGIN: _facts(
        _C.BAD_ANSWER, "the eval's flake reference has a password or a token in it"
    ),
    Kind.NIX_MISSING: _facts(_C.FAILED, "no `nix` on PATH"),
    Kind.EVALUATION_FAILED: _facts(_C.FAILED, "nix could not evaluate the host's configuration"),
    Kind.PATH_MISMATCH: _facts(_C.FAILED, "the flake yields another path than Hydra built"),
    Kind.HOST_MISMATCH: _facts(_C.FAILED, "the candidate names another host"),
    Kind.PATH_NOT_CACHED: _facts(
        _C.HELD, "the candidate is not in any substituter yet", passes=True
    ),
    Kind.SIGNATURE_UNTRUSTED: _facts(_C.FAILED, "a path is not signed by a trusted key"),
    Kind.CACHE_UNREACHABLE: _facts(_C.UNREACHABLE, "no substituter could be reached"),
    Kind.STORE_FULL: _facts(_C.FAILED, "the store's file system is full"),
    Kind.FETCH_FAILED: _facts(_C.FAILED, "the candidate could not be substituted"),
    Kind.FLAKE_UNREACHABLE: _facts(
        _C.UNREACHABLE, "the flake, or one of its inputs, could not be reached"
    ),
    Kind.BUILD_ERROR: _facts(_C.FAILED, "`nixos-rebuild build` failed"),
    Kind.NIX_TIMEOUT: _facts(_C.FAILED, "nix took longer than its deadline"),
    Kind.NIX_NONSENSE: _facts(_C.FAILED, "nix printed something other than what was asked"),
    Kind.FLAKE_MISSING: _facts(_C.FAILED, "there is no `flake.nix` to update the inputs of"),
    Kind.LOCK_FILE_MISSING: _facts(_C.FAILED, "no `flake.lock` is committed"),
    Kind.LOCK_FILE_UNREADABLE: _facts(_C.FAILED, "`flake.lock` is not of nix's form"),
    Kind.HOSTS_MISSING: _facts(
        _C.FAILED, "the flake has no host, or none of the name that is looked for"
    ),
    Kind.INPUT_UNKNOWN: _facts(_C.FAILED, "the flake has no such input"),
    Kind.INPUT_UNAVAILABLE: _facts(_C.FAILED, "an input does not exist any more, or not now"),
    Kind.HOSTS_BROKEN: _facts(_C.FAILED, "hosts cannot be built with the updated inputs"),
    Kind.JOBS_RED: _facts(_C.FAILED, "Hydra could not build hosts with the updated inputs"),
    Kind.EVALUATION_RED: _facts(_C.FAILED, "Hydra could not evaluate the update's branch"),
    Kind.PROOF_OVERDUE: _facts(
        _C.FAILED, "Hydra has not built the update within `flake_update.hydra.deadline`"
    ),
    Kind.GIT_MISSING: _facts(_C.FAILED, "no `git` on PATH"),
    Kind.GIT_FAILED: _facts(_C.FAILED, "git failed in a way that has no name of its own"),
    Kind.GIT_TIMEOUT: _facts(_C.FAILED, "git took longer than its deadline"),
    Kind.REPOSITORY_MISSING: _facts(_C.FAILED, "the flake is in no git repository"),
    Kind.REPOSITORY_SHALLOW: _facts(_C.FAILED, "the flake is in a shallow clone"),
    Kind.REPOSITORY_BUSY: _facts(_C.HELD, "another update of the repository is at work"),
    Kind.REMOTE_MISSING: _facts(
        _C.FAILED, "the repository has no such remote, or the remote's server no such repository"
    ),
    Kind.REMOTE_UNREACHABLE: _facts(_C.UNREACHABLE, "the remote could not be reached"),
    Kind.REMOTE_UNAUTHORISED: _facts(_C.UNAUTHORISED, "the remote wants other credentials"),
    Kind.BASE_MISSING: _facts(_C.FAILED, "the remote has no such base branch"),
    Kind.BRANCH_DIVERGED: _facts(
        _C.FAILED, "the update's branch on the remote has commits of somebody else"
    ),
    Kind.PUSH_REFUSED: _facts(_C.FAILED, "the remote refused the branch"),
    Kind.HOOK_REFUSED: _facts(_C.FAILED, "a hook refused the commit or the push"),
    Kind.SIGNING_FAILED: _facts(_C.FAILED, "the commit could not be signed"),
    Kind.IDENTITY_MISSING: _facts(_C.FAILED, "git does not know in whose name to commit"),
    Kind.NO_SPACE: _facts(_C.FAILED, "there is no room for a worktree or a commit"),
    Kind.NIXOS_REBUILD_MISSING: _facts(_C.FAILED, "no `nixos-rebuild` on PATH"),
    Kind.NIXOS_REBUILD_OPTIONS: _facts(_C.FAILED, "nixos-rebuild does not know an option"),
    Kind.ACTIVATION_FAILED: _facts(_C.FAILED, "switch-to-configuration refused or broke off"),
    Kind.ACTIVATION_REFUSED: _facts(
        _C.FAILED, "an activation could not be started, or could not open its lock"
    ),
    Kind.HOST_NOT_NIXOS: _facts(
        _C.FAILED, "switch-to-configuration does not take this host for NixOS (`/etc/NIXOS`)"
    ),
    Kind.ACTIVATION_SCRIPT_FAILED: _facts(_C.FAILED, "the activation script failed"),
    Kind.UNITS_FAILED: _facts(_C.FAILED, "units failed during activation"),
    Kind.ACTIVATION_NEEDS_REBOOT: _facts(
        _C.FAILED, "`test` or `dry-activate` of a system that only a reboot can start"
    ),
    Kind.PRE_SWITCH_CHECK_FAILED: _facts(
        _C.FAILED, "one of the candidate's `system.preSwitchChecks` refused it"
    ),
    Kind.SWITCH_INHIBITED: _facts(
        _C.HELD, "only a reboot can start the candidate: its switch inhibitors differ"
    ),
    Kind.ACTIVATION_KILLED: _facts(_C.FAILED, "the activation was killed by a signal"),
    Kind.ACTIVATION_TIMEOUT: _facts(_C.FAILED, "the activation took longer than its deadline"),
    Kind.ACTIVATION_INEFFECTIVE: _facts(
        _C.FAILED, "activation reported success, but the host shows another system"
    ),
    Kind.ACTIVATION_BUSY: _facts(
        _C.HELD, "another activation is at work on this host", passes=True
    ),
    Kind.REBOOT_FAILED: _facts(_C.FAILED, "the reboot could not be asked for"),
    Kind.DEAD_MAN_UNARMED: _facts(_C.FAILED, "the dead-man's timer could not be set"),
    Kind.CONFIRM_UNIT_FAILED: _facts(
        _C.FAILED, "the new system's agent could not do its confirmation"
    ),
    Kind.SYSTEMD_SILENT: _facts(_C.HELD, "systemd gave no answer, which proves nothing"),
    Kind.ROLLED_BACK: _facts(_C.FAILED, "the new system was broken, and the old one runs again"),
    Kind.CUT_SHORT: _facts(_C.FAILED, "an earlier run was killed, or the power failed"),
    Kind.NOTHING_HELD: _facts(_C.FAILED, "there is nothing pending, denied or to roll back"),
    Kind.ROLL_BACK_FAILED: _facts(_C.FAILED, "the confirmed system could not be activated again"),
    Kind.ROLL_BACK_NEEDS_REBOOT: _facts(
        _C.FAILED,
        "only a reboot can start the confirmed system again, and a person must do it",
    ),
    Kind.NO_CONFIRMED_SYSTEM: _facts(_C.FAILED, "there is no confirmed system to roll back to"),
    Kind.CLOCK_UNSYNCHRONISED: _facts(
        _C.FAILED, "the clock has not been synchronised for longer than `clock.patience`"
    ),
    Kind.HOST_UNREADABLE: _facts(_C.FAILED, "a system link of this host cannot be read"),
    Kind.HOST_WITHOUT_STORE: _facts(_C.FAILED, "this host has no nix store"),
    Kind.STATE_READ_ONLY: _facts(_C.FAILED, "the state directory cannot be written"),
    Kind.STATE_PRIVATE: _facts(
        _C.UNAUTHORISED, "the state directory belongs to another user, who alone may read it"
    ),
    Kind.NEEDS_ROOT: _facts(
        _C.UNAUTHORISED, "the command changes what belongs to root or another user"
    ),
    Kind.STATE_IO_ERROR: _facts(_C.FAILED, "the disk with the state directory returns I/O errors"),
    Kind.STATE_FULL: _facts(_C.FAILED, "the state directory's file system is full"),
    Kind.STATE_UNUSABLE: _facts(_C.FAILED, "the state directory cannot be used"),
    Kind.MARKS_UNUSABLE: _facts(_C.FAILED, "the marks in `paths.marks_dir` cannot be used"),
    Kind.JOURNAL_CORRUPT: _facts(_C.FAILED, "the history file is damaged"),
    Kind.JOURNAL_TOO_NEW: _facts(_C.FAILED, "a newer agent wrote the history file"),
    Kind.LOCKED: _facts(_C.HELD, "another agent is at work"),
    Kind.FORGE_UNREACHABLE: _facts(
        _C.UNREACHABLE, "no connection to the forge, or one that broke", retryable=True
    ),
    Kind.FORGE_TLS: _facts(_C.UNREACHABLE, "no trusted TLS connection to the forge"),
    Kind.FORGE_TIMEOUT: _facts(_C.UNREACHABLE, "the forge did not answer in time", retryable=True),
    Kind.FORGE_RATE_LIMITED: _facts(
        _C.UNREACHABLE, "the forge asks to be left alone for a while", retryable=True
    ),
    Kind.FORGE_SERVER_ERROR: _facts(
        _C.UNREACHABLE, "the forge, or the proxy before it, failed (5xx)", retryable=True
    ),
    Kind.FORGE_UNAUTHORISED: _facts(_C.UNAUTHORISED, "the forge does not know the token (401)"),
    Kind.FORGE_FORBIDDEN: _facts(_C.UNAUTHORISED, "the token may not do this (403)"),
    Kind.FORGE_NOT_FOUND: _facts(
        _C.NOT_FOUND, "the forge has no such repository, branch or proposal (404)"
    ),
    Kind.FORGE_CONFLICT: _facts(_C.FAILED, "the branch is proposed already, or cannot be merged"),
    Kind.FORGE_UNPROCESSABLE: _facts(_C.FAILED, "the forge refuses what it was asked for (422)"),
    Kind.FORGE_STATUS: _facts(_C.BAD_ANSWER, "an HTTP status that a forge never gives here"),
    Kind.FORGE_REDIRECT: _facts(_C.BAD_ANSWER, "the repository, or the forge, is elsewhere now"),
    Kind.FORGE_NONSENSE: _facts(_C.BAD_ANSWER, "an answer that is not the forge's: no such JSON"),
    Kind.FORGE_NOT_READY: _facts(
        _C.FAILED, "the forge does not know yet whether a proposal can be merged", retryable=True
    ),
    Kind.AUTO_MERGE_REFUSED: _facts(_C.FAILED, "the forge will not merge by itself"),
    Kind.NOTIFY_UNUSABLE: _facts(_C.BAD_CONFIG, "a way of notifying that cannot be used"),
    Kind.NOTIFY_FAILED: _facts(_C.FAILED, "a message was not accepted"),
    Kind.NOTIFY_TIMEOUT: _facts(_C.FAILED, "a message was not accepted in time"),
    Kind.SECRET_MISSING: _facts(_C.BAD_CONFIG, "a file with a credential does not exist"),
    Kind.SECRET_EXPOSED: _facts(_C.BAD_CONFIG, "everybody may read a file with a credential"),
    Kind.SECRET_UNUSABLE: _facts(_C.BAD_CONFIG, "a file that holds no usable credential"),
    Kind.OUTPUT_CLOSED: _facts(_C.FAILED, "standard output was closed"),
    Kind.DEMO_IMPOSSIBLE: _facts(_C.FAILED, "the demo's stage could not be made"),
    Kind.BUG: _facts(_C.BUG, "a fault of the agent itself; the log has its traceback"),
    Kind.INTERRUPTED: _facts(_C.INTERRUPTED, "interrupted from the keyboard (SIGINT)"),
    Kind.TERMINATED: _facts(_C.TERMINATED, "asked to end (SIGTERM)"),
}


class AgentError(Exception):
    """A fault with a stable kind, one clear sentence and, where there is one, what to do.

    Credentials in what it says are hidden, and what is too long is cut.
    `retry_after` is the number of seconds a server asked to be left alone for, if it did.
    """

    def __init__(
        self, kind: Kind, message: str, *, hint: str = "", retry_after: float | None = None
    ) -> None:
        self.kind = kind
        # Both may quote strangers, and go to logs, rows, messages and terminals.
        self.message = str(presentable(message))
        self.hint = str(presentable(hint))
        super().__init__(self.message)
        self.retry_after = retry_after

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that this kind of fault ends a command with."""
        return KINDS[self.kind].exit_code

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed when it is made again in a moment."""
        return KINDS[self.kind].retryable

    @property
    def passes(self) -> bool:
        """Whether the cause passes by itself, so that a run soon may do better."""
        return KINDS[self.kind].passes

    @override
    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(AgentError):
    """The settings cannot be used; `problems` lists every one as (key, what is wrong).

    `source` is where they are: the file, which may not exist, or variables, or both.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        hint: str = "",
        problems: tuple[tuple[str, str], ...] = (),
        source: str = "",
    ) -> None:
        super().__init__(kind, message, hint=hint)
        self.problems = problems
        self.source = source


class HydraError(AgentError):
    """Hydra cannot be reached, answers nonsense, or has nothing for this host."""


class NixError(AgentError):
    """nix could not evaluate, substitute or build."""


class FlakeError(AgentError):
    """The flake whose inputs are to be updated is not fit for it, or the update breaks it."""


class GitError(AgentError):
    """git failed, or the remote refused."""


class ActivationError(AgentError):
    """nixos-rebuild failed; the message tells what running and profile show afterwards."""


class HostError(AgentError):
    """Something on the host itself cannot be read or done."""


class JournalError(AgentError):
    """The history cannot be read or written."""


class LockedError(AgentError):
    """Another agent holds the lock."""


class ForgeError(AgentError):
    """The forge cannot be reached, answers nonsense, or refuses."""


class NotifyError(AgentError):
    """Somebody could not be told."""
