"""The command check: does a program exit with 0?"""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process import ProgramMissingError, capture
from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.checks.check_type import Probe, Room
from agent.checks.last_line import last_line
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from agent.adapters.process import Output
    from agent.checks.command import CommandCheck


class CommandProbe(Probe["CommandCheck"]):
    """Runs a program in the agent's environment; processes that it leaves behind are killed."""

    room = Room.PROGRAMS

    @override
    async def probe(self, check: CommandCheck) -> CheckResult:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with WorkingTime(check.timeout.total_seconds()):
                result = await capture(check.command)
        except TimeoutError:
            reason = f"not finished within {format_seconds(check.timeout)}"
            return CheckResult(check, is_well=False, reason=reason)
        except ProgramMissingError as error:
            return CheckResult(check, is_well=False, reason=str(error), is_conclusive=False)
        latency = timedelta(seconds=loop.time() - began)
        reason = _why_failed(result)
        return CheckResult(check, is_well=not reason, reason=reason, latency=latency)


def _why_failed(result: Output) -> str:
    if result.returncode == 0:
        return ""
    how = f"exit code {result.returncode}" if result.returncode > 0 else _signal(-result.returncode)
    line = last_line(result.output)
    return f"{how}: {line}" if line else how


def _signal(number: int) -> str:
    try:
        return f"ended by {signal.Signals(number).name}"
    except ValueError:  # a real-time signal has no name of its own
        return f"ended by signal {number}"


PROBE: Final = CommandProbe
