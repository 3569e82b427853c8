"""The settings that a system contains, read from its own files before it runs.

Its activation is judged by them, and not by the settings of the agent that activates it: a build
can bring the setting that its own confirmation needs. They may be for another version of the agent,
so they are read leniently, and only the needed parts.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from typing_extensions import override

from agent.application import ports
from agent.checks.registry import check_of
from agent.config.policy import confirm_policy_of
from agent.config.settings import ENVIRONMENT_PREFIX, ConfirmSection
from agent.domain.unit_names import CONFIRM_UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.settings import Settings
    from agent.domain.policy import ConfirmPolicy
    from agent.domain.store_path import StorePath

_USUAL: Final = Path("etc/nixos-hydra-agent/config.toml")
_MAX_FILE: Final = 1 << 20
_NAMED: Final = re.compile(r"""^ExecStart=.*\s--config(?:=|\s+)"?([^\s"]+)""", re.MULTILINE)


class SystemSettings(ports.SystemSettings):
    """Reads the settings in systems; `own` and `own_file` are those of the running agent.

    A system's confirm unit, below `units` in it, names the file with `--config`; otherwise it is
    the default one in its `etc`. Environment variables apply unchanged: they belong to the host,
    not to a system.
    """

    def __init__(self, own: Settings, own_file: Path, units: str) -> None:
        self._own = own
        self._own_file = own_file
        self._units = units

    @override
    def confirm_of(self, toplevel: StorePath) -> ConfirmPolicy | None:
        content = self._content_of(toplevel)
        table = {} if content is None else content.get("confirm", {})
        if content is None or not isinstance(table, dict):
            return None
        section = _lenient(table, self._own.confirm, _set_by_environment("confirm"))
        return None if section is None else confirm_policy_of(section)

    @override
    def dropped_canaries(self, toplevel: StorePath) -> frozenset[str]:
        ours, theirs = self._own_canaries, _named(self._content_of(toplevel))
        if ours is None or theirs is None or _set_by_environment("health"):
            return frozenset()
        asked = self._own.health.canary_hosts
        return frozenset(
            canary
            for canary in ours
            if canary not in theirs and asked.count(canary) == ours.count(canary)
        )

    @cached_property
    def _own_canaries(self) -> tuple[str, ...] | None:
        """The canaries of the agent's own file that none of its checks covers as well."""
        content = _read(self._own_file)
        canaries = None if content is None else _canaries(content)
        if content is None or canaries is None:
            return None
        asked = {check_of(section) for section in self._own.health.checks}
        others = {name for check in asked for name in (check.name, check.target)}
        return tuple(canary for canary in canaries if canary not in others)

    def _content_of(self, toplevel: StorePath) -> dict[str, Any] | None:
        return _read(self._file_of(Path(toplevel)))

    def _file_of(self, system: Path) -> Path:
        found = _NAMED.search(_text(system / self._units / CONFIRM_UNIT) or "")
        if found is None:
            return system / _USUAL
        named = Path(found[1])
        # A path in /etc belongs to the running system.
        return system / named.relative_to("/") if named.is_relative_to("/etc") else named


def _lenient(
    table: Mapping[str, Any], own: ConfirmSection, fixed: frozenset[str]
) -> ConfirmSection | None:
    """Return a table as a section, with `own` values for what is unusable and what is `fixed`.

    None if the values still contradict each other.
    """
    used = {key: value for key, value in table.items() if key in ConfirmSection.model_fields}
    replaced = fixed & frozenset(ConfirmSection.model_fields)
    while True:
        ours = {key: getattr(own, key) for key in replaced}
        try:
            return ConfirmSection.model_validate({**used, **ours})
        except ValidationError as error:
            wrong = {str(one["loc"][0]) for one in error.errors() if one["loc"]} - replaced
        if not wrong:
            return None
        replaced |= wrong


def _set_by_environment(section: str) -> frozenset[str]:
    """Return the keys of a section that environment variables set; every key for a whole table."""
    whole = f"{ENVIRONMENT_PREFIX}{section}".upper()
    found: set[str] = set()
    for name in os.environ:
        head, _, key = name.upper().partition(f"{whole}__")
        if not head and key:
            found.add(key.partition("__")[0].lower())
        elif name.upper() == whole:
            found |= ConfirmSection.model_fields.keys()
    return frozenset(found)


def _canaries(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the canaries that a file names; None if that is unclear."""
    health = content.get("health", {})
    named = health.get("canary_hosts", []) if isinstance(health, dict) else None
    if not isinstance(named, list) or not all(isinstance(canary, str) for canary in named):
        return None
    return tuple(named)


def _named(content: Mapping[str, Any] | None) -> frozenset[str] | None:
    """Return the canaries and the targets of the configured checks, whatever their type."""
    canaries = None if content is None else _canaries(content)
    if content is None or canaries is None:
        return None
    checks = content.get("health", {}).get("checks", [])
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        return None
    targets = [check[key] for check in checks for key in ("host", "url") if key in check]
    return frozenset((*canaries, *(str(target) for target in targets)))


def _read(file: Path) -> dict[str, Any] | None:
    text = _text(file)
    try:
        return None if text is None else tomllib.loads(text)
    except (ValueError, RecursionError):  # a number with too many digits is a plain ValueError
        return None


def _text(file: Path) -> str | None:
    try:
        # Does not block on a pipe, to which a link may lead.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            content = stream.read(_MAX_FILE + 1)
            return content.decode() if len(content) <= _MAX_FILE else None
    except (OSError, ValueError):
        return None
