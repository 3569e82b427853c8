"""logind: who blocks a shutdown, who is logged in, and messages to them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from agent.application.ports import Logind
from agent.domain.reboot import Inhibitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.adapters.process import Completed, Runner

_TIMEOUT: Final = 20.0
_MANAGER: Final = (
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
)
_UNIT: Final = "systemd-logind.service"
_ABSENT: Final = ("LoadState=not-found", "LoadState=masked")
_MOST_TEXT: Final = 200
_SESSION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_INHIBITOR_FIELDS: Final = 4
"""What, who, why, mode; then uid and pid."""
# Of `Class` in sd_session_get_class(3); any other is a person's, also one that is not known yet.
_NOBODY: Final = frozenset(
    {
        *("greeter", "lock-screen", "manager", "manager-early"),
        *("background", "background-light", "none"),
    }
)


class LogindCommands(Logind):
    """Asks by logind's bus, for which its own commands give no machine-readable answer.

    Where there is no answer the result is None. That no user is logged in is an answer: logind says
    so, or systemd says that there is no logind.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @override
    async def inhibitors(self) -> tuple[Inhibitor, ...] | None:
        # Delays are logind's own affair, and `block-weak` does not bind root.
        found = await self._call("ListInhibitors")
        if found is None or any(len(row) < _INHIBITOR_FIELDS for row in found):
            return None
        return tuple(
            Inhibitor(str(row[1])[:_MOST_TEXT], str(row[2])[:_MOST_TEXT])
            for row in found
            if "shutdown" in str(row[0]).split(":") and row[3] == "block"
        )

    @override
    async def people(self) -> tuple[str, ...] | None:
        # One question about several sessions ends at the first that has just ended (loginctl 257):
        # each one that it leaves out is asked about by itself. One without an answer then has ended
        # if it is no longer listed; else it may be anybody's.
        sessions = await self._sessions()
        if sessions is None:
            return None
        known = await self._describe(sessions) if sessions else {}
        for session in sessions:
            if session not in known:
                known |= await self._describe((session,))
        silent = [session for session in sessions if session not in known]
        if silent:
            now = await self._sessions()
            silent = silent if now is None else [session for session in silent if session in now]
        names = {about["Name"][:_MOST_TEXT] for about in known.values() if _is_person(about)}
        return None if silent and not names else tuple(sorted(names))

    @override
    async def notify_users(self, text: str) -> None:
        await self._run("wall", text)

    async def _sessions(self) -> tuple[str, ...] | None:
        """Return the ids of the sessions, None if that is unknown."""
        rows = await self._call("ListSessions")
        ids = [str(row[0]) if row else "" for row in rows or ()]
        if rows is None or not all(_SESSION.fullmatch(session) for session in ids):
            return None
        return tuple(ids)

    async def _describe(self, sessions: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what loginctl says of sessions, by their ids; of some it may say nothing."""
        done = await self._run(
            # Unlike systemctl it takes one name an option.
            *("loginctl", "show-session", *sessions),
            *("--property=Id", "--property=Name", "--property=Class", "--property=State"),
        )
        return {about["Id"]: about for about in _blocks(done.stdout if done else "")}

    async def _call(self, method: str) -> list[list[Any]] | None:
        """Return the rows of a method's answer; None without one."""
        done = await self._run("busctl", "--json=short", "call", *_MANAGER, method)
        if done is None or done.returncode != 0:
            return [] if await self._is_absent() else None
        try:
            (rows,) = json.loads(done.stdout)["data"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            return None
        return rows

    async def _is_absent(self) -> bool:
        """Whether systemd says that this host has no logind: then it has no sessions, either."""
        done = await self._run("systemctl", "show", "--property=LoadState", _UNIT)
        return done is not None and done.returncode == 0 and done.stdout.strip() in _ABSENT

    async def _run(self, *argv: str) -> Completed | None:
        return await self._runner.try_run(argv, timeout=_TIMEOUT)


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """Yield the properties of each session for which all of them are there."""
    for block in text.split("\n\n"):
        about = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if all(about.get(name) for name in ("Id", "Name", "Class", "State")):
            yield about


def _is_person(about: dict[str, str]) -> bool:
    return about["Class"] not in _NOBODY and about["State"] != "closing"
