"""`agent dead-man`: run by the timer of an upgrade or of a boot, never by an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.ports import Ports
    from agent.application.report import Report
    from agent.application.run import RunSettings
    from agent.domain.policy import Policy


@click.command("dead-man", hidden=True)
@config_option
@click.option("--run-id", default="", help="The run that has set the timer.")
@click.option("--toplevel", default="", help="The system that it has activated.")
@click.option("--booted", is_flag=True, help="The system that was booted, whichever it is.")
def command(config_file: Path | None, run_id: str, toplevel: str, *, booted: bool) -> int:
    """End an upgrade that has not been confirmed; started by its timer, or by that of the boot."""
    from agent.application.confirm.dead_man import dead_man
    from agent.cli.run_command import CommandOptions, carry_out
    from agent.domain.store_path import parse_store_path

    if booted == bool(toplevel):
        raise click.UsageError("Either --toplevel or --booted.")

    async def end(ports: Ports, policy: Policy, settings: RunSettings) -> Report:
        if booted:
            return await dead_man(ports, policy, settings, None)
        path = parse_store_path(toplevel, settings.store_dir)
        if path is None:
            raise click.BadParameter(f"{toplevel!r} is not a store path in {settings.store_dir}")
        return await dead_man(ports, policy, settings, path)

    del run_id  # for readers of the timer
    return carry_out(CommandOptions(config_file), end)
