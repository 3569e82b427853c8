"""Reads the settings: command line over environment over file; every problem at once."""

from __future__ import annotations

import errno
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource
from typing_extensions import override

from agent.config.problems import problem_of, unknown_variables
from agent.config.settings import ENVIRONMENT_PREFIX, Settings
from agent.domain.errors import ConfigError, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo
    from pydantic_settings import PydanticBaseSettingsSource

    from agent.config.flake_update import UpdateSettings

DEFAULT_FILE: Final = Path("/etc/nixos-hydra-agent/config.toml")
_MAX_FILE: Final = 1 << 20
_S = TypeVar("_S", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class _Origin(Generic[_S]):
    """Settings of one kind, their usual file, and what the names of their variables begin with."""

    model: type[_S]
    file: Path
    prefix: str


_AGENT: Final = _Origin(Settings, DEFAULT_FILE, ENVIRONMENT_PREFIX)


def load_settings(
    file: Path | None,
    *,
    overrides: Mapping[str, Any] | None = None,
    canaries: tuple[str, ...] = (),
    fallback: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the merged settings.

    Args:
        file: the TOML file; None for the usual place, where it may be missing.
        overrides: what the command line says, over everything else.
        canaries: canaries of the command line, in addition to the configured ones.
        fallback: what holds where neither file nor environment says anything.

    Raises:
        ConfigError: with every problem and its key.
    """
    content = _read(_AGENT, file)
    overrides = dict(overrides or {})
    settings = _merge(_AGENT, overrides, content, fallback or {}, file)
    if canaries:
        both = (*settings.health.canary_hosts, *canaries)
        overrides["health"] = {**overrides.get("health", {}), "canary_hosts": both}
        settings = _merge(_AGENT, overrides, content, fallback or {}, file)
    return settings


def load_update_settings(
    file: Path | None, *, overrides: Mapping[str, Any] | None = None
) -> UpdateSettings:
    """Return the merged settings of `agent flake-update`; arguments and faults as above."""
    # Upgrades need none of it.
    from agent.config.flake_update import (  # noqa: PLC0415
        UPDATE_FILE,
        UPDATE_PREFIX,
        UpdateSettings,
    )

    origin = _Origin(UpdateSettings, UPDATE_FILE, UPDATE_PREFIX)
    return _merge(origin, overrides or {}, _read(origin, file), {}, file)


def _read(origin: _Origin[_S], file: Path | None) -> dict[str, Any]:
    path = file or origin.file
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE + 1)
    except FileNotFoundError as error:
        if file is None:
            return {}
        raise ConfigError(Kind.CONFIG_MISSING, f"there is no file {path}") from error
    except OSError as error:
        raise ConfigError(
            Kind.CONFIG_UNREADABLE,
            f"cannot read {path}: {os.strerror(error.errno or errno.EIO)}",
        ) from error
    if len(text) > _MAX_FILE:
        raise ConfigError(Kind.CONFIG_UNREADABLE, f"{path} is larger than 1 MiB")
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # too long a number is a plain ValueError
        raise ConfigError(Kind.CONFIG_SYNTAX, f"{path} is not TOML: {error}") from error


class _Variables(EnvSettingsSource):
    """The environment; a value that ought to be JSON and is not is left for validation to tell."""

    @override
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


def _merge(
    origin: _Origin[_S],
    overrides: Mapping[str, Any],
    content: dict[str, Any],
    fallback: Mapping[str, Any],
    file: Path | None,
) -> _S:
    base: Any = origin.model

    class Merged(base):  # type: ignore[misc]
        @classmethod
        @override
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # None of these has a user here.
            del env_settings, dotenv_settings, file_secret_settings
            in_file = InitSettingsSource(settings_cls, content)
            last = InitSettingsSource(settings_cls, dict(fallback))
            return (init_settings, _Variables(settings_cls), in_file, last)

    problems = list(unknown_variables(origin.model, origin.prefix))
    settings: _S | None = None
    try:
        settings = Merged(**overrides)
    except ValidationError as error:
        problems += [
            problem_of(details, origin.model) for details in error.errors(include_url=False)
        ]
    if settings is None or problems:
        where = file or (origin.file if content else f"{origin.file} (which does not exist)")
        told = "; ".join(f"{key}: {wrong}" if key else wrong for key, wrong in problems)
        raise ConfigError(
            Kind.CONFIG_INVALID,
            f"the settings from {where} and {origin.prefix}* cannot be used: {told}",
            problems=tuple(problems),
            source=str(where),
        )
    return settings
