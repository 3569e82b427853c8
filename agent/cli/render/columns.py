"""Lays out human-readable output in columns, with colours on a terminal."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNLIMITED: Final = 1_000_000
"""The width if the output is not a terminal, so that each row is one line for a program."""


def in_columns(
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    is_tty: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return the rows in columns, the last of which is wrapped on a terminal.

    `styles` has the style of each row's first cell: colours of rich, which show on a terminal
    unless NO_COLOR is set. An empty one is not (no-color.org).
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for _ in rows[0]:
        table.add_column(no_wrap=True)
    table.columns[-1].no_wrap = not is_tty
    table.columns[-1].overflow = "fold"
    for number, (first, *rest) in enumerate(rows):
        style = styles[number] if styles else ""
        table.add_row(Text(printable(first), style), *(Text(printable(cell)) for cell in rest))
    has_colour = is_tty and not environment.get("NO_COLOR")
    console = Console(
        file=io.StringIO(),
        width=None if is_tty else _UNLIMITED,
        force_terminal=is_tty,
        color_system="standard" if has_colour else None,
    )
    with console.capture() as drawn:
        console.print(table)
    return "\n".join(line.rstrip() for line in drawn.get().removesuffix("\n").split("\n"))


def printable(text: str) -> str:
    """Return `text` without control characters: it may come from Hydra or another server."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "�" for char in text)
