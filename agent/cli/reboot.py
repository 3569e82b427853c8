"""`agent reboot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("reboot")
@config_option
@json_option
def command(config_file: Path | None, *, as_json: bool) -> int:
    """Do the reboot that an upgrade is waiting for, if nothing prevents it.

    Windows, inhibitors and logged-in users are respected as usual; `reboot.mode` is not, since you
    ask for it. Exits with 0 if the host reboots or need not, and with 75 if something prevents it.
    """
    from agent.application.manual.pauses import reboot_by_hand
    from agent.cli.run_command import CommandOptions, carry_out

    return carry_out(
        CommandOptions(config_file, as_json=as_json, is_unattended=False), reboot_by_hand
    )
