"""`agent pause`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, length_option, reason_option

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path


@click.command("pause")
@config_option
@reason_option
@length_option("For how long, such as 2h; indefinitely by default.")
def command(config_file: Path | None, reason: str, length: timedelta | None) -> None:
    """Keep the agent from upgrading and rebooting this host, until `agent resume`.

    An upgrade that is already under way is still confirmed or rolled back.
    """
    from agent.application.manual.pauses import pause
    from agent.cli.run_quiet import with_ports

    begun = with_ports(config_file, lambda ports, run: pause(ports, run, reason, length))
    ends = f"until {begun.until:%Y-%m-%d %H:%M} UTC" if begun.until else "until `agent resume`"
    click.echo(f"upgrades are paused {ends}")
