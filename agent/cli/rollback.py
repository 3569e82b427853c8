"""`agent rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, json_option, reason_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("rollback")
@config_option
@reason_option
@json_option
def command(config_file: Path | None, reason: str, *, as_json: bool) -> int:
    """Go back to the last confirmed system, and deny the current one.

    If the current system is confirmed, go back to the one that was confirmed before it. The profile
    is set to the recorded store path, not to "the previous generation".
    """
    from functools import partial

    from agent.application.manual import verdicts
    from agent.cli.run_command import CommandOptions, carry_out

    asked = CommandOptions(config_file, as_json=as_json, is_unattended=False)
    return carry_out(asked, partial(verdicts.roll_back_by_hand, reason=reason))
