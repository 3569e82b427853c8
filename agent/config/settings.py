"""The settings: every key, its type, its default and its meaning, in one schema.

Validation, `agent config schema` and the reference page all come from these models.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.checks.registry import AnyCheckSection, check_of
from agent.config.flake_update import FlakeUpdateSection
from agent.config.notify import NotifySection
from agent.config.target import default_name, default_paths, target_in
from agent.config.windows import ScheduleSection
from agent.domain.job import Select, default_job_name
from agent.domain.nix_options import refuse_open_secrets
from agent.domain.origin import UrlPrefix, parse_url_prefix
from agent.domain.policy import Action, OnFailure, RebootMode, Strategy
from agent.domain.secrets import has_secret
from agent.domain.target import TargetName
from agent.fields.section import HOST_PATTERN, HTTP_URL_PATTERN, AbsolutePath, Section, table
from agent.fields.values import Duration, Size, parse_host, parse_http_url
from agent.lean.places import MARKS_DIR, STATE_DIR

ENVIRONMENT_PREFIX: Final = "NIXOS_HYDRA_AGENT_"


def _hydra_name(value: str) -> str:
    if "/" in value or "\0" in value or value in (".", ".."):
        raise ValueError("a project, jobset or job name has no slash and no NUL, and is not '..'")
    return value


def _attribute_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.'@-]{0,252}", value):
        raise ValueError("a host is an attribute name of the flake: letters, digits, _.'@-")
    return value


def _instance(value: str) -> str:
    parse_http_url(value)
    if "?" in value or "#" in value:
        raise ValueError("an instance is a URL without '?' and '#'")
    return value.rstrip("/")


def _substituter(value: str) -> str:
    # For ssh a user name alone, which is not a secret.
    if re.search(r"//[^/?]*@", value) and not re.match(
        r"ssh(-ng)?://[^/?@:]+@[^/?@]+(/|\?|$)", value
    ):
        raise ValueError("no user name or password here: nix reads them from its netrc-file")
    if not re.fullmatch(r"[A-Za-z0-9][^\s\"'\0]*", value):
        raise ValueError(f"{value[:100]!r} is not a substituter URL")
    if has_secret(value):
        raise ValueError("no password or token here: all users could read it among nix's arguments")
    return value


def _public_key(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+:[A-Za-z0-9+/]+=*", value):
        raise ValueError(f"{value[:100]!r} is not a public key of the form NAME:BASE64")
    return value


# These would override the agent's own choice of flake, system, lock file or profile.
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
        raise ValueError(f"{name} would override a decision of the agent")
    if "\0" in value or "\n" in value:
        raise ValueError("a flag must not contain a line break or NUL")
    return value


HydraName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(_hydra_name),
    WithJsonSchema(
        {
            "$comment": "name without a slash",
            "type": "string",
            "pattern": "^[^/]+$",
            "maxLength": 255,
        }
    ),
]
AttributeName = Annotated[
    str,
    AfterValidator(_attribute_name),
    WithJsonSchema(
        {
            "$comment": "attribute name",
            "type": "string",
            "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.'@-]*$",
        }
    ),
]
Specialisation = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9_+?=-][A-Za-z0-9_.+?=-]{0,199})?$"),
]
Instance = Annotated[
    str,
    AfterValidator(_instance),
    WithJsonSchema(
        {
            "$comment": "http or https URL without user name, password, '?' and '#'",
            "type": "string",
            "pattern": "^https?://[^/?#@ ]+(/[^?# ]*)?$",
        }
    ),
]


def _canary(value: str) -> str:
    return parse_http_url(value) if "://" in value else parse_host(value)


Canary = Annotated[
    str,
    AfterValidator(_canary),
    WithJsonSchema(
        {
            "$comment": "host name, address, or http or https URL",
            "type": "string",
            "pattern": f"^({HOST_PATTERN}|{HTTP_URL_PATTERN})$",
        }
    ),
]
Substituter = Annotated[
    str,
    AfterValidator(_substituter),
    WithJsonSchema(
        {
            "$comment": "substituter URL without password",
            "type": "string",
            "pattern": "^([A-Za-z0-9][^@ ]*|[A-Za-z0-9][^/@ ]*//[^/?@ ]*[/?][^ ]*"
            "|ssh(-ng)?://[^/?@: ]+@[^ ]*)$",
        }
    ),
]


InsecurePrefix = Annotated[
    UrlPrefix,
    AfterValidator(parse_url_prefix),
    WithJsonSchema(
        {
            "$comment": "URL prefix without user name, '?' and '#'",
            "type": "string",
            "pattern": "^[a-z][a-z0-9+.-]*:[^?#@ ]+$",
        }
    ),
]


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
    """Time limit of all requests of a run, including retries."""
    refresh: Duration = timedelta(hours=1)
    """For how long after a full run only the newest build is asked for."""
    patience: Duration = timedelta(days=3)
    """How long Hydra or a cache may be unreachable before runs fail."""

    @field_validator("deadline")
    @classmethod
    def _leaves_time_for_a_request(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if info.data.get("timeout", value) > value:
            raise ValueError("hydra.timeout is longer than hydra.deadline")
        return value


class FetchSection(Section):
    """How a candidate is fetched."""

    substituters: tuple[Substituter, ...] = ()
    """Substituters to use instead of nix's own; empty: those of nix.conf."""
    trusted_public_keys: tuple[Annotated[str, AfterValidator(_public_key)], ...] = ()
    """Keys to trust instead of nix's own; empty: those of nix.conf."""
    local_builds: bool = False
    """Whether this host may build what no substituter has."""
    deadline: Duration = timedelta(hours=2)
    """Time limit of each step before activation: evaluate, fetch, build."""


