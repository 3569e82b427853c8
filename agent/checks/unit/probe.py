"""The unit check: is a systemd unit active?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from typing_extensions import override

from agent.adapters.process import ProgramMissingError, capture
from agent.application.facts.run_checks import format_seconds
from agent.application.working_time import WorkingTime
from agent.checks.check_type import Probe, Room
from agent.checks.last_line import last_line
from agent.domain.check import CheckResult, UnitCheck

# `systemctl is-active` counts both as active: the unit is running while it reloads.
_ACTIVE: Final = ("active", "reloading", "refreshing")
_ASKED: Final = ("LoadState", "ActiveState", "SubState", "Result", "Type", "TriggeredBy")
_NEEDED: Final = ("LoadState", "ActiveState", "SubState")
_OF_JOBS: Final = ("inactive", "activating")
"""The states of a timer's job between its runs, or during one."""


class UnitProbe(Probe["UnitCheck"]):
    """Asks systemd with `systemctl show`, which prints its D-Bus properties."""

    room = Room.PROGRAMS

    @override
    async def probe(self, check: UnitCheck) -> CheckResult:
        argv = ("systemctl", "show", f"--property={','.join(_ASKED)}", "--", check.unit)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with WorkingTime(check.timeout.total_seconds()):
                answer = await capture(argv)
        except TimeoutError:
            return _unknown(check, f"no answer within {format_seconds(check.timeout)}")
        except ProgramMissingError as error:
            return _unknown(check, str(error))
        shown = properties(answer.output)
        if answer.returncode != 0:
            return _unknown(check, last_line(answer.output) or f"exit code {answer.returncode}")
        if not all(shown.get(name) for name in _NEEDED):
            return _unknown(check, "systemctl shows no state")
        latency = timedelta(seconds=loop.time() - began)
        is_well = shown["ActiveState"] in _ACTIVE or _is_job_in_order(shown)
        reason = "" if is_well else _why_inactive(shown)
        return CheckResult(check, is_well=not reason, reason=reason, latency=latency)


def properties(output: str) -> dict[str, str]:
    """Return the output of `systemctl show`, by property; other lines are ignored."""
    lines = (line.partition("=") for line in output.splitlines())
    return {name: value for name, _, value in lines if name in _ASKED}


def _is_job_in_order(shown: dict[str, str]) -> bool:
    """Whether a unit is a oneshot that timers start, and succeeded the last time."""
    timers = [name for name in shown.get("TriggeredBy", "").split() if name.endswith(".timer")]
    is_job = shown.get("Type") == "oneshot" and bool(timers) and shown.get("LoadState") == "loaded"
    return is_job and shown["ActiveState"] in _OF_JOBS and shown.get("Result") == "success"


def _why_inactive(shown: dict[str, str]) -> str:
    load, active = shown.get("LoadState"), shown["ActiveState"]
    if load == "not-found":
        return "there is no such unit"
    reason = f"{active} ({shown.get('SubState', '')})"
    if (result := shown.get("Result", "")) not in ("", "success"):
        reason += f", result {result}"
    return reason if load in (None, "loaded") else f"{reason}, {load}"


def _unknown(check: UnitCheck, why: str) -> CheckResult:
    return CheckResult(
        check, is_well=False, reason=f"systemd could not be asked: {why}", is_conclusive=False
    )


PROBE: Final = UnitProbe
