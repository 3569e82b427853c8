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
    """End a pause."""
    from agent.application.manual.pauses import resume
    from agent.cli.run_quiet import with_ports

    with_ports(config_file, resume)
    click.echo("upgrades go on")
