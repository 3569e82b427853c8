"""How far a run has got, and how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """The outcome of a run, as logs, reports and history show it.

    An upgrade's row in the history passes through phases, each written before its effect. A row
    with one of `UNDER_WAY` belongs to a run that was cut short in that phase, or is still running.
    """

    SELECTED = "selected"
    """The gates are open; the flake is about to be evaluated."""
    VERIFIED = "verified"
    """The candidate is this host's; its closure is about to be fetched."""
    FETCHED = "fetched"
    """The closure is in the store; nixos-rebuild is about to build."""
    ARMED = "armed"
    """The mark `pending` and the dead-man's timer are about to be set."""
    ACTIVATING = "activating"
    """nixos-rebuild is about to change the host."""
    PENDING = "pending"
    """Activated; the new system is about to be confirmed, or could not be judged yet."""
    ROLLING_BACK = "rolling-back"
    """The confirmed system is about to be activated again."""
    REBOOTING = "rebooting"

    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled-back"
    STAGED = "staged"
    DRY_ACTIVATED = "dry-activated"
    NOTHING_TO_DO = "nothing-to-do"
    HELD = "held"
    DRY_RUN = "dry-run"
    AWAITS_REBOOT = "awaits-reboot"
    FAILED = "failed"


HARMLESS: Final = frozenset({Outcome.SELECTED, Outcome.VERIFIED, Outcome.FETCHED})
"""Phases in which nothing on the host but its store has been changed."""
UNDER_WAY: Final = HARMLESS | {
    Outcome.ARMED,
    Outcome.ACTIVATING,
    Outcome.PENDING,
    Outcome.ROLLING_BACK,
}
