"""Runs a use case that logs events and ends in a report: settings, log, ports, exit code."""

from __future__ import annotations

import getpass
import os
import sys
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from agent.application.ports import Ports
    from agent.application.report import Report
    from agent.application.run import RunSettings
    from agent.cli.event_loop import Stopped
    from agent.config.settings import Settings
    from agent.domain.policy import Policy
    from agent.telemetry.log import StructlogSink

    UseCase = Callable[[Ports, Policy, RunSettings], Awaitable[Report]]


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks of a run."""

    config_file: Path | None
    as_json: bool = False
    overrides: Mapping[str, object] = field(default_factory=dict)
    canaries: tuple[str, ...] = ()
    dry_run: bool = False
    is_unattended: bool = True
    """Whether what it decides is the agent's own decision, and not the person's who called it."""
    ignored_gates: frozenset[str] = frozenset()
    ignored_because: str = ""
    is_patient: bool = False
    leaves_idle_note: bool = False
    hydra_wait: float | None = None
    """See `RunSettings`."""


def carry_out(asked: CommandOptions, use_case: UseCase) -> int:
    """Run a use case to its end and return the exit code; its events go to standard output."""
    from agent.telemetry.log import StructlogSink, resolve_format, standard_output

    stream = standard_output()
    early = StructlogSink(
        stream, level="info", format="json" if asked.as_json else resolve_format("auto", stream)
    )
    # Before they are read: what changes later must be seen to differ.
    fingerprint = _fingerprint(asked)
    settings = _settings(asked, early)
    if isinstance(settings, int):
        return settings
    log_format = resolve_format("json" if asked.as_json else settings.log.format, stream)
    sink = StructlogSink(stream, level=settings.log.level, format=log_format)
    if log_format != "json":
        fingerprint = None  # the idle path knows no other format
    code = _run(asked, use_case, settings, sink, fingerprint)
    return code or _checked_output(sink)


def _fingerprint(asked: CommandOptions) -> str | None:
    from agent.lean import idle_poll

    if asked.dry_run or not asked.leaves_idle_note:
        return None
    return idle_poll.fingerprint_now(sys.argv[2:])


def person() -> str:
    """Return the name of the user who runs the agent."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _settings(asked: CommandOptions, early: StructlogSink) -> Settings | int:
    """Return the settings, or the exit code after their fault was logged."""
    from agent.adapters.state_dir import check_owner
    from agent.application import events
    from agent.application.report import Report, error_fields
    from agent.config.load import load_settings
    from agent.domain.errors import ConfigError, HostError
    from agent.domain.outcome import Outcome

    try:
        settings = load_settings(
            asked.config_file, overrides=asked.overrides, canaries=asked.canaries
        )
        if not asked.dry_run:
            check_owner(settings.paths.state_dir)
    except (ConfigError, HostError) as error:
        early.emit(events.RUN_FAILED, **error_fields(error))
        report = Report(outcome=Outcome.FAILED, error=error)
        early.emit(events.RUN_FINISHED, **report.fields())
        return error.exit_code
    return settings


def _checked_output(sink: StructlogSink) -> int:
    """Return 0; a run that succeeded but whose output was cut off is a failed command."""
    from agent.domain.errors import AgentError, Kind

    if sink.is_lost:
        raise AgentError(
            Kind.OUTPUT_CLOSED,
            "standard output could not be written to, and the run went on without it",
            hint="`agent status` shows what came of it",
        )
    return 0


def _run(
    asked: CommandOptions,
    use_case: UseCase,
    settings: Settings,
    sink: StructlogSink,
    fingerprint: str | None,
) -> int:
    from agent.application.run import RunSettings
    from agent.cli.event_loop import run_async
    from agent.cli.render.progress import progress_for
    from agent.config.policy import policy_of
    from agent.domain.errors import AgentError
    from agent.wiring.host import open_ports

    policy = policy_of(settings)
    run_id = uuid.uuid4().hex[:12]
    sink.bind(host=policy.host, run_id=run_id, job=str(policy.job))
    on_terminal = sink.format == "console" and sys.stdout.isatty()

    async def main(stopped: Stopped) -> Report:
        run = RunSettings(
            run_id=run_id,
            store_dir=str(settings.paths.store_dir),
            dry_run=asked.dry_run,
            ended_by=lambda: stopped.kind,
            ignored_gates=asked.ignored_gates,
            ignored_because=asked.ignored_because,
            ignored_by=person() if asked.ignored_gates else "",
            by="agent" if asked.is_unattended else person(),
            is_patient=asked.is_patient,
            hydra_wait=asked.hydra_wait,
        )
        with progress_for(sink, on_terminal=on_terminal) as progress:
            async with open_ports(
                settings,
                sink,
                progress,
                fingerprint=fingerprint,
                config_file=asked.config_file,
            ) as ports:
                return await use_case(ports, policy, run)

    try:
        return run_async(main).exit_code
    except AgentError as error:
        return error.exit_code  # it was interrupted, and the run has logged it
