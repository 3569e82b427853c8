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
    """Do the reboot that an upgrade waits for, if it is allowed now.

    Windows, inhibitors and people count as for a run of the agent; `reboot.mode` does not, since
    somebody asks. Exits with 0 when the host reboots or need not, 75 when something is in the way.
    """
    from agent.application.manual.pauses import reboot_by_hand
    from agent.cli.run_command import CommandOptions, carry_out

    return carry_out(
        CommandOptions(config_file, as_json=as_json, is_unattended=False), reboot_by_hand
    )
