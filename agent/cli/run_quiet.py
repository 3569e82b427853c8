"""Runs commands that only read or write the history; logs only warnings, to standard error."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.application.ports import Ports
    from agent.application.run import RunSettings
    from agent.cli.event_loop import Stopped
    from agent.domain.policy import Policy

_T = TypeVar("_T")


def with_ports(
    config_file: Path | None,
    call: Callable[[Ports, Policy, RunSettings], Awaitable[_T]],
    *,
    only_reads: bool = False,
) -> _T:
    """Return the result of `call` with the settings.

    Raises:
        AgentError: the settings cannot be used, this user may not change anything, or what `call`
            raises.
    """
    from agent.adapters.state_dir import check_owner
    from agent.application.run import RunSettings
    from agent.cli.event_loop import run_async
    from agent.cli.render.progress import LoggedProgress
    from agent.cli.run_command import person
    from agent.config.load import load_settings
    from agent.config.policy import policy_of
    from agent.telemetry.log import StructlogSink, standard_error
    from agent.wiring.host import open_ports

    settings = load_settings(config_file)
    if not only_reads:
        check_owner(settings.paths.state_dir)
    sink = StructlogSink(standard_error(), level="error", format="console")
    run = RunSettings(uuid.uuid4().hex[:12], str(settings.paths.store_dir), by=person())

    async def main(_stopped: Stopped) -> _T:
        async with open_ports(settings, sink, LoggedProgress(sink)) as ports:
            return await call(ports, policy_of(settings), run)

    return run_async(main)
