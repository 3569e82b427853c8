"""What can go wrong: one tree of errors, and one table of their kinds.

    AgentError
    ├── ConfigError        the settings
    ├── HydraError         Hydra: the transport, its answers, what it has built
    ├── NixError           nix: evaluation, substitution, building, the store
    ├── FlakeError         the flake whose inputs are to be updated
    ├── GitError           git: its repository, and the remote
    ├── ActivationError    nixos-rebuild and switch-to-configuration
    ├── HostError          what the agent reads and changes on the host
    ├── JournalError       the history file
    ├── ForgeError         the forge: its transport, its answers, what it refuses
    ├── NotifyError        notification services
    ├── RequestError       requests between the two parts of the agent
    └── LockedError        another agent is running

The class says where a fault lies; its `Kind` says what it is. A kind is stable: logs, metrics and
scripts rely on it. Each is declared once, with its exit code, whether a retry can help, and its
meaning for the reference page.
"""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum, auto
from typing import Self

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


class _Retry(Enum):
    """When a retry may succeed."""

    NEVER = auto()
    LATER = auto()
    """The cause is likely to pass, so that another run is started soon."""
    SOON = auto()
    """The same request may succeed if it is repeated in a moment."""


_C = ExitCode
_SOON = _Retry.SOON
_LATER = _Retry.LATER


def _kind(
    exit_code: ExitCode, meaning: str, again: _Retry = _Retry.NEVER
) -> tuple[auto, ExitCode, str, _Retry]:
    """Return the value of a kind; `auto` takes the name from the constant."""
    return auto(), exit_code, meaning, again