class TrustSection(Section):
    """What may be fetched insecurely."""

    allow_insecure: tuple[InsecurePrefix, ...] = ()
    """URL prefixes, such as `git+file:///srv/hosts`, that nix may fetch without TLS or ssh."""


class ActivateSection(Section):
    """How a candidate is activated."""

    deadline: Duration = timedelta(minutes=30)
    """Time limit of the activation."""


class UpgradeSection(ScheduleSection):
    """When this host may upgrade."""

    foreign_hold: Duration = timedelta(days=3)
    """How long a system that the agent has not activated is left alone."""


class ClockSection(Section):
    """The clock that windows rely on."""

    patience: Duration = timedelta(days=1)
    """How long runs are held while the clock is not synchronised; after that they fail."""


class DiskSection(Section):
    """Disk space that an upgrade must leave free."""

    store_reserve: Size = 1 << 30
    """Bytes that must stay free in the store's file system after fetching."""
    boot_reserve: Size = 64 << 20
    """Bytes that must be free on the boot partition."""


class HealthSection(Section):
    """What must be healthy before this host upgrades."""

    deadline: Duration = timedelta(seconds=30)
    """Time limit of all checks together."""
    canary_hosts: tuple[Canary, ...] = ()
    """Host names and addresses to ping, and URLs to ask."""
    checks: tuple[AnyCheckSection, ...] = ()
    """Checks with all their settings."""

    @field_validator("checks")
    @classmethod
    def _can_end_in_time(
        cls, value: tuple[AnyCheckSection, ...], info: ValidationInfo
    ) -> tuple[AnyCheckSection, ...]:
        deadline = info.data.get("deadline")
        late = [i for i, check in enumerate(value) if deadline and check.timeout > deadline]
        if late:
            raise ValueError(f"the timeout of check {late[0]} is longer than health.deadline")
        return value


