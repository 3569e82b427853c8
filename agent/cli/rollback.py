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
    """Go back to the last confirmed system, and deny the one that is left.

    From a confirmed system it goes back to the one that was confirmed before. The profile is set
    to the recorded store path, never to "the generation before".
    """
    from functools import partial  # noqa: PLC0415

    from agent.application import by_hand  # noqa: PLC0415 - `--help` needs none of it
    from agent.cli.use_case import Asked, carry_out  # noqa: PLC0415

    asked = Asked(config_file, as_json=as_json, is_unattended=False)
    return carry_out(asked, partial(by_hand.roll_back_by_hand, reason=reason))
