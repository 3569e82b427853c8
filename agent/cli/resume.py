"""`agent resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("resume")
@config_option
def command(config_file: Path | None) -> None:
    """End a pause: the next run goes on."""
    from agent.application.pause import resume  # noqa: PLC0415 - `--help` needs none of it
    from agent.cli.quietly import with_ports  # noqa: PLC0415

    with_ports(config_file, resume)
    click.echo("upgrades go on")
