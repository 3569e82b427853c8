"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from click.decorators import FC


def _duration(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    from agent.fields.values import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def length_option(help_text: str) -> Callable[[FC], FC]:
    """Return the option for a duration."""
    return click.option("--for", "length", callback=_duration, metavar="DURATION", help=help_text)


def _reason(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("give a reason; it is recorded in the history", ctx, param)
    return value


config_option: Callable[[FC], FC] = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, readable=False),  # an unreadable file is reported later
    envvar="NIXOS_HYDRA_AGENT_CONFIG",
    metavar="FILE",
    help="Read this TOML file instead of /etc/nixos-hydra-agent/config.toml.",
)
canary_option: Callable[[FC], FC] = click.option(
    "--canary",
    "canaries",
    multiple=True,
    metavar="HOST",
    help="Also require this host, address or URL to be healthy; repeatable.",
)
reason_option: Callable[[FC], FC] = click.option(
    "--reason",
    required=True,
    callback=_reason,
    metavar="TEXT",
    help="The reason, which is recorded.",
)
json_option: Callable[[FC], FC] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)
action_option: Callable[[FC], FC] = click.option(
    "--action",
    type=click.Choice(["switch", "boot", "test", "dry-activate"]),
    help="The nixos-rebuild action, instead of the configured one.",
)
