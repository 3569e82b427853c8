"""Generates the man pages, one per command, from the commands themselves: `man_pages.py DIRECTORY`.

Not by click-man, which finds no command of a group that loads them late, cuts what each is for
to 45 characters, and lets a line of text that begins with a dot become a request.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent import __version__
from agent.cli.main import agent
from agent.domain.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_CODES = {
    ExitCode.DONE: "Done, or nothing to do.",
    ExitCode.FAILED: "Failed.",
    ExitCode.USAGE: "The command line is wrong.",
    ExitCode.BAD_ANSWER: "Hydra answered nonsense.",
    ExitCode.NOT_FOUND: "Hydra has no such project, jobset or job, or no good build of it yet.",
    ExitCode.UNREACHABLE: "Hydra or a binary cache cannot be reached.",
    ExitCode.BUG: "A bug of the agent; the log has the traceback.",
    ExitCode.HELD: "Not now: held by a gate, locked, or not yet in the cache.",
    ExitCode.UNAUTHORISED: "Hydra refuses the credentials.",
    ExitCode.BAD_CONFIG: "The settings cannot be used.",
    ExitCode.INTERRUPTED: "Interrupted.",
    ExitCode.TERMINATED: "Terminated.",
}
FILES = {
    "/etc/nixos-hydra-agent/config.toml": "The settings, unless --config names another file.",
    "/var/lib/nixos-hydra-agent/": "The history, in journal.sqlite.",
    "/nix/var/nix/gcroots/nixos-hydra-agent/": "The marks: confirmed, pending and staged systems.",
}
ENVIRONMENT = {
    "NIXOS_HYDRA_AGENT_CONFIG": "The settings file; --config takes precedence.",
    "NIXOS_HYDRA_AGENT_…": "A setting: NIXOS_HYDRA_AGENT_HYDRA__PROJECT is hydra.project.",
}


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for this command and for every one below it, groups before their own."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None  # noqa: S101 - it was listed
            yield from contexts(click.Context(command, info_name=name, parent=context))


def root() -> click.Context:
    """Return the context of `agent` itself."""
    return click.Context(agent, info_name="agent")


def man_page(context: click.Context) -> str:
    """Return a command's page, in the macros of man(7)."""
    name = _page_name(context)
    paragraphs = _paragraphs(context.command.help or "")
    summary = paragraphs[0].removesuffix(".")
    lines = [
        f'.TH {name.upper()} 1 "" "nixos-hydra-agent {__version__}" "User Commands"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary[:1].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        *_synopsis(context),
        ".SH DESCRIPTION",
        *_spread(paragraphs),
    ]
    if options := _records(context):
        lines += [".SH OPTIONS", *_definitions(options)]
    children = list(_children(context))
    if children:
        told = {_page_name(child): _summary(child) for child in children}
        lines += [".SH COMMANDS", *_definitions(told, suffix="(1)")]
    if context.parent is None:
        lines += [
            ".SH EXIT STATUS",
            *_definitions({str(c.value): t for c, t in EXIT_CODES.items()}),
        ]
        lines += [".SH FILES", *_definitions(FILES)]
        lines += [".SH ENVIRONMENT", *_definitions(ENVIRONMENT)]
    related = [context.parent] if context.parent else children
    lines += [".SH SEE ALSO", *_references([_page_name(one) for one in related])]
    return "\n".join(lines) + "\n"


def _page_name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _children(context: click.Context) -> Iterator[click.Context]:
    return (one for one in contexts(context) if one.parent is context)


def _summary(context: click.Context) -> str:
    return _paragraphs(context.command.help or "")[0]


def _synopsis(context: click.Context) -> Iterator[str]:
    pieces = context.command.collect_usage_pieces(context)
    yield f"\\fB{_text(context.command_path)}\\fR {_text(' '.join(pieces))}"


def _records(context: click.Context) -> dict[str, str]:
    """Return the description of each option; arguments without one are only in the synopsis."""
    made = (parameter.get_help_record(context) for parameter in context.command.params)
    return {name: told for record in made if record for name, told in [record] if told}


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _spread(paragraphs: list[str]) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield _prose(paragraph)


def _definitions(told: dict[str, str], suffix: str = "") -> Iterator[str]:
    for name, meaning in told.items():
        yield ".TP"
        yield f"\\fB{_text(name)}\\fR{suffix}"
        yield _prose(meaning)


def _references(names: list[str]) -> Iterator[str]:
    for name in names:
        comma = "" if name == names[-1] else ","
        yield f".BR {_text(name)} (1){comma}"


def _prose(text: str) -> str:
    """Return text with the parts in backticks in bold."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _text(text))


def _text(text: str) -> str:
    """Return text that roff prints unchanged: no escapes, no requests, and hyphens for copying."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(arguments: list[str]) -> int:
    """Write all pages into the given directory."""
    (directory,) = map(Path, arguments)
    directory.mkdir(parents=True, exist_ok=True)
    for context in contexts(root()):
        (directory / f"{_page_name(context)}.1").write_text(man_page(context))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
