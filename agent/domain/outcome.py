"""How a run ended."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What came of a run, as logs, reports and history tell it."""

    NOTHING_TO_DO = "nothing-to-do"
    HELD = "held"
    DRY_RUN = "dry-run"
    ACTIVATING = "activating"
    """Under way; in the history, of a run that was cut short there."""
    ACTIVATED = "activated"
    STAGED = "staged"
    DRY_ACTIVATED = "dry-activated"
    AWAITS_REBOOT = "awaits-reboot"
    REBOOTING = "rebooting"
    FAILED = "failed"
