"""Reads the settings: command line over environment over file; reports all problems at once."""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, InitSettingsSource
from typing_extensions import override

from agent.config.problems import CONFIG_VARIABLE, problem_of, unknown_variables, variable_at_fault
from agent.config.settings import Settings
from agent.domain.errors import ConfigError, Kind
from agent.lean.places import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

DEFAULT_FILE: Final = Path(CONFIG_FILE)
_MAX_FILE: Final = 1 << 20
WITHOUT_HYDRA: Final[Mapping[str, Any]] = {
    "hydra": {"instance": "http://localhost", "project": "none", "jobset": "none"}
}
"""The fallback for commands that do not use this host's builds, and so do not need `[hydra]`."""


def load_settings(
    file: Path | None,
    *,
    overrides: Mapping[str, Any] | None = None,
    canaries: tuple[str, ...] = (),
    fallback: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the merged settings.

    Args:
        file: the TOML file; None for the default path, where it may be missing.
        overrides: settings from the command line, which take precedence.
        canaries: canaries from the command line, in addition to the configured ones.
        fallback: values that apply if neither file nor environment sets them.

    Raises:
        ConfigError: with all problems and their keys.
    """
    content = _read(file)
    overrides = dict(overrides or {})
    settings = _merge(overrides, content, fallback or {}, file)
    if canaries:
        both = (*settings.health.canary_hosts, *canaries)
        overrides["health"] = {**overrides.get("health", {}), "canary_hosts": both}
        settings = _merge(overrides, content, fallback or {}, file)
    return settings


def _read(file: Path | None) -> dict[str, Any]:
    path = file or DEFAULT_FILE
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE + 1)
    except FileNotFoundError as error:
        if file is None:
            return {}
        hint = f"{CONFIG_VARIABLE} names it" if _is_named_by_variable(path) else ""
        raise ConfigError(Kind.CONFIG_MISSING, f"there is no file {path}", hint=hint) from error
    except OSError as error:
        raise ConfigError(
            Kind.CONFIG_UNREADABLE,
            f"cannot read {path}: {os.strerror(error.errno or errno.EIO)}",
        ) from error
    if len(text) > _MAX_FILE:
        raise ConfigError(Kind.CONFIG_UNREADABLE, f"{path} is larger than 1 MiB")
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # a ValueError for a number with too many digits
        raise ConfigError(Kind.CONFIG_SYNTAX, f"{path} is not TOML: {error}") from error


def _is_named_by_variable(path: Path) -> bool:
    return os.environ.get(CONFIG_VARIABLE) == str(path)


class _Variables(EnvSettingsSource):
    """The environment; a value that should be JSON but is not is left to validation."""

    @override
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


def _validated(*sources: Mapping[str, Any]) -> Settings:
    """Return the merged sources, of which the first takes precedence.

    Raises:
        ValidationError: with everything that is wrong in them.
    """
    values: Mapping[str, Any] = {}
    for source in sources:
        values = _merged(InitSettingsSource(Settings, dict(source))(), values)
    settings = Settings.__new__(Settings)
    # Not that of BaseSettings, which adds sources and interprets some keys itself.
    BaseModel.__init__(settings, **values)
    return settings


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables into tables; anything else is replaced."""
    laid = dict(below)
    for key, value in above.items():
        known = laid.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            laid[key] = _merged(known, value)
        else:
            laid[key] = value
    return laid


def _merge(
    overrides: Mapping[str, Any],
    content: dict[str, Any],
    fallback: Mapping[str, Any],
    file: Path | None,
) -> Settings:
    problems = list(unknown_variables())
    variables = [name for name, _ in problems]
    settings, is_all_of_variables = None, True
    try:
        settings = _validated(overrides, _Variables(Settings)(), content, fallback)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            key, wrong = problem_of(details)
            variable = variable_at_fault(details, overrides, wrong)
            problems.append((key, f"{wrong} (in {variable})" if variable else wrong))
            variables += [variable] if variable else []
            is_all_of_variables = is_all_of_variables and variable is not None
    if settings is None or problems:
        where = file or (DEFAULT_FILE if content else f"{DEFAULT_FILE} (which does not exist)")
        sources = [*([] if is_all_of_variables else [str(where)]), *dict.fromkeys(variables)]
        values = "; ".join(f"{key}: {wrong}" if key else wrong for key, wrong in problems)
        raise ConfigError(
            Kind.CONFIG_INVALID,
            f"the settings from {' and '.join(sources)} cannot be used: {values}",
            problems=tuple(problems),
            source=" and ".join(sources),
        )
    return settings
