"""`agent config check|show|schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option

if TYPE_CHECKING:
    from pathlib import Path


@click.group("config")
def command() -> None:
    """Check, show and describe the settings."""


@command.command("check")
@config_option
@click.option("--flake-update", is_flag=True, help="Without `[hydra]`, as agent flake-update does.")
def check(config_file: Path | None, *, flake_update: bool) -> None:
    """Validate the settings: every problem with its key, exit code 78."""
    from agent.config.load import DEFAULT_FILE, WITHOUT_HYDRA, load_settings  # noqa: PLC0415

    load_settings(config_file, fallback=WITHOUT_HYDRA if flake_update else None)
    if config_file is None and not DEFAULT_FILE.exists():
        note = f"there is no {DEFAULT_FILE}; the defaults and the variables can be used as they are"
        click.echo(note, err=True)
        return
    click.echo(f"{config_file or DEFAULT_FILE}: the settings are valid")


@command.command("show")
@config_option
def show(config_file: Path | None) -> None:
    """Print the merged settings as JSON, with secrets hidden."""
    from agent.config.load import load_settings  # noqa: PLC0415
    from agent.config.show import shown  # noqa: PLC0415

    click.echo(shown(load_settings(config_file)))


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    from agent.config.show import schema as schema_text  # noqa: PLC0415

    click.echo(schema_text())
