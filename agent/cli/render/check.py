"""Tells what came of health checks: lines for a person, an object for programs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from agent.domain.check import CheckResult

_GREEN: Final = "32"
_YELLOW: Final = "33"
_RED: Final = "31"


class CheckObject(TypedDict):
    """One check, for programs; one that is not `conclusive` could not be run."""

    name: str
    type: str
    target: str
    well: bool
    wanted: bool
    conclusive: bool
    reason: str
    latency_seconds: float | None


class ReportObject(TypedDict):
    """All checks, for programs; `well` is whether an upgrade may go on."""

    well: bool
    checks: list[CheckObject]


def for_program(results: Sequence[CheckResult]) -> str:
    """Return what `--json` prints."""
    report: ReportObject = {
        "well": not any(result.is_blocking for result in results),
        "checks": [_object(result) for result in results],
    }
    return json.dumps(report)


def for_person(
    results: Sequence[CheckResult], *, is_tty: bool, environment: Mapping[str, str] = os.environ
) -> str:
    """Return one line a check, in columns; coloured on a terminal, unless NO_COLOR is set.

    `✓` is well, `✗` keeps the host from upgrading, `!` failed but is merely wanted.
    """
    if not results:
        return "no checks are configured"
    # An empty NO_COLOR is none (no-color.org).
    return "\n".join(_lines(results, colour=is_tty and not environment.get("NO_COLOR")))


def _lines(results: Sequence[CheckResult], *, colour: bool) -> list[str]:
    cells = [_cells(result) for result in results]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        _painted(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(),
            result,
            colour=colour,
        )
        for row, result in zip(cells, results, strict=True)
    ]


def _object(result: CheckResult) -> CheckObject:
    return {
        "name": result.check.name,
        "type": result.check.type,
        "target": result.check.target,
        "well": result.is_well,
        "wanted": result.check.is_wanted,
        "conclusive": result.is_conclusive,
        "reason": result.reason,
        "latency_seconds": None if result.latency is None else result.latency.total_seconds(),
    }


def _cells(result: CheckResult) -> tuple[str, ...]:
    check = result.check
    told = _took(result.latency) if result.is_well else result.reason
    return tuple(
        _printable(cell) for cell in (_mark(result), check.name, check.type, check.target, told)
    )


def _mark(result: CheckResult) -> str:
    if result.is_well:
        return "✓"
    return "✗" if result.is_blocking else "!"


def _took(latency: timedelta | None) -> str:
    if latency is None:
        return ""
    seconds = latency.total_seconds()
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _printable(text: str) -> str:
    """Return `text` without what could move a terminal's cursor: a server had a say in it."""
    return "".join(char if char.isprintable() else "�" for char in text)


def _painted(line: str, result: CheckResult, *, colour: bool) -> str:
    """Return the line with its mark, which is its first character, in colour."""
    if not colour:
        return line
    code = _GREEN if result.is_well else _RED if result.is_blocking else _YELLOW
    return f"\x1b[{code}m{line[0]}\x1b[0m{line[1:]}"
