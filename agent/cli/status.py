"""`agent status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from agent.cli.options import action_option, canary_option, config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.status import Status
    from agent.cli.event_loop import Stopped
    from agent.config.settings import Settings


@click.command("status")
@config_option
@canary_option
@action_option
@json_option
def command(
    config_file: Path | None, canaries: tuple[str, ...], action: str | None, as_json: bool
) -> int:
    """Show what a run would do now, and why.

    Exits with 0 if that could be determined, and otherwise with the error's code.
    """
    from agent.cli.event_loop import run_async
    from agent.config.load import load_settings
    from agent.domain.secrets import hide_secrets
    from agent.domain.target import TARGETS

    overrides = {"action": action} if action else {}
    settings = load_settings(config_file, overrides=overrides, canaries=canaries)
    status = run_async(lambda stopped: _taken(settings, stopped))
    target = TARGETS[settings.target]
    if as_json:
        status_fields = status.fields(is_booted=target.may_reboot)
        fields = {"target": settings.target, target.noun: settings.host, **status_fields}
        click.echo(json.dumps(hide_secrets(fields)))
    else:
        from agent.cli.render.status import for_person

        click.echo(hide_secrets(for_person(status, settings.host, target)))
    return status.error.exit_code if status.error else 0


async def _taken(settings: Settings, _stopped: Stopped) -> Status:
    from agent.application.run import RunSettings
    from agent.application.status import take_status
    from agent.cli.render.progress import LoggedProgress
    from agent.config.policy import policy_of
    from agent.telemetry.log import StructlogSink, standard_error
    from agent.wiring.host import open_ports

    sink = StructlogSink(standard_error(), level="warning", format="console")
    run = RunSettings(run_id="", store_dir=str(settings.paths.store_dir))
    async with open_ports(settings, sink, LoggedProgress(sink)) as ports:
        return await take_status(ports, policy_of(settings), run)
