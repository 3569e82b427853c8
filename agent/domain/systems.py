"""The three systems of a host: running, booted and profile."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.domain.store_path import StorePath

_MOST_NAMED: Final = 5
_LONGEST: Final = 60
"""Characters of a name or value that a reason quotes."""


@dataclass(frozen=True, slots=True)
class BootArtifacts:
    """What only a reboot can change: resolved paths, and the text of `kernel-params`."""

    kernel: str
    initrd: str
    kernel_modules: str
    kernel_params: str


@dataclass(frozen=True, slots=True)
class Systems:
    """Where the host's links point; None if a link is missing or does not lead to a store path."""

    running: StorePath | None
    """`/run/current-system`"""
    booted: StorePath | None
    """`/run/booted-system`"""
    profile: StorePath | None
    """`/nix/var/nix/profiles/system`"""
    is_container: bool = False
    """A container has no kernel of its own and never needs a reboot."""
    boot_id: str = ""
    """Changes with each boot."""


def reboot_need(booted: BootArtifacts | None, wanted: BootArtifacts | None) -> tuple[str, ...]:
    """Return the names of the artifacts because of which `wanted` needs a reboot.

    The rule is `system.autoUpgrade`'s, plus kernel parameters. If either side is unknown, no need
    can be shown, and the result is empty.
    """
    if booted is None or wanted is None:
        return ()
    return tuple(
        field.name.replace("_", "-")
        for field in fields(BootArtifacts)
        if getattr(booted, field.name) != getattr(wanted, field.name)
    )


def changed_inhibitors(
    running: Mapping[str, str] | None, wanted: Mapping[str, str] | None
) -> tuple[str, ...]:
    """Return the switch inhibitors that keep a host on `running` from being switched to `wanted`.

    Each is `name (old → new)`. The rule is NixOS's (nixos/modules/system/activation/
    switchable-system.nix): a name counts only if both systems have it, with different values.
    Unknown lists do not differ.
    """
    if running is None or wanted is None:
        return ()
    return tuple(
        f"{_brief(name)} ({_brief(running[name])} → {_brief(wanted[name])})"
        for name in sorted(running.keys() & wanted.keys())
        if running[name] != wanted[name]
    )


def inhibitor_reason(changed: Sequence[str]) -> str:
    """Return a sentence about the result of `changed_inhibitors`; empty if it found nothing."""
    if not changed:
        return ""
    more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    return f"switch inhibitors differ: {', '.join(changed[:_MOST_NAMED])}{more}"


def reboot_reason(need: tuple[str, ...], inhibitors: tuple[str, ...], *, is_running: bool) -> str:
    """Return why the profile's system waits for a reboot; empty if it does not.

    `is_running`: the running system is the profile's, or a specialisation of it.
    """
    inhibited = "" if is_running else inhibitor_reason(inhibitors)
    if need:
        differing = f"{', '.join(need)} differ between the booted system and the profile"
        return f"{differing}; {inhibited}" if inhibited else differing
    if inhibited:
        return f"{inhibited}, between the running system and the profile"
    return "" if is_running else "the running system is not the profile's"


def _brief(text: str) -> str:
    text = text.strip('"')
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