class ConfirmSection(Section):
    """How an activated system is confirmed, and what happens if it is broken."""

    checks: tuple[AnyCheckSection, ...] = ()
    """What must be healthy after an upgrade if it was before."""
    settle: Duration = timedelta(seconds=30)
    """Time between the activation and the first judgement."""
    deadline: Duration = timedelta(minutes=10)
    """How long the checks are repeated before they count as failed."""
    patience: Duration = timedelta(days=1)
    """How long, while the host is up, the agent keeps trying to judge a system."""
    hydra: StrictBool = True
    """Whether Hydra must be reachable afterwards if it was before; false for laptops."""
    gateway: StrictBool = True
    """Whether the default gateway is pinged, to tell an outage of Hydra from one of this host."""
    on_failure: OnFailure = OnFailure.ROLL_BACK
    """`roll-back`; `hold`: keep the broken system, and wait for an administrator."""
    ignore_units: tuple[str, ...] = ()
    """Units whose failure is ignored; shell patterns such as `backup-*.service`."""
    collect_garbage: StrictBool = False
    """Whether `nix-gc.service` is started once an upgrade is confirmed."""

    @field_validator("checks")
    @classmethod
    def _have_names_of_their_own(
        cls, value: tuple[AnyCheckSection, ...]
    ) -> tuple[AnyCheckSection, ...]:
        # The result of each before the switch is remembered by its name.
        names = [check_of(check).name for check in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two checks are named {twice!r}: give one of them another name")
        return value

    @field_validator("deadline")
    @classmethod
    def _lets_checks_end(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        checks: tuple[AnyCheckSection, ...] = info.data.get("checks", ())
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


class RebootSection(ScheduleSection):
    """Whether and when the host reboots."""

    mode: RebootMode = RebootMode.NEVER
    """`never`; `when-needed`: if kernel, initrd, modules or parameters differ; `always`."""
    inhibitor_limit: Duration = timedelta(days=1)
    """How long a program that inhibits a shutdown is respected."""
    user_notice: Duration = Field(default=timedelta(minutes=10), validate_default=True)
    """How long before the reboot logged-in users are warned."""
    try_boot: StrictBool = True
    """Whether the boot default stays on the confirmed system until the new one is confirmed."""

    @field_validator("user_notice")
    @classmethod
    def _fits_into_the_margin(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        margin = info.data.get("margin")
        if info.data.get("windows") and margin is not None and value >= margin:
            raise ValueError("reboot.user_notice is not shorter than reboot.margin")
        return value


class PathsSection(Section):
    """Where things are. Only tests and unusual hosts change these; a home has its own defaults."""

    current_system: AbsolutePath = Path("/run/current-system")
    """Link to the running system."""
    booted_system: AbsolutePath = Path("/run/booted-system")
    """Link to the booted system."""
    profile: AbsolutePath = Path("/nix/var/nix/profiles/system")
    """The system profile."""
    store_dir: AbsolutePath = Path("/nix/store")
    """The store directory that output paths are checked against."""
    state_dir: AbsolutePath = Path(STATE_DIR)
    """History, lock and scratch space."""
    marks_dir: AbsolutePath = Path(MARKS_DIR)
    """The marks: garbage-collector roots for the systems that the agent depends on."""
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
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        title="nixos-hydra-agent",
    )

    target: TargetName = TargetName.NIXOS
    """`nixos`: this host's system; `home-manager`: a user's home, without root."""
    host: AttributeName = Field(default=None, validate_default=True)
    """Attribute of the configuration; by default the host name, or for a home the user name."""
    action: Action = Action.SWITCH
    """What nixos-rebuild does: `switch`, `boot`, `test` or `dry-activate`."""
    strategy: Strategy = Strategy.FLAKE
    """`flake`: evaluate and compare; `store-path` (NixOS 26.05): activate what Hydra built."""
    specialisation: Specialisation | None = None
    """Name of the specialisation to run, `""` for none. By default the running one is kept."""
    verify: bool = True
    """Whether the candidate is verified to be of this configuration before it is fetched."""
    flags: tuple[Annotated[str, AfterValidator(_flag)], ...] = ()
    """Additional arguments for nixos-rebuild; for a home, for `nix build`."""
    hydra: HydraSection = table()
    fetch: FetchSection = table()
    trust: TrustSection = table()
    activate: ActivateSection = table()
    upgrade: UpgradeSection = table()
    clock: ClockSection = table()
    disk: DiskSection = table()
    health: HealthSection = table()
    confirm: ConfirmSection = table()
    reboot: RebootSection = table()
    paths: PathsSection = table()
    log: LogSection = table()
    notify: NotifySection = table()
    flake_update: FlakeUpdateSection = table()

    @field_validator("host", mode="before")
    @classmethod
    def _has_a_name(cls, value: object, info: ValidationInfo) -> object:
        return default_name(info.data) if value is None else value

    @field_validator("flags")
    @classmethod
    def _can_be_seen_by_all(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_open_secrets(value)
        return value

    @field_validator("action")
    @classmethod
    def _is_known_to_the_target(cls, value: Action, info: ValidationInfo) -> Action:
        if value not in target_in(info.data).actions:
            raise ValueError(
                f"action = '{value}' makes no sense with target = '{info.data['target']}'"
            )
        return value

    @field_validator("paths", mode="before")
    @classmethod
    def _are_of_the_target(cls, value: object, info: ValidationInfo) -> object:
        ours = default_paths(target_in(info.data))
        return {**ours, **value} if isinstance(value, dict) else value

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
        if value.mode is not RebootMode.NEVER and not target_in(info.data).may_reboot:
            raise ValueError(
                f"reboot.mode = '{value.mode}' makes no sense with target = '{info.data['target']}'"
            )
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
