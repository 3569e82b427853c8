"""`agent deny`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, length_option, reason_option

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path


@click.command("deny")
@config_option
@click.argument("what", metavar="PATH|BUILD")
@reason_option
@length_option("For how long, such as 3d; indefinitely by default.")
def command(config_file: Path | None, what: str, reason: str, length: timedelta | None) -> None:
    """Keep a store path, or the output of a build, from being activated on this host."""
    from agent.application.manual import verdicts
    from agent.cli.run_quiet import with_ports

    denial = with_ports(
        config_file, lambda ports, run: verdicts.deny(ports, run, what, reason, length)
    )
    ends = f"until {denial.until:%Y-%m-%d %H:%M} UTC" if denial.until else "until it is allowed"
    click.echo(f"{denial.toplevel} is denied {ends}")
