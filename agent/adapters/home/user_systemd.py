"""A user's own systemd, and the activation of a home in one of its units."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.systemd.manager import STATE, SystemdCommands
from agent.application.ports import ActivationExit, UnitStatus
from agent.domain.activation import IN_THE_WAY
from agent.domain.policy import Action
from agent.domain.secrets import hide_secrets
from agent.domain.unit_names import (
    ACTIVATION_UNIT,
    CONFIRM_UNIT,
    HOME_ACTIVATION_UNIT,
    UPGRADE_UNIT,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.adapters.process import Completed, Runner
    from agent.domain.store_path import StorePath

_SCRIPT: Final = "activate"
_DRIVER: Final = ("--driver-version", "1")
"""That the profile is the caller's; the script's version 0 moves it itself."""
_PACKAGE_FORMAT: Final = "gen-version"
"""The file of packages that know versions of drivers; older ones take no arguments."""
_BOUNDARY: Final = "writeBoundary"
"""The step, known by its name in any language, before which nothing of a home is changed."""
_REFUSED, _BROKE_OFF = 1, 2
_LONGEST_START: Final = 30.0
"""Seconds."""
_SINCE: Final = "ActiveEnterTimestampMonotonic"
_LONGEST_JUDGING: Final = 3600.0
"""Seconds after which a confirmation of the host that still waits holds no home any more."""
_SIGNALS: Final = range(129, 193)
_MAX_LINES: Final = 200


class UserSystemd(SystemdCommands):
    """Queries and controls the user's manager; `run_dir` is `$XDG_RUNTIME_DIR`.

    `current_home` is home-manager's link to what it has activated last; `left` is what is being
    rolled back from.
    """

    _systemctl = ("systemctl", "--user")
    _systemd_run = ("systemd-run", "--user")
    _busctl = ("busctl", "--user")
    _activation_unit = HOME_ACTIVATION_UNIT
    _prefixes = ("NIX_", "NIXOS_HYDRA_AGENT_", "XDG_", "HOME_MANAGER_")

    def __init__(
        self,
        runner: Runner,
        *,
        dead_man: tuple[str, ...],
        activate_deadline: float,
        run_dir: Path,
        current_home: Path,
        left: Callable[[], StorePath | None],
    ) -> None:
        super().__init__(
            runner, dead_man=dead_man, activate_deadline=activate_deadline, run_dir=run_dir
        )
        self._current_home = current_home
        self._left = left

    @property
    @override
    def has_host_below(self) -> bool:
        return True

    @override
    async def is_host_upgrading(self) -> bool | None:
        """Return whether the system's agent, or any nixos-rebuild, is running; None: unknown."""
        is_unknown = False
        for unit in (UPGRADE_UNIT, CONFIRM_UNIT, ACTIVATION_UNIT):
            shown = await self._show(("systemctl",), unit, STATE, (_SINCE,))
            if shown is None:
                is_unknown = True
            elif UnitStatus(
                shown["LoadState"], shown["ActiveState"], shown["SubState"]
            ).is_running and not (unit == CONFIRM_UNIT and _is_long_since(shown.get(_SINCE, ""))):
                return True
        return None if is_unknown else False

    @override
    def has_work_left(self) -> bool:
        """Return False: the lists in the user's directory are of the system's switches."""
        return False

    @override
    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        """Run the package's own `activate`; the exit codes become switch-to-configuration's.

        Its own ones are whatever any program in it ended with.

        Raises:
            HostError: ROLL_BACK_FAILED: it cannot be started.
        """
        if action is Action.BOOT:
            return ActivationExit(0, "")  # nothing but the profile
        spent = await self._await_start()
        self._expose_unfinished_home(toplevel)
        done = await self._in_a_unit(_script(toplevel), self._inherited(), spent=spent)
        for line in done.stdout.splitlines():
            self._runner.say(_SCRIPT, line, stream="stdout")
        code = _code(done)
        return ActivationExit(code, _said(done), done.timed_out, script_failed=code == _BROKE_OFF)

    @override
    def _is_managed(self) -> bool:
        return (self._run_dir / "systemd").is_dir()

    async def _await_start(self) -> float:
        """Wait until the manager has started everything, but not for ever: it may wait for this.

        While it is still starting, home-manager reloads no unit and reports success. Return the
        seconds that it took.
        """
        begun = monotonic()
        if self._is_managed():
            wait = (*self._systemctl, "is-system-running", "--wait", "--quiet")
            await self._runner.try_run(wait, timeout=_LONGEST_START)
        return monotonic() - begun

    def _expose_unfinished_home(self, toplevel: StorePath) -> None:
        """Let an activation see what it has to clean up: a home whose activation broke off.

        `activate` removes what the home at `current_home` has and its own has not. A home whose
        activation broke off never got there.
        """
        left, link = self._left(), self._current_home
        if left is None or os.path.realpath(link) != toplevel:
            return
        new = link.with_name(f".{link.name}.new")
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
            new.symlink_to(left)
            new.replace(link)


def _is_long_since(microseconds: str) -> bool:
    if not microseconds.isdecimal():
        return False
    return monotonic() - int(microseconds) / 1e6 > _LONGEST_JUDGING


def _script(toplevel: StorePath) -> tuple[str, ...]:
    takes_version = Path(toplevel, _PACKAGE_FORMAT).exists()
    return (f"{toplevel}/{_SCRIPT}", *(_DRIVER if takes_version else ()))


def _said(done: Completed) -> str:
    """Return the end of what it printed on both streams; home-manager's errors are on stdout.

    The files in its way come last, as the reason; below them it explains what could be done.
    """
    lines = str(hide_secrets(done.stdout)).splitlines()[-_MAX_LINES:]
    in_the_way = [line for line in (*lines, *done.tail.splitlines()) if IN_THE_WAY in line]
    return "\n".join([*lines, done.tail, "; ".join(in_the_way)]).rstrip()


def _code(done: Completed) -> int:
    """Return the exit code in switch-to-configuration's terms: refused, or broken off half-way."""
    code = done.returncode
    if code <= 0 or code in _SIGNALS:
        return code
    has_begun = _BOUNDARY in done.stdout or _BOUNDARY in done.tail
    return _BROKE_OFF if has_begun else _REFUSED
