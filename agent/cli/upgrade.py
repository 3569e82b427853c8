"""`agent upgrade`."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING

import click

from agent.cli.options import action_option, canary_option, config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.report import Report
    from agent.cli.event_loop import Stopped
    from agent.config.settings import Settings
    from agent.telemetry.log import Format, StructlogSink


@click.command("upgrade")
@config_option
@canary_option
@action_option
@click.option(
    "--dry-run", is_flag=True, help="Ask every gate and verify, but fetch and change nothing."
)
@json_option
def command(
    config_file: Path | None,
    canaries: tuple[str, ...],
    action: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring this host to Hydra's newest good build, once.

    Exits with 0 when done or nothing is to do, 75 when a gate holds, and otherwise with the
    fault's own code.
    """
    from agent import idle  # noqa: PLC0415 - `--help` needs none of it
    from agent.telemetry.log import (  # noqa: PLC0415
        StructlogSink,
        resolve_format,
        standard_output,
    )

    stream = standard_output()
    early = StructlogSink(
        stream, level="info", format="json" if as_json else resolve_format("auto", stream)
    )
    # Before they are read: what changes later must be seen to differ.
    fingerprint = idle.fingerprint_now(sys.argv[2:])
    settings = _settings(config_file, canaries, action, early)
    if isinstance(settings, int):
        return settings
    wanted = "json" if as_json else settings.log.format
    log_format = resolve_format(wanted, stream)
    sink = StructlogSink(stream, level=settings.log.level, format=log_format)
    if log_format != "json":
        fingerprint = None  # the idle path knows no other format
    code = _run(settings, sink, log_format, fingerprint, dry_run=dry_run)
    return code or _told_whole(sink)


def _settings(
    config_file: Path | None, canaries: tuple[str, ...], action: str | None, early: StructlogSink
) -> Settings | int:
    """Return the settings, or the exit code after their fault was logged."""
    from agent.application import events  # noqa: PLC0415
    from agent.application.report import Report, error_fields  # noqa: PLC0415
    from agent.config.load import load_settings  # noqa: PLC0415
    from agent.domain.errors import ConfigError  # noqa: PLC0415
    from agent.domain.outcome import Outcome  # noqa: PLC0415

    overrides = {"action": action} if action else {}
    try:
        return load_settings(config_file, overrides=overrides, canaries=canaries)
    except ConfigError as error:
        early.emit(events.RUN_FAILED, **error_fields(error))
        report = Report(outcome=Outcome.FAILED, error=error)
        early.emit(events.RUN_FINISHED, **report.fields())
        return error.exit_code


def _told_whole(sink: StructlogSink) -> int:
    """Return 0; a run that went well and could not be told to its end is a failed command."""
    from agent.domain.errors import AgentError, Kind  # noqa: PLC0415

    if sink.is_lost:
        raise AgentError(
            Kind.OUTPUT_CLOSED,
            "standard output could not be written to, and the run went on without it",
            hint="`agent status` tells what came of it",
        )
    return 0


def _run(
    settings: Settings,
    sink: StructlogSink,
    log_format: Format,
    fingerprint: str | None,
    *,
    dry_run: bool,
) -> int:
    from agent.application.upgrade import RunSettings, upgrade  # noqa: PLC0415
    from agent.cli.event_loop import run_async  # noqa: PLC0415
    from agent.cli.progress import progress_for  # noqa: PLC0415
    from agent.config.policy import policy_of  # noqa: PLC0415
    from agent.domain.errors import AgentError  # noqa: PLC0415
    from agent.wiring import open_ports  # noqa: PLC0415

    policy = policy_of(settings)
    run_id = uuid.uuid4().hex[:12]
    sink.bind(host=policy.host, run_id=run_id, job=str(policy.job))
    on_terminal = log_format == "console" and sys.stdout.isatty()

    async def main(stopped: Stopped) -> Report:
        run = RunSettings(
            run_id=run_id,
            store_dir=str(settings.paths.store_dir),
            dry_run=dry_run,
            ended_by=lambda: stopped.kind,
        )
        with progress_for(sink, on_terminal=on_terminal) as progress:
            async with open_ports(settings, sink, progress, fingerprint=fingerprint) as ports:
                return await upgrade(ports, policy, run)

    try:
        return run_async(main).exit_code
    except AgentError as error:
        return error.exit_code  # it was interrupted, and the run has told so
