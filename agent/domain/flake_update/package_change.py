"""Parses the output of `nix store diff-closures`.

A line is `NAME: VERSIONS → VERSIONS, +N.N KiB`, in which either part may be missing; `∅` means no
version and `ε` an empty one (nix: src/nix/diff-closures.cc). Old releases colour the size even in
a pipe; 2.34 prints it in the best unit and without a plus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(
    r"(?P<name>[^\s:][^:]{0,255}): "
    r"(?:(?P<before>[^→]{1,4000}) → (?P<after>[^→]{1,4000}?))?"
    r"(?:(?:^|, |(?<=: ))(?P<size>[+-]?[0-9.]{1,20}) (?P<unit>(?:[KMGTP]i)?B))?"
)
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NOTHING: Final = "∅"
_EMPTY: Final = "ε"
_SMALL: Final = 1024


@dataclass(frozen=True, slots=True)
class PackageChange:
    """The change of one package in a closure; without versions, only its size changes.

    A package whose name contains no version has an empty one. `size` is in bytes; it is 0 if nix
    does not print it because it is below 8 KiB.
    """

    name: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    size: int = 0


def parse_closure_diff(text: str) -> tuple[PackageChange, ...] | None:
    """Return the changes in the printed order, None if a line cannot be parsed."""
    changes = []
    for line in _COLOUR.sub("", text).splitlines():
        found = _LINE.fullmatch(line.strip())
        if found is None or (found["before"] is None and found["size"] is None):
            return None
        changes.append(
            PackageChange(
                name=found["name"],
                before=_versions(found["before"]),
                after=_versions(found["after"]),
                size=_bytes(found["size"], found["unit"]),
            )
        )
    return tuple(changes)


def _versions(text: str | None) -> tuple[str, ...]:
    if text is None or text == _NOTHING:
        return ()
    return tuple("" if one == _EMPTY else one for one in text.split(", "))


def _bytes(number: str | None, unit: str | None) -> int:
    return 0 if number is None else round(float(number) * _UNITS.get(unit or "", 1))


def format_change(change: PackageChange) -> str:
    """Return a change as one line, as nix prints it."""
    parts = []
    if change.before or change.after:
        parts.append(f"{_format_versions(change.before)} → {_format_versions(change.after)}")
    if change.size:
        parts.append(format_size_change(change.size))
    return f"{change.name}: {', '.join(parts)}"


def format_size_change(size: int) -> str:
    """Return a difference in bytes with its sign, in the best unit."""
    number = float(size)
    for unit in ("B", "KiB", "MiB"):
        if abs(number) < _SMALL:
            return f"{number:+.1f} {unit}" if unit != "B" else f"{size:+d} B"
        number /= _SMALL
    return f"{number:+.1f} GiB"


def _format_versions(versions: tuple[str, ...]) -> str:
    return ", ".join(one or _EMPTY for one in versions) or _NOTHING
