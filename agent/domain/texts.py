"""Human-readable instants and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_KIB: Final = 1024


def format_instant(moment: datetime | None) -> str:
    """Return an instant by the minute; without one, "never"."""
    return "never" if moment is None else moment.strftime("%Y-%m-%d %H:%M UTC")


def format_size(count: int) -> str:
    """Return bytes in binary units, with one decimal."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} TiB"
