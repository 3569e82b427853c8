"""Finds out whose activation is running: ours, or someone else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class ActivationSeen:
    """What can be seen of a switch-to-configuration, no matter who has started it."""

    is_running: bool | None
    """In the transient unit of nixos-rebuild, or with switch-to-configuration's lock in its hands;
    None if unknown."""
    command: tuple[str, ...] = ()
    """The words of the unit's ExecStart; empty without a running unit, or where that is unknown."""
    invocation: str = ""
    """The unit's InvocationID; empty as the command is."""
    unit: str = field(default="", compare=False)
    """The unit's name, which is not nixos-rebuild's usual one in some of its releases."""


NOT_BEGUN: Final = "none"
"""In place of the InvocationID of an activation that was refused: none that is running is ours."""


def is_ours(seen: ActivationSeen, paths: Iterable[StorePath], invocation: str | None) -> bool:
    """Return whether what is running is provably an activation of `paths` that the agent started.

    `invocation` is the InvocationID that the agent has recorded of its own; where it could not
    record one, the command line alone decides.
    """
    if not (seen.is_running and seen.invocation and names_one_of(seen.command, paths)):
        return False
    return invocation in (None, "", seen.invocation)


def names_one_of(command: Iterable[str], paths: Iterable[StorePath]) -> bool:
    """Return whether a command line names one of `paths`, or something below it."""
    known = tuple(paths)
    return any(word == path or word.startswith(f"{path}/") for word in command for path in known)
