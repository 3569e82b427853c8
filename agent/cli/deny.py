"""`agent deny`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("deny")
@config_option
@click.argument("what", metavar="PATH|BUILD")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded.")
@click.option("--for", "length", metavar="DURATION", help="How long, such as 3d; else for good.")
def command(config_file: Path | None, what: str, reason: str, length: str | None) -> None:
    """Keep a store path, or what a build has made, from ever being activated here."""
    from agent.application import by_hand  # noqa: PLC0415 - `--help` needs none of it
    from agent.cli.quietly import with_ports  # noqa: PLC0415
    from agent.config.values import parse_duration  # noqa: PLC0415

    try:
        duration = None if length is None else parse_duration(length)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from error
    denial = with_ports(
        config_file, lambda ports, run: by_hand.deny(ports, run, what, reason, duration)
    )
    ends = f"until {denial.until:%Y-%m-%d %H:%M} UTC" if denial.until else "until it is allowed"
    click.echo(f"{denial.toplevel} is denied {ends}")
