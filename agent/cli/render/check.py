"""Renders the results of health checks, as text or as an object for JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from agent.cli.render.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from agent.domain.check import CheckResult


def for_program(results: Sequence[CheckResult]) -> str:
    """Return what `--json` prints; `well` is whether an upgrade may go on."""
    is_well = not any(result.is_blocking for result in results)
    return json.dumps({"well": is_well, "checks": [_object(result) for result in results]})


def for_person(
    results: Sequence[CheckResult], *, is_tty: bool, environment: Mapping[str, str] = os.environ
) -> str:
    """Return one line per check, in columns; coloured on a terminal, unless NO_COLOR is set.

    `✓` passed, `✗` keeps the host from upgrading, `!` failed but is only wanted.
    """
    if not results:
        return "no checks are configured"
    return in_columns(
        [_cells(result) for result in results],
        styles=[_style(result) for result in results],
        is_tty=is_tty,
        environment=environment,
    )


def _object(result: CheckResult) -> dict[str, object]:
    """Return one check; one that is not `conclusive` could not be run."""
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
    outcome = _took(result.latency) if result.is_well else result.reason
    return _mark(result), check.name, check.type, check.target, outcome


def _mark(result: CheckResult) -> str:
    if result.is_well:
        return "✓"
    return "✗" if result.is_blocking else "!"


def _style(result: CheckResult) -> str:
    if result.is_well:
        return "green"
    return "red" if result.is_blocking else "yellow"


def _took(latency: timedelta | None) -> str:
    if latency is None:
        return ""
    seconds = latency.total_seconds()
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
