"""The settings of `agent flake-update`, which need not run on a host that upgrades."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.config.forge import ForgeSection
from agent.config.notify import NotifySection
from agent.config.section import AbsolutePath, Section
from agent.config.settings import HydraName, Instance, LogSection
from agent.config.values import Duration  # noqa: TC001 - pydantic reads the annotations

UPDATE_PREFIX: Final = "NIXOS_FLAKE_UPDATE_"
UPDATE_FILE: Final = Path("/etc/nixos-hydra-agent/flake-update.toml")


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value[:100]!r} is no regular expression: {error}") from error
    return value


def _branch(value: str) -> str:
    # git-check-ref-format(1), and no option.
    plain = value.replace("{date}", "20260101")
    is_bad = re.search(r"[\x00-\x20~^:?*\[\\\x7f{}]|\.\.|//|@\{|\.lock(/|$)|(^|/)\.", plain)
    if is_bad or not plain or plain.startswith(("-", "/")) or plain.endswith(("/", ".")):
        raise ValueError(f"{value[:100]!r} is no name of a branch")
    return value


_Pattern = Annotated[str, AfterValidator(_pattern)]
_Branch = Annotated[str, StringConstraints(max_length=200), AfterValidator(_branch)]
_Input = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_'/-]{0,199}$")]
_Remote = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}$")]
_Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f<>]{1,200}$")]


class FlakeUpdateSection(Section):
    """What is updated, and how it is proven."""

    repository: AbsolutePath | None = None
    """Directory of the flake, in a git checkout that stays as it is; by default the present one."""
    remote: _Remote = "origin"
    """Name of the remote that is fetched from and pushed to."""
    base: _Branch = "main"
    """The branch that hosts follow."""
    branch: _Branch = "flake-update-{date}"
    """The branch that an update is pushed to."""
    inputs: tuple[_Input, ...] = ()
    """The inputs to update; all, if none is named."""
    include: tuple[_Pattern, ...] = (".*",)
    """Regular expressions for the names of the hosts that must be built."""
    exclude: tuple[_Pattern, ...] = (".*-minimal",)
    """Regular expressions for the names of hosts that are left out."""
    verify: Literal["local", "hydra"] = "local"
    """`local`: build every host here; `hydra`: push the branch, and wait until Hydra has."""
    author_name: _Line | None = None
    """Whose name commits have; by default git's `user.name`."""
    author_email: _Line | None = None
    """Their address; by default git's `user.email`."""
    signing_format: Literal["openpgp", "ssh"] | None = None
    """How commits are signed; by default they are not."""
    signing_key: _Line | None = None
    """The key: an id for `openpgp`, the file of a private key for `ssh`."""
    ssh_key: AbsolutePath | None = None
    """File of the private key that the remote is asked with; by default ssh's own choice."""

    @field_validator("signing_key")
    @classmethod
    def _has_a_format(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("signing_format") is None:
            raise ValueError("makes no sense without flake_update.signing_format")
        return value


class ProofSection(Section):
    """The Hydra that proves updates, with `flake_update.verify = "hydra"`."""

    instance: Instance | None = None
    """URL of the Hydra instance."""
    project: HydraName | None = None
    """Name of the project."""
    jobset: HydraName | None = None
    """Name of the jobset that evaluates the branch of updates."""
    timeout: Duration = timedelta(seconds=10)
    """Time limit of one request."""
    deadline: Duration = timedelta(hours=6)
    """How long is waited until every job is built."""
    poll: Duration = timedelta(seconds=30)
    """How often Hydra is asked meanwhile."""


class UpdateSettings(BaseSettings):
    """All settings of `agent flake-update`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix=UPDATE_PREFIX,
        env_nested_delimiter="__",
        title="agent flake-update",
    )

    flake_update: FlakeUpdateSection = FlakeUpdateSection()
    forge: ForgeSection = ForgeSection()
    notify: NotifySection = NotifySection()
    hydra: ProofSection = Field(default=ProofSection(), validate_default=True)
    log: LogSection = LogSection()

    @field_validator("hydra")
    @classmethod
    def _can_prove(cls, value: ProofSection, info: ValidationInfo) -> ProofSection:
        update = info.data.get("flake_update")
        lacking = [key for key in ("instance", "project", "jobset") if getattr(value, key) is None]
        if isinstance(update, FlakeUpdateSection) and update.verify == "hydra" and lacking:
            raise ValueError(f"{lacking[0]} is required with flake_update.verify = 'hydra'")
        return value
