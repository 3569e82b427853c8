"""Generates what is derived from the code: the reference pages, and the NixOS module's schema.

`--check` says which have drifted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.application import events
from agent.application.flake_update import events as update_events
from agent.config.show import schema
from agent.domain.errors import Kind
from gates_page import gates_page
from man_pages import contexts, root
from options_page import HOME, ROOT, UPDATER, options_page
from seen_page import seen_page
from settings_page import settings_page, table_cell

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parent / "reference"
SCHEMA = "schema.json"


def events_page() -> str:
    """Return `docs/reference/events.md`."""
    lines = [
        "# Events",
        "",
        "Generated from `agent/application/events.py` and",
        "`agent/application/flake_update/events.py` by `make docs`; do not edit.",
        "",
        "Every line that the agent logs is one event: a JSON object with `event`, `level` and",
        "`timestamp` (ISO 8601, UTC), the fields bound to the run (`host`, `run_id`, `job`, and",
        "`build_id` once a build is chosen) and the fields below.",
        "",
    ]
    for event in sorted((*events.ALL, *update_events.ALL), key=lambda event: event.name):
        lines += [f"## `{event.name}`", "", f"*{event.level}*: {event.meaning}", ""]
        if event.fields:
            lines += ["| field | meaning |", "|---|---|"]
            lines += [f"| `{name}` | {meaning} |" for name, meaning in event.fields.items()]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def errors_page() -> str:
    """Return `docs/reference/errors.md`."""
    lines = [
        "# Faults and exit codes",
        "",
        "Generated from `agent/domain/errors.py` by `make docs`; do not edit.",
        "",
        "`error.kind` is stable: scripts and alerts may rely on it. *Retried* faults are tried",
        "again within the run; all other faults end the run.",
        "",
        "| `error.kind` | exit code | retried | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{kind}` | {kind.exit_code.value} | {'yes' if kind.is_retryable else ''} |"
        f" {kind.meaning} |"
        for kind in Kind
    ]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return `docs/reference/commands.md`."""
    lines = [
        "# Commands",
        "",
        "Generated from the commands' own help by `make docs`; do not edit.",
        "",
        "Exit codes are in [faults and exit codes](errors.md).",
        "",
    ]
    for context in contexts(root()):
        if isinstance(context.command, click.Group):
            continue
        usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
        lines += [f"## `{usage}`", "", *_paragraphs(context.command.help or "")]
        records = [
            record
            for option in context.command.params
            if (record := option.get_help_record(context)) is not None
        ]
        if records:
            lines += ["| option | meaning |", "|---|---|"]
            lines += [f"| `{table_cell(name)}` | {table_cell(told)} |" for name, told in records]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""


PAGES = {
    # First: the options are made of it.
    SCHEMA: lambda: schema() + "\n",
    "options.md": options_page,
    "home-options.md": lambda: options_page(HOME),
    "updater-options.md": lambda: options_page(UPDATER),
    "settings.md": settings_page,
    "commands.md": commands_page,
    "events.md": events_page,
    "errors.md": errors_page,
    "gates.md": gates_page,
    "nixpkgs.md": seen_page,
}


def _place(name: str, reference: Path) -> Path:
    is_kept = reference is REFERENCE
    return ROOT / "nix" / "module" / name if is_kept and name == SCHEMA else reference / name


def main() -> int:
    """Write every page, or with `--check` compare them with what is there.

    A directory may be named in place of `docs/reference`.
    """
    check = "--check" in sys.argv[1:]
    named = [argument for argument in sys.argv[1:] if argument != "--check"]
    reference = Path(named[0]) if named else REFERENCE
    reference.mkdir(exist_ok=True)
    drifted = []
    for name, make in PAGES.items():
        page = _place(name, reference)
        text = make()
        if not page.exists() or page.read_text() != text:
            drifted.append(name)
            if not check:
                page.write_text(text)
    if check and drifted:
        print(f"out of date, run `make docs`: {', '.join(drifted)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
