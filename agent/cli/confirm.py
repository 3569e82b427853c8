"""`agent confirm`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@click.command("confirm")
@config_option
@click.option("--force", is_flag=True, help="Confirm the pending system without checking it.")
@json_option
def command(config_file: Path | None, *, force: bool, as_json: bool) -> int:
    """Judge the system that the last upgrade has activated.

    It is confirmed if it is healthy, and rolled back if it is broken. Exits with 0 if it is
    confirmed or nothing is pending, with 75 if it cannot be judged yet, and with 1 after a
    roll-back. The new system's own unit does this after each upgrade and at boot; it waits while
    another agent or an activation is running.
    """
    from functools import partial

    from agent.application.manual import verdicts
    from agent.cli.run_command import CommandOptions, carry_out

    asked = CommandOptions(
        config_file,
        as_json=as_json,
        is_unattended=not force,
        is_patient=not force and _is_unit(os.environ),
    )
    return carry_out(asked, partial(verdicts.confirm, force=force))


def _is_unit(environ: Mapping[str, str]) -> bool:
    """Return whether systemd has started this very process (systemd.exec(5), SYSTEMD_EXEC_PID)."""
    return environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
