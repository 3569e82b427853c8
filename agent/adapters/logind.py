"""logind: who blocks a shutdown, who is logged in, and a word to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agent.adapters.process import ProgramMissingError
from agent.domain.reboot import Inhibitor

if TYPE_CHECKING:
    from agent.adapters.process import Completed, Runner

_TIMEOUT: Final = 20.0
_MANAGER: Final = (
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
)
_MOST_TEXT: Final = 200
# Of `Class` in sd_session_get_class(3): greeters, lock screens and managers are nobody.
_PERSON: Final = ("user", "user-early", "user-light", "user-early-light")


class LogindCommands:
    """Asks by logind's bus, for which its own commands give no machine-readable answer."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def inhibitors(self) -> tuple[Inhibitor, ...]:
        """Return who blocks a shutdown (mode `block`); nobody where logind does not answer.

        Delays are logind's own affair, and `block-weak` does not bind root.
        """
        found = await self._call("ListInhibitors")
        return tuple(
            Inhibitor(str(row[1])[:_MOST_TEXT], str(row[2])[:_MOST_TEXT])
            for row in found
            if len(row) > 3  # noqa: PLR2004 - what, who, why, mode, uid, pid
            and "shutdown" in str(row[0]).split(":")
            and row[3] == "block"
        )

    async def people(self) -> tuple[str, ...]:
        """Return the names of those who are logged in; nobody where logind does not answer."""
        sessions = [str(row[0]) for row in await self._call("ListSessions") if row]
        if not sessions:
            return ()
        done = await self._run(
            # Unlike systemctl it takes one name an option.
            *("loginctl", "show-session", *sessions),
            *("--property=Name", "--property=Class", "--property=State"),
        )
        names = set()
        for block in (done.stdout if done else "").split("\n\n"):
            told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if told.get("Class") in _PERSON and told.get("State") != "closing":
                names.add(told.get("Name", "somebody")[:_MOST_TEXT])
        return tuple(sorted(names))

    async def tell_people(self, text: str) -> None:
        """Write to everybody's terminal; never raises."""
        await self._run("wall", text)

    async def _call(self, method: str) -> list[Any]:
        done = await self._run("busctl", "--json=short", "call", *_MANAGER, method)
        if done is None or done.returncode != 0:
            return []
        try:
            (rows,) = json.loads(done.stdout)["data"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
        return [row for row in rows if isinstance(row, list)] if isinstance(rows, list) else []

    async def _run(self, *argv: str) -> Completed | None:
        try:
            return await self._runner.run(argv, timeout=_TIMEOUT)
        except ProgramMissingError:
            return None
