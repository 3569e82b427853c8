"""`agent check`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from agent.cli.options import canary_option, config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from agent.cli.event_loop import Stopped
    from agent.config.settings import Settings
    from agent.domain.check import CheckResult


@click.command("check")
@config_option
@canary_option
@json_option
def command(config_file: Path | None, canaries: tuple[str, ...], as_json: bool) -> int:
    """Run the health checks, and nothing else.

    Exits with 0 if all required checks pass, and with 1 otherwise.
    """
    from agent.cli.event_loop import run_async
    from agent.cli.render.check import for_person, for_program
    from agent.config.load import WITHOUT_HYDRA, load_settings

    # So that `agent check --canary HOST` works on any machine.
    settings = load_settings(config_file, canaries=canaries, fallback=WITHOUT_HYDRA)
    results = run_async(lambda stopped: _checked(settings, stopped))
    if as_json:
        click.echo(for_program(results))
    else:
        click.echo(for_person(results, is_tty=sys.stdout.isatty()))
    return 1 if any(result.is_blocking for result in results) else 0


async def _checked(settings: Settings, _stopped: Stopped) -> tuple[CheckResult, ...]:
    from agent.application.facts.run_checks import run_checks
    from agent.checks.prober import Probes
    from agent.config.policy import checks_of
    from agent.telemetry.log import StructlogSink, standard_error

    sink = StructlogSink(standard_error(), level="warning", format="console")
    async with Probes() as prober:
        return await run_checks(prober, checks_of(settings.health), settings.health.deadline, sink)
