"""`agent history`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.history import History
    from agent.application.ports import Ports
    from agent.application.run import RunSettings
    from agent.domain.policy import Policy


@click.command("history")
@config_option
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="The number of runs to show.",
)
@json_option
def command(config_file: Path | None, limit: int, *, as_json: bool) -> None:
    """Show what earlier runs have done on this host, and what is denied; the newest last."""
    from agent.application.history import take_history
    from agent.cli.run_quiet import with_ports
    from agent.domain.secrets import hide_secrets

    async def take(ports: Ports, _policy: Policy, _run: RunSettings) -> History:
        return take_history(ports, limit)

    history = with_ports(config_file, take, only_reads=True)
    if as_json:
        click.echo(json.dumps(hide_secrets(history.fields())))
    else:
        from agent.cli.render.history import for_person

        click.echo(hide_secrets(for_person(history)))
