"""Reports what an update changes: Markdown for a proposal, plain text for a commit, JSON."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from agent.domain.flake_update.compare_link import compare_link
from agent.domain.flake_update.comparison import Broken, Effect, HostComparison, Stage
from agent.domain.flake_update.lock_file import short_revision
from agent.domain.flake_update.package_change import format_change, format_size_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from agent.domain.flake_update.comparison import Comparison, System
    from agent.domain.flake_update.lock_file import InputChange, LockedInput, LockFile

_SHORTEST_FENCE: Final = 3
_NO_VERSIONS: Final = "no package changes its version; files of the system differ"
_NOT_COMPARED: Final = "the packages were not compared"
_FAILS: Final = {Stage.EVALUATION: "does not evaluate", Stage.BUILD: "does not build"}


def title_of(day: date) -> str:
    """Return the title of an update's commit and proposal."""
    return f"chore: update flake inputs {day:%Y-%m-%d}"


def markdown(comparison: Comparison) -> str:
    """Return the report: the inputs, then a section `### HOST` for each host that changes.

    Hosts with the same changes share a section: `### HOST, HOST`.
    """
    sections = [_inputs(comparison.inputs)] if comparison.inputs else []
    differing = (one for one in comparison.hosts if one.verdict is not Effect.UNCHANGED)
    sections += [f"### {hosts}\n{_fenced(text)}" for hosts, text in _grouped(differing)]
    unchanged = len(comparison.of(Effect.UNCHANGED))
    if unchanged:
        sections.append(f"{_hosts(unchanged)} not changed.")
    return "\n\n".join(sections) + "\n"


def commit_message(comparison: Comparison, day: date, trailers: tuple[str, ...]) -> str:
    """Return the message of the update's commit: title, inputs, hosts, trailers."""
    blocks = [title_of(day), "\n".join(_input_line(one) for one in comparison.inputs)]
    for hosts, text in _grouped(comparison.changed):
        blocks.append("\n  ".join([f"{hosts}:", *text.splitlines()]))
    if broken := ", ".join(_one_line(one.host) for one in comparison.of(Effect.STILL_BROKEN)):
        blocks.append(f"broken as before: {broken}")
    return "\n\n".join([*blocks, "\n".join(trailers)]) + "\n"


def proposal_body(comparison: Comparison, proof: str, lock: LockFile) -> str:
    """Return the text of a proposal for a lock file; `proof` says how the hosts were verified."""
    head = f"{mark_of(lock)}\n## Automated flake.lock update\n\nPackage changes per host:"
    return f"{head}\n\n{markdown(comparison)}\n---\n{proof}\n"


def mark_of(lock: LockFile) -> str:
    """Return the invisible marker that identifies a proposal for exactly this lock file."""
    return f"<!-- flake.lock {hashlib.sha256(lock.content.encode()).hexdigest()} -->"


def fields_of(comparison: Comparison) -> dict[str, object]:
    """Return the report as JSON types."""
    return {
        "inputs": [
            {
                "name": one.name,
                "before": _locked(one.before),
                "after": _locked(one.after),
                "commits": compare_link(one),
            }
            for one in comparison.inputs
        ],
        "hosts": [_host_fields(one) for one in comparison.hosts],
    }


def summary(comparison: Comparison) -> str:
    """Return a one-line summary of the hosts."""
    parts = [
        f"{verdict}: {', '.join(one.host for one in found)}"
        for verdict in Effect
        if (found := comparison.of(verdict))
    ]
    return "; ".join(parts)


def _host_fields(one: HostComparison) -> dict[str, object]:
    packages = None
    if one.packages is not None:
        packages = [
            {
                "name": change.name,
                "before": list(change.before),
                "after": list(change.after),
                "size": change.size,
            }
            for change in one.packages
        ]
    return {
        "host": one.host,
        "verdict": one.verdict.value,
        "before": _side(one.before),
        "after": _side(one.after),
        "packages": packages,
    }


def _side(side: System | Broken) -> dict[str, object]:
    if isinstance(side, Broken):
        return {"error": {"stage": side.stage.value, "reason": side.reason, "log": side.tail}}
    return {"toplevel": side.toplevel, "derivation": side.derivation}


def _locked(one: LockedInput | None) -> dict[str, object] | None:
    if one is None:
        return None
    modified = one.modified_at.isoformat() if one.modified_at else None
    return {"source": one.source, "revision": one.revision, "modified_at": modified}


def _inputs(changes: tuple[InputChange, ...]) -> str:
    lines = (f"- {_code(one.name)}: {_code(_input_change(one))}{_link(one)}" for one in changes)
    return "\n".join(["Inputs:", "", *lines])


def _link(change: InputChange) -> str:
    link = compare_link(change)
    return f" ([commits]({link}))" if link else ""


def _input_line(one: InputChange) -> str:
    return f"{_one_line(one.name)}: {_one_line(_input_change(one))}"


def _input_change(one: InputChange) -> str:
    before = short_revision(one.before) if one.before else "none"
    after = short_revision(one.after) if one.after else "none"
    sources = dict.fromkeys(side.source for side in (one.before, one.after) if side)
    return f"{' → '.join(sources)} {before} → {after}"


def _grouped(hosts: Iterable[HostComparison]) -> Iterator[tuple[str, str]]:
    """Yield the names of hosts with the same changes, and those changes, in the hosts' order."""
    groups: dict[str, list[str]] = {}
    for one in hosts:
        groups.setdefault(_host_text(one), []).append(_one_line(one.host))
    for text, names in groups.items():
        yield ", ".join(names), text


def _host_text(one: HostComparison) -> str:
    match one.after:
        case Broken() as broken:
            was = ", as before" if isinstance(one.before, Broken) else ""
            first = f"{_FAILS[broken.stage]}{was}: {broken.reason}"
            return "\n".join([first, *broken.tail.splitlines()])
        case _:
            return _packages(one)


def _packages(one: HostComparison) -> str:
    if one.verdict is Effect.FIXED:
        return "is built again: it was broken before"
    if one.packages is None:
        return _NOT_COMPARED
    if not one.packages:
        return _NO_VERSIONS
    total = sum(change.size for change in one.packages)
    lines = [format_change(change) for change in one.packages]
    return "\n".join([*lines, f"closure: {format_size_change(total)}"] if total else lines)


def _hosts(count: int) -> str:
    return "1 host is" if count == 1 else f"{count} hosts are"


def _fenced(text: str) -> str:
    """Return `text` in a fence that nothing in it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(_SHORTEST_FENCE, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _code(text: str) -> str:
    return f"`{_one_line(text).replace('`', chr(39))}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())