class Kind(StrEnum):
    """The stable name of a fault, `error.kind` in logs and reports, and its properties."""

    @override
    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name.lower().replace("_", "-")

    exit_code: ExitCode
    """The exit code of a command that ends with it."""
    meaning: str
    is_retryable: bool
    """Whether the same request may succeed if it is repeated in a moment."""
    passes: bool
    """Whether the cause is likely to pass, so that another run is started soon."""

    def __new__(cls, name: str, exit_code: ExitCode, meaning: str, again: _Retry) -> Self:
        """Make a kind; whatever is unreachable now may be reachable later."""
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.exit_code = exit_code
        kind.meaning = meaning
        kind.is_retryable = again is _Retry.SOON
        kind.passes = again is _Retry.LATER or exit_code is ExitCode.UNREACHABLE
        return kind

    # Settings
    CONFIG_MISSING = _kind(_C.BAD_CONFIG, "the configuration file does not exist")
    CONFIG_UNREADABLE = _kind(_C.BAD_CONFIG, "the configuration file cannot be read")
    CONFIG_SYNTAX = _kind(_C.BAD_CONFIG, "the configuration file is not TOML")
    CONFIG_INVALID = _kind(_C.BAD_CONFIG, "settings are unknown, invalid or contradict each other")

    # Hydra: the transport
    HYDRA_REFUSED = _kind(_C.UNREACHABLE, "nothing accepts connections at the instance", _SOON)
    HYDRA_UNRESOLVABLE = _kind(_C.UNREACHABLE, "the instance's host name has no address", _SOON)
    HYDRA_TLS = _kind(_C.UNREACHABLE, "no trusted TLS connection to the instance")
    HYDRA_DISCONNECTED = _kind(_C.UNREACHABLE, "the connection broke before an answer", _SOON)
    HYDRA_TRUNCATED = _kind(
        _C.UNREACHABLE,
        "the connection broke during an answer, or the answer is truncated",
        _SOON,
    )
    HYDRA_TIMEOUT = _kind(_C.UNREACHABLE, "one request took longer than `hydra.timeout`", _SOON)
    HYDRA_DEADLINE = _kind(
        _C.UNREACHABLE, "all requests together took longer than `hydra.deadline`"
    )
    HYDRA_RATE_LIMITED = _kind(
        _C.UNREACHABLE, "Hydra or its proxy asks for fewer requests (429)", _SOON
    )
    HYDRA_SERVER_ERROR = _kind(
        _C.UNREACHABLE,
        "Hydra or its proxy failed (5xx, or a 400 that quotes a database error)",
        _SOON,
    )
    HYDRA_UNAUTHORISED = _kind(_C.UNAUTHORISED, "the instance requires a login (401, 403)")

    # Hydra: invalid answers
    HYDRA_NOT_HTTP = _kind(
        _C.BAD_ANSWER, "the server at the instance's address does not speak HTTP"
    )
    HYDRA_STATUS = _kind(_C.BAD_ANSWER, "an HTTP status that Hydra never gives here")
    HYDRA_EMPTY = _kind(_C.BAD_ANSWER, "an empty body instead of JSON")
    HYDRA_NOT_JSON = _kind(_C.BAD_ANSWER, "a body that is not JSON")
    HYDRA_HTML = _kind(_C.BAD_ANSWER, "an HTML page instead of JSON")
    HYDRA_WRONG_SHAPE = _kind(_C.BAD_ANSWER, "JSON without the structure that Hydra's has")
    HYDRA_TOO_DEEP = _kind(_C.BAD_ANSWER, "JSON nested too deeply")
    HYDRA_TOO_LARGE = _kind(_C.BAD_ANSWER, "a body above the size limit")
    HYDRA_REDIRECT = _kind(_C.BAD_ANSWER, "a redirect to something other than a build")
    HYDRA_REDIRECT_LOOP = _kind(_C.BAD_ANSWER, "a redirect back to the same address")
    HYDRA_REDIRECT_ORIGIN = _kind(_C.BAD_ANSWER, "a redirect to another origin")

    # Hydra: projects, jobsets, jobs and builds
    JOBSET_MISSING = _kind(_C.NOT_FOUND, "no such project or jobset")
    JOBSET_RENAMED = _kind(_C.NOT_FOUND, "the jobset has been renamed")
    JOBSET_DISABLED = _kind(
        _C.NOT_FOUND, "the jobset, or its project, is disabled and has no good build"
    )
    JOBSET_NEVER_EVALUATED = _kind(_C.NOT_FOUND, "the jobset has never been evaluated successfully")
    JOB_MISSING = _kind(_C.NOT_FOUND, "the newest eval has no such job")
    JOB_NEVER_GOOD = _kind(_C.NOT_FOUND, "the job has been built, but never successfully")
    JOB_NOT_EVALUATED = _kind(
        _C.NOT_FOUND, "the job has no good build, and Hydra cannot evaluate it"
    )
    JOB_NOT_BUILT_YET = _kind(
        _C.HELD, "the job waits for its first good build, or for the rest of its eval", _LATER
    )
    JOB_WITHOUT_GOOD_BUILD = _kind(
        _C.NOT_FOUND, "the job has no good build, and Hydra did not say why"
    )
    BUILD_MISSING = _kind(_C.BAD_ANSWER, "the build that Hydra named does not exist")
    BUILD_UNFINISHED = _kind(_C.HELD, "the newest good build is being built again", _LATER)
    BUILD_FAILED = _kind(_C.BAD_ANSWER, "the build that Hydra named as good has not succeeded")
    BUILD_OTHER_JOB = _kind(_C.BAD_ANSWER, "the build belongs to another job")
    BUILD_OTHER_SYSTEM = _kind(_C.BAD_ANSWER, "the build is for another platform")
    BUILD_WITHOUT_EVAL = _kind(_C.BAD_ANSWER, "the build belongs to no eval")
    BUILD_WITHOUT_OUTPUT = _kind(_C.BAD_ANSWER, "the build has no output `out`")
    BUILD_OUTPUT_INVALID = _kind(_C.BAD_ANSWER, "the build's output is not a store path")
    EVAL_MISSING = _kind(_C.BAD_ANSWER, "none of the build's evals exists any more")
    EVAL_WITHOUT_FLAKE = _kind(_C.BAD_ANSWER, "the eval is not of a flake")
    FLAKE_UNLOCKED = _kind(_C.BAD_ANSWER, "the eval's flake reference is not locked")
    FLAKE_LOOKS_LIKE_OPTION = _kind(_C.BAD_ANSWER, "the eval's flake reference starts with a dash")
    FLAKE_UNSAFE_CHARACTERS = _kind(
        _C.BAD_ANSWER, "the eval's flake reference has characters that no URL needs"
    )
    FLAKE_UNSUPPORTED = _kind(
        _C.BAD_ANSWER, "the eval's flake reference has a type that the agent does not know"
    )
    FLAKE_INSECURE = _kind(
        _C.BAD_ANSWER,
        "the flake or one of its inputs is on this host or is fetched without TLS or ssh,"
        " and `trust.allow_insecure` does not name it",
    )
    FLAKE_HAS_LOGIN = _kind(
        _C.BAD_ANSWER, "the eval's flake reference contains a password or a token"
    )

    # nix
    NIX_MISSING = _kind(_C.FAILED, "no `nix` on PATH")
    EVALUATION_FAILED = _kind(_C.FAILED, "nix could not evaluate the host's configuration")
    PATH_MISMATCH = _kind(_C.FAILED, "the flake evaluates to a path other than the one Hydra built")
    HOST_MISMATCH = _kind(_C.FAILED, "the candidate is for a host of another name")
    PATH_NOT_CACHED = _kind(_C.HELD, "the candidate is not in any substituter yet", _LATER)
    SIGNATURE_UNTRUSTED = _kind(_C.FAILED, "a path is not signed by a trusted key")
    CACHE_UNREACHABLE = _kind(_C.UNREACHABLE, "no substituter could be reached")
    STORE_FULL = _kind(_C.FAILED, "the store's file system is full")
    FETCH_FAILED = _kind(_C.FAILED, "the candidate could not be substituted")
    FLAKE_UNREACHABLE = _kind(
        _C.UNREACHABLE, "the flake, or one of its inputs, could not be reached"
    )
    BUILD_ERROR = _kind(_C.FAILED, "`nixos-rebuild build` failed")
    NIX_TIMEOUT = _kind(_C.FAILED, "nix took longer than its deadline")
    NIX_KILLED = _kind(_C.FAILED, "nix was killed by a signal, perhaps because memory ran out")
    NIX_NONSENSE = _kind(_C.FAILED, "nix printed something unexpected")

    # The update side: the flake
    FLAKE_MISSING = _kind(_C.FAILED, "there is no `flake.nix` whose inputs could be updated")
    LOCK_FILE_MISSING = _kind(_C.FAILED, "no `flake.lock` is committed")
    LOCK_FILE_UNREADABLE = _kind(_C.FAILED, "`flake.lock` cannot be parsed")
    LOCK_FILE_TOO_LARGE = _kind(_C.FAILED, "`flake.lock` is larger than 4 MiB")
    HOSTS_MISSING = _kind(_C.FAILED, "the flake has no hosts, or none with the given name")
    INPUT_UNKNOWN = _kind(_C.FAILED, "the flake has no such input")
    INPUT_UNAVAILABLE = _kind(_C.FAILED, "an input does not exist, or could not be fetched anew")
    HOSTS_BROKEN = _kind(_C.FAILED, "hosts cannot be built with the updated inputs")
    JOBS_RED = _kind(_C.FAILED, "Hydra could not build hosts with the updated inputs")
    EVALUATION_RED = _kind(_C.FAILED, "Hydra could not evaluate the update's branch")
    PROOF_OVERDUE = _kind(
        _C.FAILED, "Hydra has not built the update within `flake_update.hydra.deadline`"
    )

    # The update side: git
    GIT_MISSING = _kind(_C.FAILED, "no `git` on PATH")
    GIT_FAILED = _kind(_C.FAILED, "git failed in a way that no other kind describes")
    GIT_TIMEOUT = _kind(_C.FAILED, "git took longer than its deadline")
    REPOSITORY_MISSING = _kind(_C.FAILED, "the flake is not in a git repository")
    REPOSITORY_SHALLOW = _kind(_C.FAILED, "the flake is in a shallow clone")
    REPOSITORY_BUSY = _kind(_C.HELD, "another update of the repository is running")
    REMOTE_MISSING = _kind(
        _C.FAILED, "there is no such remote, or its server has no such repository"
    )
    REMOTE_UNREACHABLE = _kind(_C.UNREACHABLE, "the remote could not be reached")
    REMOTE_UNAUTHORISED = _kind(_C.UNAUTHORISED, "the remote does not accept the credentials")
    BASE_MISSING = _kind(_C.FAILED, "the remote has no such base branch")
    BRANCH_DIVERGED = _kind(_C.FAILED, "the update's branch on the remote has commits by others")
    PUSH_REFUSED = _kind(_C.FAILED, "the remote refused the branch")
    HOOK_REFUSED = _kind(_C.FAILED, "a hook refused the commit or the push")
    SIGNING_FAILED = _kind(_C.FAILED, "the commit could not be signed")
    IDENTITY_MISSING = _kind(_C.FAILED, "git does not know in whose name to commit")
    NO_SPACE = _kind(_C.FAILED, "there is not enough disk space for a worktree or a commit")

    # Activation
    NIXOS_REBUILD_MISSING = _kind(_C.FAILED, "no `nixos-rebuild` on PATH")
    NIXOS_REBUILD_OPTIONS = _kind(_C.FAILED, "nixos-rebuild does not know an option")
    ACTIVATION_FAILED = _kind(_C.FAILED, "switch-to-configuration refused or aborted")
    ACTIVATION_REFUSED = _kind(
        _C.FAILED, "an activation could not be started, or could not open its lock"
    )
    HOST_NOT_NIXOS = _kind(
        _C.FAILED, "switch-to-configuration does not recognise NixOS (`/etc/NIXOS`)"
    )
    ACTIVATION_SCRIPT_FAILED = _kind(_C.FAILED, "the activation script failed")
    UNITS_FAILED = _kind(_C.FAILED, "units failed during activation")
    ACTIVATION_NEEDS_REBOOT = _kind(
        _C.FAILED, "`test` or `dry-activate` of a system that only a reboot can start"
    )
    PRE_SWITCH_CHECK_FAILED = _kind(
        _C.FAILED, "one of the candidate's `system.preSwitchChecks` refused it"
    )
    SWITCH_INHIBITED = _kind(
        _C.HELD, "only a reboot can start the candidate: its switch inhibitors differ"
    )
    ACTIVATION_KILLED = _kind(_C.FAILED, "the activation was killed by a signal")
    ACTIVATION_TIMEOUT = _kind(_C.FAILED, "the activation took longer than its deadline")
    ACTIVATION_INEFFECTIVE = _kind(
        _C.FAILED, "activation reported success, but the host shows another system"
    )
    ACTIVATION_BUSY = _kind(_C.HELD, "another activation is running on this host", _LATER)
    REBOOT_FAILED = _kind(_C.FAILED, "the reboot could not be requested, or has not come")

    # Confirmation and roll-back
    DEAD_MAN_UNARMED = _kind(_C.FAILED, "the dead-man's timer could not be set")
    CONFIRM_UNIT_FAILED = _kind(_C.FAILED, "the new system's agent could not judge the system")
    SYSTEMD_SILENT = _kind(_C.HELD, "systemd did not answer, which proves nothing")
    ROLLED_BACK = _kind(_C.FAILED, "the new system was broken, and the old one runs again")
    CUT_SHORT = _kind(_C.FAILED, "an earlier run was killed, or the power failed")
    NOTHING_HELD = _kind(
        _C.FAILED, "nothing is pending or denied, or there is nothing to roll back"
    )
    ROLL_BACK_FAILED = _kind(_C.FAILED, "the confirmed system could not be activated again")
    ROLL_BACK_NEEDS_REBOOT = _kind(
        _C.FAILED, "only a reboot by hand can start the confirmed system again"
    )
    NO_CONFIRMED_SYSTEM = _kind(_C.FAILED, "there is no confirmed system to roll back to")

    # The host
    CLOCK_UNSYNCHRONISED = _kind(
        _C.FAILED, "the clock has not been synchronised for longer than `clock.patience`"
    )
    HOST_UNREADABLE = _kind(_C.FAILED, "a system link of this host cannot be read")
    HOST_WITHOUT_STORE = _kind(_C.FAILED, "this host has no nix store")
    STATE_READ_ONLY = _kind(_C.FAILED, "the state directory cannot be written")
    STATE_PRIVATE = _kind(_C.UNAUTHORISED, "the state directory is private to another user")
    NEEDS_ROOT = _kind(
        _C.UNAUTHORISED, "the command makes changes that only root or another user may make"
    )
    STATE_IO_ERROR = _kind(_C.FAILED, "the disk with the state directory returns I/O errors")
    STATE_FULL = _kind(_C.FAILED, "the state directory's file system is full")
    STATE_UNUSABLE = _kind(_C.FAILED, "the state directory cannot be used")
    MARKS_UNUSABLE = _kind(_C.FAILED, "the marks in `paths.marks_dir` cannot be used")
    JOURNAL_CORRUPT = _kind(_C.FAILED, "the history file is damaged")
    JOURNAL_TOO_NEW = _kind(_C.FAILED, "a newer agent wrote the history file")
    LOCKED = _kind(_C.HELD, "another agent is running")

    # Requests between the two parts of the agent
    REQUEST_MALFORMED = _kind(_C.FAILED, "an internal request is malformed")
    REQUEST_TOO_LARGE = _kind(_C.FAILED, "an internal request is too large")
    REQUEST_MISDIRECTED = _kind(_C.FAILED, "an internal request is for another host or job")
    REQUEST_EXPIRED = _kind(_C.HELD, "an internal request has expired")
    REQUEST_FROM_FUTURE = _kind(_C.HELD, "an internal request is dated in the future")
    REQUEST_REPLAYED = _kind(_C.FAILED, "an internal request has already been carried out")
    REQUEST_UNFETCHED = _kind(
        _C.FAILED, "an internal request is to activate what its run has not fetched"
    )

    # The forge
    FORGE_UNREACHABLE = _kind(
        _C.UNREACHABLE, "no connection to the forge, or the connection broke", _SOON
    )
    FORGE_TLS = _kind(_C.UNREACHABLE, "no trusted TLS connection to the forge")
    FORGE_TIMEOUT = _kind(_C.UNREACHABLE, "the forge did not answer in time", _SOON)
    FORGE_RATE_LIMITED = _kind(_C.UNREACHABLE, "the forge asks for fewer requests", _SOON)
    FORGE_SERVER_ERROR = _kind(_C.UNREACHABLE, "the forge or its proxy failed (5xx)", _SOON)
    FORGE_UNAUTHORISED = _kind(_C.UNAUTHORISED, "the forge does not accept the token (401)")
    FORGE_FORBIDDEN = _kind(_C.UNAUTHORISED, "the token lacks a permission (403)")
    FORGE_NOT_FOUND = _kind(
        _C.NOT_FOUND, "the forge has no such repository, branch or proposal (404)"
    )
    FORGE_CONFLICT = _kind(_C.FAILED, "the branch is proposed already, or cannot be merged")
    FORGE_UNPROCESSABLE = _kind(_C.FAILED, "the forge refuses the request (422)")
    FORGE_STATUS = _kind(_C.BAD_ANSWER, "an HTTP status that a forge never gives here")
    FORGE_REDIRECT = _kind(_C.BAD_ANSWER, "the repository or the forge has moved")
    FORGE_NONSENSE = _kind(_C.BAD_ANSWER, "the answer is not JSON of the expected form")
    FORGE_NOT_READY = _kind(
        _C.FAILED, "the forge does not know yet whether a proposal can be merged", _SOON
    )
    AUTO_MERGE_REFUSED = _kind(_C.FAILED, "the forge refuses to merge automatically")

    # Notifications
    NOTIFY_UNUSABLE = _kind(_C.BAD_CONFIG, "a notification service cannot be used")
    NOTIFY_FAILED = _kind(_C.FAILED, "a notification was not accepted")
    NOTIFY_TIMEOUT = _kind(_C.FAILED, "a notification was not accepted in time")

    # Credentials
    SECRET_MISSING = _kind(_C.BAD_CONFIG, "a file with a credential does not exist")
    SECRET_EXPOSED = _kind(_C.BAD_CONFIG, "a file with a credential is world-readable")
    SECRET_UNUSABLE = _kind(_C.BAD_CONFIG, "a file contains no usable credential")

    # The host
    OUTPUT_CLOSED = _kind(_C.FAILED, "standard output was closed")
    DEMO_IMPOSSIBLE = _kind(_C.FAILED, "the demo's environment could not be created")

    # The agent itself
    BUG = _kind(_C.BUG, "a bug in the agent; the log has its traceback")
    INTERRUPTED = _kind(_C.INTERRUPTED, "interrupted from the keyboard (SIGINT)")
    TERMINATED = _kind(_C.TERMINATED, "terminated (SIGTERM)")


