"""Determines whether a running activation is the agent's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class ActivationSeen:
    """What is known of a running switch-to-configuration, whoever has started it."""

    is_running: bool | None
    """Nixos-rebuild's transient unit is active, or switch-to-configuration's lock is held; None if
    unknown."""
    command: tuple[str, ...] = ()
    """The unit's ExecStart, split into words; empty if no unit is running, or if it is unknown."""
    invocation: str = ""
    """The unit's InvocationID; empty under the same conditions."""
    unit: str = field(default="", compare=False)
    """The unit's name, which differs from the usual one in some releases of nixos-rebuild."""


NOT_BEGUN: Final = "none"
"""Recorded instead of an InvocationID if the activation was refused, so that none matches."""


def is_ours(seen: ActivationSeen, paths: Iterable[StorePath], invocation: str | None) -> bool:
    """Return whether what is running is provably an activation of `paths` that the agent started.

    `invocation` is the InvocationID that the agent has recorded; if it could not record one, the
    command line alone decides.
    """
    if not (seen.is_running and seen.invocation and names_one_of(seen.command, paths)):
        return False
    return invocation in (None, "", seen.invocation)


def names_one_of(command: Iterable[str], paths: Iterable[StorePath]) -> bool:
    """Return whether a command line names one of `paths`, or something below it."""
    known = tuple(paths)
    return any(word == path or word.startswith(f"{path}/") for word in command for path in known)
