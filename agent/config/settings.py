"""The settings: every key, its type, its default and its meaning, in one schema.

Validation, `agent config schema` and the reference page all come from these models.
"""

from __future__ import annotations

import re
import socket
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.config.values import Duration, Size, parse_host, parse_http_url
from agent.domain.job import Select, default_job_name
from agent.domain.policy import Action, OnFailure, RebootMode, Strategy

ENVIRONMENT_PREFIX: Final = "NIXOS_HYDRA_AGENT_"
DEFAULT_TIMEOUT: Final = timedelta(seconds=5)


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _hydra_name(value: str) -> str:
    if "/" in value or "\0" in value or value in (".", ".."):
        raise ValueError("a project, jobset or job name has no slash and no NUL, and is not '..'")
    return value


def _attribute_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.'-]{0,252}", value):
        raise ValueError(
            "a host is an attribute name of nixosConfigurations: letters, digits, _.'-"
        )
    return value


def _instance(value: str) -> str:
    parse_http_url(value)
    if "?" in value or "#" in value:
        raise ValueError("an instance is a plain URL without '?' and '#'")
    return value.rstrip("/")


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("must be an absolute path")
    return value


def _substituter(value: str) -> str:
    if re.search(r"//[^/?]*@", value):
        raise ValueError("no user name or password here: nix reads them from its netrc-file")
    if not re.fullmatch(r"[A-Za-z0-9][^\s\"'\0]*", value):
        raise ValueError(f"{value[:100]!r} is no substituter URL")
    return value