class AgentError(Exception):
    """A fault with a stable kind, a message and, if there is something to do, a hint.

    Credentials in its texts are hidden, and long texts are shortened.
    `retry_after` is the number of seconds a server asked to be left alone for, if it did.
    """

    def __init__(
        self, kind: Kind, message: str, *, hint: str = "", retry_after: float | None = None
    ) -> None:
        self.kind = kind
        # Both may quote untrusted text, and are shown in logs, the history, messages and terminals.
        self.message = str(presentable(message))
        self.hint = str(presentable(hint))
        super().__init__(self.message)
        self.retry_after = retry_after

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that ends with this fault."""
        return self.kind.exit_code

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed if it is repeated in a moment."""
        return self.kind.is_retryable

    @property
    def passes(self) -> bool:
        """Whether the cause is likely to pass, so that another run is started soon."""
        return self.kind.passes

    @override
    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(AgentError):
    """The settings cannot be used; `problems` lists each problem as (key, what is wrong).

    `source` is where they come from: the file, which may not exist, or variables, or both.
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
    """Hydra cannot be reached, its answer is invalid, or it has nothing for this host."""


class NixError(AgentError):
    """nix could not evaluate, substitute or build."""


class FlakeError(AgentError):
    """The inputs of the flake cannot be updated, or the update breaks the flake."""


class GitError(AgentError):
    """git failed, or the remote refused."""


class ActivationError(AgentError):
    """nixos-rebuild failed; the message says what running and profile are afterwards."""


class HostError(AgentError):
    """Something on the host itself cannot be read or done."""


class JournalError(AgentError):
    """The history cannot be read or written."""


class LockedError(AgentError):
    """Another agent holds the lock."""


class RequestError(AgentError):
    """A request is refused, and nothing is changed."""


class ForgeError(AgentError):
    """The forge cannot be reached, its answer is invalid, or it refuses."""


class NotifyError(AgentError):
    """A notification could not be sent."""
