"""Which units were started by their timers, as systemd reports on its bus.

Seen with systemd 257: `ActivationDetails` names the timer that has started a unit. `systemctl show`
cannot print it, and it is lost when systemd reloads its units. The time of a timer's last trigger
is kept then, until the timer itself is started again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.adapters.process import Completed

    Ask = Callable[..., Awaitable[Completed | None]]

_BUS: Final = "org.freedesktop.systemd1"
_PROPERTIES: Final = "Id,Type,TriggeredBy,InactiveExitTimestampMonotonic"
_ONESHOT: Final = "oneshot"
_AT_ONCE: Final = 5_000_000
"""Microseconds within which a unit begins that its timer has triggered and nothing holds up."""


class TimerJobs:
    """Runs `systemctl` and `busctl`, given as the beginnings of their command lines, with `ask`."""

    def __init__(self, ask: Ask, systemctl: tuple[str, ...], busctl: tuple[str, ...]) -> None:
        self._ask = ask
        self._systemctl = systemctl
        self._busctl = busctl

    async def among(self, units: frozenset[str]) -> frozenset[str] | None:
        """Return those of `units` that are oneshots whose timer has started them; None if unknown.

        One that was started in any other way, with its timer or without, is not among them.
        """
        if not units:
            return frozenset()
        done = await self._ask(
            *(*self._systemctl, "show", f"--property={_PROPERTIES}", "--", *sorted(units))
        )
        if done is None or done.returncode != 0:
            return None
        shown = {unit["Id"]: unit for unit in _blocks(done.stdout) if "Id" in unit}
        if not shown.keys() >= units:
            return None
        found = set()
        for name in units:
            timers = _timers(shown[name])
            if shown[name].get("Type") != _ONESHOT or not timers:
                continue
            is_by_timer = await self._is_by_timer(shown[name], timers)
            if is_by_timer is None:
                return None
            if is_by_timer:
                found.add(name)
        return frozenset(found)

    async def _is_by_timer(self, unit: dict[str, str], timers: tuple[str, ...]) -> bool | None:
        details = await self._property(unit["Id"], "Unit", "ActivationDetails")
        if not isinstance(details, list):
            return None
        if ["trigger_unit"] in [pair[:1] for pair in details if isinstance(pair, list)]:
            return any(["trigger_unit", timer] in details for timer in timers)
        began = unit.get("InactiveExitTimestampMonotonic", "")
        if not began.isdecimal():
            return None
        for timer in timers:
            fired = await self._property(timer, "Timer", "LastTriggerUSecMonotonic")
            if not isinstance(fired, int):
                return None
            if fired and 0 <= int(began) - fired <= _AT_ONCE:
                return True
        return False

    async def _property(self, unit: str, kind: str, name: str) -> object:
        path = f"/{_BUS.replace('.', '/')}/unit/{_label(unit)}"
        done = await self._ask(
            *(*self._busctl, "--json=short", "get-property", _BUS, path, f"{_BUS}.{kind}", name)
        )
        if done is None or done.returncode != 0:
            return None
        try:
            answer = json.loads(done.stdout)
        except (ValueError, RecursionError):
            return None
        return answer.get("data") if isinstance(answer, dict) else None


def _blocks(output: str) -> list[dict[str, str]]:
    """Return the properties that `systemctl show` prints, unit by unit."""
    return [
        {name: value for name, _, value in (line.partition("=") for line in block.splitlines())}
        for block in output.split("\n\n")
    ]


def _timers(unit: dict[str, str]) -> tuple[str, ...]:
    names = unit.get("TriggeredBy", "").split()
    return tuple(name for name in names if name.endswith(".timer"))


def _label(unit: str) -> str:
    """Return a unit's name as sd_bus_path_encode(3) writes it."""

    def escaped(found: re.Match[str]) -> str:
        return "".join(f"_{byte:02x}" for byte in found[0].encode())

    return re.sub(r"^[0-9]|[^A-Za-z0-9]", escaped, unit)