def _public_key(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+:[A-Za-z0-9+/]+=*", value):
        raise ValueError(f"{value[:100]!r} is no public key of the form NAME:BASE64")
    return value


# What would defeat the agent's own choice of flake, system, lock file or place.
_REFUSED_FLAGS: Final = frozenset(
    (
        *("--flake", "-F", "--no-flake", "--file", "-f", "--attr", "-A", "--store-path"),
        *("--rollback", "--upgrade", "--upgrade-all", "--target-host", "--build-host"),
        *("--profile-name", "-p", "--specialisation", "-c", "--update-input", "--override-input"),
        *("--recreate-lock-file", "--commit-lock-file", "--no-update-lock-file"),
        *("--override-flake", "--reference-lock-file", "--output-lock-file"),
        *("--no-reexec", "--fast", "--json", "--help", "-h"),
    )
)


def _flag(value: str) -> str:
    # A short option may carry its value: `-pNAME` is `-p NAME`.
    name = value.split("=", 1)[0] if value.startswith("--") else value[:2]
    if name in _REFUSED_FLAGS:
        raise ValueError(f"{name} would undo what the agent decides")
    if "\0" in value or "\n" in value:
        raise ValueError("a flag has no line break and no NUL")
    return value


HydraName = Annotated[
    str, StringConstraints(min_length=1, max_length=255), AfterValidator(_hydra_name)
]
AttributeName = Annotated[str, AfterValidator(_attribute_name)]
Instance = Annotated[str, AfterValidator(_instance)]
HostName = Annotated[str, AfterValidator(parse_host)]
HttpUrl = Annotated[str, AfterValidator(parse_http_url)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


def _canary(value: str) -> str:
    return parse_http_url(value) if "://" in value else parse_host(value)


Canary = Annotated[str, AfterValidator(_canary)]


class HydraSection(Section):
    """Where this host's builds come from."""

    instance: Instance
    """URL of the Hydra instance, such as `https://hydra.example.org`."""
    project: HydraName
    """Name of the project."""
    jobset: HydraName
    """Name of the jobset."""
    job: HydraName | None = None
    """Name of the job, a NixOS toplevel; by default `host` (in quotes if it has dots)."""
    select: Select = Select.LATEST
    """`latest`: the newest good build; `latest-finished`: of an eval with nothing left to build."""
    timeout: Duration = timedelta(seconds=10)
    """Time limit of one request."""
    deadline: Duration = Field(default=timedelta(seconds=60), validate_default=True)
    """Time limit of the whole conversation of a run, retries included."""
    refresh: Duration = timedelta(hours=1)
    """How often at least everything is asked, even if the newest build is still the same."""

    @field_validator("deadline")
    @classmethod
    def _leaves_time_for_a_request(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if info.data.get("timeout", value) > value:
            raise ValueError("hydra.timeout is longer than hydra.deadline")
        return value


class FetchSection(Section):
    """How a candidate comes into the store."""

    substituters: tuple[Annotated[str, AfterValidator(_substituter)], ...] = ()
    """Substituters to use instead of nix's own; empty: those of nix.conf."""
    trusted_public_keys: tuple[Annotated[str, AfterValidator(_public_key)], ...] = ()
    """Keys to trust instead of nix's own; empty: those of nix.conf."""
    local_builds: bool = False
    """Whether this host may build what no substituter has."""
    deadline: Duration = timedelta(hours=2)
    """Time limit of each step before activation: evaluate, fetch, build."""


class ActivateSection(Section):
    """How a candidate is activated."""

    deadline: Duration = timedelta(minutes=30)
    """Time limit of the activation."""


class UpgradeSection(Section):
    """When this host may upgrade."""

    foreign_hold: Duration = timedelta(days=3)
    """How long a system that somebody else has brought here is left alone."""


class DiskSection(Section):
    """Room that an upgrade must leave."""

    store_reserve: Size = 1 << 30
    """Bytes that must stay free in the store's file system after fetching."""
    boot_reserve: Size = 64 << 20
    """Bytes that must be free on the boot partition."""


def _status(value: str) -> str:
    if not re.fullmatch(r"[1-5][0-9]{2}(-[1-5][0-9]{2})?", value):
        raise ValueError(f"{value[:20]!r} is no status code and no range such as '200-299'")
    first, _, last = value.partition("-")
    if last and int(last) < int(first):
        raise ValueError(f"{value} ends before it begins")
    return value


def _statuses(value: object) -> object:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(str(item) if isinstance(item, int) else item for item in items)


_ONE_STATUS: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"},
    ]
}
Statuses = Annotated[
    tuple[Annotated[str, AfterValidator(_status)], ...],
    BeforeValidator(_statuses),
    Field(min_length=1),
    WithJsonSchema(
        {
            "$comment": "status code, range, or list of those",
            "anyOf": [
                *_ONE_STATUS["anyOf"],
                {"type": "array", "items": _ONE_STATUS, "minItems": 1},
            ],
        }
    ),
]


class IcmpCheckSection(Section):
    """Is a host there? Echo requests, IPv4 or IPv6."""

    type: Literal["icmp"]
    """`icmp`."""
    host: HostName
    """Host name or address."""
    name: str = ""
    """Name in reports; by default the host."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check, name resolution included."""
    count: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """How many echo requests are sent at most."""
    required_replies: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """How many of them must be answered."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""

    @field_validator("required_replies")
    @classmethod
    def _can_be_answered(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("count", value):
            raise ValueError("required_replies is more than count")
        return value


class HttpCheckSection(Section):
    """Does a web service answer as it should?"""

    type: Literal["http"]
    """`http`."""
    url: HttpUrl
    """http or https URL."""
    name: str = ""
    """Name in reports; by default the URL."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check."""
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """HTTP method."""
    status: Statuses = ("200-399",)
    """Expected status: a code, a range such as `"200-299"`, or a list of those."""
    body: str | None = None
    """Text that the answer must contain."""
    body_regex: str | None = None
    """Regular expression (Python's) that must match somewhere in the answer."""
    max_latency: Duration | None = None
    """Longest time to the end of the answer's headers."""
    ca_file: AbsolutePath | None = None
    """PEM file with authorities to trust besides the system's."""
    wanted: StrictBool = False
    """Whether it is merely wanted: its failure is told but holds nothing."""

    @field_validator("body", "body_regex")
    @classmethod
    def _can_be_found(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("method") == "HEAD":
            raise ValueError("the answer to HEAD has no body to look into")
        return value

    @field_validator("body_regex")
    @classmethod
    def _is_regular(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return value

    @field_validator("max_latency")
    @classmethod
    def _comes_in_time(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if value is not None and value > info.data.get("timeout", value):
            raise ValueError("max_latency is longer than timeout")
        return value


CheckSection = Annotated[IcmpCheckSection | HttpCheckSection, Field(discriminator="type")]


class HealthSection(Section):
    """What must be well before this host upgrades."""

    deadline: Duration = timedelta(seconds=30)
    """Time limit of all checks together."""
    canary_hosts: tuple[Canary, ...] = ()
    """Host names and addresses to ping, and URLs to ask."""
    checks: tuple[CheckSection, ...] = ()
    """Checks in full."""

    @field_validator("checks")
    @classmethod
    def _can_end_in_time(
        cls, value: tuple[CheckSection, ...], info: ValidationInfo
    ) -> tuple[CheckSection, ...]:
        deadline = info.data.get("deadline")
        late = [i for i, check in enumerate(value) if deadline and check.timeout > deadline]
        if late:
            raise ValueError(f"the timeout of check {late[0]} is longer than health.deadline")
        return value


class ConfirmSection(Section):
    """How an activated system is confirmed, and what happens if it is broken."""

    checks: tuple[CheckSection, ...] = ()
    """What must be well after an upgrade if it was before."""
    settle: Duration = timedelta(seconds=30)
    """Time between the activation and the first judgement."""
    deadline: Duration = timedelta(minutes=10)
    """How long the checks are repeated until they are well."""
    patience: Duration = timedelta(days=1)
    """How long a system that cannot be judged is tried again before a person is asked."""
    hydra: StrictBool = True
    """Whether Hydra must be reachable afterwards if it was before; false for laptops."""
    gateway: StrictBool = True
    """Whether an answer of the default gateway tells an outage of Hydra from one of this host."""
    on_failure: OnFailure = OnFailure.ROLL_BACK
    """`roll-back`; `hold`: keep the broken system, and wait for a person."""
    ignore_units: tuple[str, ...] = ()
    """Units whose failure proves nothing; shell patterns such as `backup-*.service`."""

    @field_validator("deadline")
    @classmethod
    def _lets_checks_end(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        checks: tuple[CheckSection, ...] = info.data.get("checks", ())
        late = [i for i, check in enumerate(checks) if check.timeout > value]
        if late:
            raise ValueError(f"the timeout of check {late[0]} is longer than confirm.deadline")
        return value

    @field_validator("patience")
    @classmethod
    def _outlasts_the_deadline(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < info.data.get("deadline", value):
            raise ValueError("confirm.patience is shorter than confirm.deadline")
        return value


class RebootSection(Section):
    """Whether and when the host reboots."""

    mode: RebootMode = RebootMode.NEVER
    """`never`; `when-needed`: kernel, initrd, modules or parameters differ; `always`."""


class PathsSection(Section):
    """Where things are. Only tests and unusual hosts change these."""

    current_system: AbsolutePath = Path("/run/current-system")
    """Link to the running system."""
    booted_system: AbsolutePath = Path("/run/booted-system")
    """Link to the booted system."""
    profile: AbsolutePath = Path("/nix/var/nix/profiles/system")
    """The system profile."""
    store_dir: AbsolutePath = Path("/nix/store")
    """The store directory that output paths are checked against."""
    state_dir: AbsolutePath = Path("/var/lib/nixos-hydra-agent")
    """History, lock and scratch space."""
    marks_dir: AbsolutePath = Path("/nix/var/nix/gcroots/nixos-hydra-agent")
    """Links that keep the candidate from the garbage collector."""
    boot: AbsolutePath = Path("/boot")
    """Mount point of the boot partition."""


class LogSection(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important events that are logged."""
    format: Literal["auto", "json", "console"] = "auto"
    """`json` lines, `console` for a person; `auto`: console on a terminal."""


class Settings(BaseSettings):
    """All settings of the agent."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        title="nixos-hydra-agent",
    )

    host: AttributeName = Field(default_factory=socket.gethostname, validate_default=True)
    """This host's attribute in `nixosConfigurations`; by default its host name."""
    action: Action = Action.SWITCH
    """What nixos-rebuild does: `switch`, `boot`, `test` or `dry-activate`."""
    strategy: Strategy = Strategy.FLAKE
    """`flake`: evaluate and compare; `store-path`: activate Hydra's output with no evaluation."""
    verify: bool = True
    """Whether the candidate is proven to be this host's before anything is fetched."""
    flags: tuple[Annotated[str, AfterValidator(_flag)], ...] = ()
    """Further arguments for nixos-rebuild."""
    hydra: HydraSection = Field(default={}, validate_default=True)
    fetch: FetchSection = FetchSection()
    activate: ActivateSection = ActivateSection()
    upgrade: UpgradeSection = UpgradeSection()
    disk: DiskSection = DiskSection()
    health: HealthSection = HealthSection()
    confirm: ConfirmSection = ConfirmSection()
    reboot: RebootSection = RebootSection()
    paths: PathsSection = PathsSection()
    log: LogSection = LogSection()

    @field_validator("fetch")
    @classmethod
    def _can_build(cls, value: FetchSection, info: ValidationInfo) -> FetchSection:
        if value.local_builds and info.data.get("strategy") is Strategy.STORE_PATH:
            raise ValueError(
                "fetch.local_builds makes no sense with strategy = 'store-path': without a flake"
                " there is nothing to build from"
            )
        return value

    @field_validator("reboot")
    @classmethod
    def _keeps_its_effect(cls, value: RebootSection, info: ValidationInfo) -> RebootSection:
        action = info.data.get("action", Action.SWITCH)
        if value.mode is not RebootMode.NEVER and not action.moves_profile:
            raise ValueError(
                f"reboot.mode = '{value.mode}' makes no sense with action = '{action}': the reboot"
                " would undo it"
            )
        return value

    @property
    def job_name(self) -> str:
        """The Hydra job that this host follows."""
        return self.hydra.job or default_job_name(self.host)
