"""`agent config check|show|schema`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option
from agent.domain.errors import ConfigError, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.settings import Settings


@click.group("config")
def command() -> None:
    """Check, show and describe the settings."""


@command.command("check")
@config_option
@click.option(
    "--flake-update", is_flag=True, help="Do not require `[hydra]`, like agent flake-update."
)
def check(config_file: Path | None, *, flake_update: bool) -> None:
    """Validate the settings, and report every problem with its key (exit code 78).

    Settings without effect only cause a warning on standard error.
    """
    from agent.config.load import DEFAULT_FILE, WITHOUT_HYDRA, load_settings

    settings = load_settings(config_file, fallback=WITHOUT_HYDRA if flake_update else None)
    _refuse_unusable_proxies(settings, is_of_host=not flake_update)
    if not flake_update and _notifies_nobody(settings):
        warning = (
            "warning: notify: only `agent flake-update run` sends notifications; this host's own"
            " upgrades notify nobody"
        )
        click.echo(warning, err=True)
    if config_file is None and not DEFAULT_FILE.exists():
        note = f"there is no {DEFAULT_FILE}; the defaults and the variables can be used as they are"
        click.echo(note, err=True)
        return
    click.echo(f"{config_file or DEFAULT_FILE}: the settings are valid")


def _notifies_nobody(settings: Settings) -> bool:
    """Whether a host has `[notify]`, and no updates of a flake that would use it."""
    notify, given = settings.notify, settings.model_fields_set
    return "flake_update" not in given and notify != type(notify)()


def _refuse_unusable_proxies(settings: Settings, *, is_of_host: bool) -> None:
    """Refuse proxy variables of this environment that cannot be used for what is configured."""
    from agent.adapters.http.proxies import ProxyError, proxy_for

    update = settings.flake_update
    asked = {
        "hydra.instance": settings.hydra.instance if is_of_host else None,
        "flake_update.hydra.instance": update.hydra.instance,
        "flake_update.forge.url": update.forge.url if update.forge.type else None,
    }
    problems: dict[str, str] = {}
    for key, url in asked.items():
        try:
            _ = url and proxy_for(url, os.environ)
        except ProxyError as error:
            problems[key] = str(error)
    if problems:
        raise ConfigError(
            Kind.CONFIG_INVALID,
            "the proxy variables of the environment cannot be used",
            problems=tuple(problems.items()),
            source="the environment's proxy variables",
        )


@command.command("show")
@config_option
def show(config_file: Path | None) -> None:
    """Print the merged settings as JSON, with secrets hidden."""
    from agent.config.load import load_settings
    from agent.config.show import shown

    click.echo(shown(load_settings(config_file)))


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    from agent.config.show import schema as schema_text

    click.echo(schema_text())
