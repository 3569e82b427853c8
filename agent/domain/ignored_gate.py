"""A gate that held a run, and was ignored by an administrator."""

from __future__ import annotations

from typing import NamedTuple


class IgnoredGate(NamedTuple):
    """The reason of a gate, who ignored it, and why."""

    gate: str
    by: str
    """The administrator's user name."""
    because: str
    """The reason that the administrator gave."""
    held: str
    """What the gate said."""
