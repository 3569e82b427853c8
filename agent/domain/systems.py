"""The three systems of a host: running, booted and profile."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class BootArtifacts:
    """What only a reboot can change, as resolved paths and the text of `kernel-params`."""

    kernel: str
    initrd: str
    kernel_modules: str
    kernel_params: str


@dataclass(frozen=True, slots=True)
class Systems:
    """Where the host's links point to; None where a link is missing or names no store path."""

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
    """Return the names of the artifacts for which `wanted` needs a reboot.

    The rule is `system.autoUpgrade`'s, plus kernel parameters. Where either side is unknown no
    need can be shown, and the answer is empty.
    """
    if booted is None or wanted is None:
        return ()
    return tuple(
        field.name.replace("_", "-")
        for field in fields(BootArtifacts)
        if getattr(booted, field.name) != getattr(wanted, field.name)
    )
