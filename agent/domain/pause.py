"""A pause: an administrator wants no upgrade and no reboot for now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """Until when, why and by whom; without `until` it lasts until `agent resume`."""

    reason: str
    by: str
    since: datetime
    until: datetime | None = None
