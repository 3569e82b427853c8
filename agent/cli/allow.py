"""`agent allow`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("allow")
@config_option
@click.argument("what", metavar="PATH|BUILD")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is recorded.")
def command(config_file: Path | None, what: str, reason: str) -> None:
    """Lift a denial: the next run may activate the path again."""
    from agent.application import by_hand  # noqa: PLC0415 - `--help` needs none of it
    from agent.cli.quietly import with_ports  # noqa: PLC0415

    toplevel = with_ports(config_file, lambda ports, run: by_hand.allow(ports, run, what, reason))
    click.echo(f"{toplevel} is allowed again")
