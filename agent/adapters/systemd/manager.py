"""systemd, through its commands: units, the dead-man's timer, the activation's transient unit."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process import Completed, ProgramMissingError
from agent.adapters.systemd.environment_file import EnvironmentFiles, portable
from agent.adapters.systemd.time_sync import is_synchronised
from agent.adapters.systemd.timer_jobs import TimerJobs
from agent.application.ports import ActivationExit, Systemd, UnitStatus
from agent.domain.activation_unit import ActivationSeen, names_one_of
from agent.domain.errors import HostError, Kind
from agent.domain.switch_output import is_relevant, with_relevant_lines
from agent.domain.unit_names import ACTIVATION_UNIT, DEAD_MAN_UNIT, UPGRADE_UNIT, WAKE_UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from agent.adapters.process import Runner
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath

_TIMEOUT: Final = 60.0
_START_TIMEOUT: Final = 20.0
"""A unit that waits for others for longer cannot start."""
_PING: Final = (
    *("--timeout=20", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
    *("org.freedesktop.DBus.Peer", "Ping"),
)
_LATE: Final = "timed out"
"""busctl's own timeout ends with "Connection timed out": a bus that is slow is one."""
_POLL: Final = 0.2
_LONGEST_POLL: Final = 2.0
_ASKED: Final = 3
_ALMOST_A_SECOND: Final = timedelta(microseconds=999_999)
_LOCK: Final = "nixos/switch-to-configuration.lock"
_LISTS: Final = ("nixos/start-list", "nixos/restart-list", "nixos/reload-list")
"""What switch-to-configuration has yet to do, for the next one if it is stopped (its main.rs)."""
STATE: Final = ("LoadState", "ActiveState", "SubState")
"""The properties that a `UnitStatus` begins with."""
_END: Final = ("Result", "ExecMainStatus")
"""Only services have them."""
_WHOSE: Final = ("ExecStart", "InvocationID")
"""Only what runs has them."""
_ARGV: Final = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
"""As systemctl-show.c prints ExecStart: `{ path=P ; argv[]=P A ; ignore_errors=no ; ...`."""
# What the dead-man needs of the environment in which the agent was started.
_INHERITED: Final = (
    *("PATH", "HOME", "LOCALE_ARCHIVE", "SSL_CERT_FILE", "NIX_SSL_CERT_FILE", "AGENT_DEMO_ROOT"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
_BY_UNIT: Final = ("LOCALE_ARCHIVE", "NIXOS_INSTALL_BOOTLOADER", "NIXOS_NO_CHECK")
_PLAIN: Final = ("PATH", "HOME", "SSL_CERT_FILE", "NIX_SSL_CERT_FILE", *_BY_UNIT)
"""What is no secret on any host."""


class SystemdCommands(Systemd):
    """Controls systemd; `run_dir` is `/run`, `dead_man` the command line of the dead-man.

    `activate_deadline` is in seconds.
    """

    _systemctl: tuple[str, ...] = ("systemctl",)
    _systemd_run: tuple[str, ...] = ("systemd-run",)
    _busctl: tuple[str, ...] = ("busctl",)
    _activation_unit = ACTIVATION_UNIT
    _prefixes: tuple[str, ...] = ("NIX_", "NIXOS_HYDRA_AGENT_")

    def __init__(
        self,
        runner: Runner,
        *,
        dead_man: tuple[str, ...],
        activate_deadline: float,
        run_dir: Path,
        locks: Path = Path("/proc/locks"),
    ) -> None:
        self._runner = runner
        self._dead_man = dead_man
        self._activate_deadline = activate_deadline
        self._run_dir = run_dir
        self._locks = locks
        self._files = EnvironmentFiles(run_dir)

    @override
    async def failed_units(self) -> frozenset[str] | None:
        done = await self._try(
            *(*self._systemctl, "list-units", "--all", "--full", "--plain", "--no-legend"),
            "--state=failed,auto-restart",
        )
        if done is None or done.returncode != 0:
            return None
        units = frozenset(line.split()[0] for line in done.stdout.splitlines() if line.strip())
        return units if all("." in unit for unit in units) else None

    @override
    async def started_by_timers(self, units: frozenset[str]) -> frozenset[str] | None:
        return await TimerJobs(self._try, self._systemctl, self._busctl).among(units)

    @override
    @property
    def has_host_below(self) -> bool:
        return False

    @override
    async def status(self, unit: str) -> UnitStatus | None:
        return await self._status_by(self._systemctl, unit)

    async def _status_by(self, systemctl: tuple[str, ...], unit: str) -> UnitStatus | None:
        shown = await self._show(systemctl, unit, STATE, _END)
        if shown is None:
            return None
        status = shown.get("ExecMainStatus", "0")
        if not status.isdecimal():
            return None
        return UnitStatus(
            load_state=shown["LoadState"],
            active_state=shown["ActiveState"],
            sub_state=shown["SubState"],
            result=shown.get("Result", "success"),
            exit_status=int(status),
        )

    async def _show(
        self,
        systemctl: tuple[str, ...],
        unit: str,
        needed: tuple[str, ...],
        wanted: tuple[str, ...] = (),
    ) -> dict[str, str] | None:
        """Return properties of a unit; None unless systemd gives all that are needed."""
        names = ",".join((*needed, *wanted))
        done = await self._try(*systemctl, "show", f"--property={names}", unit)
        if done is None or done.returncode != 0:
            return None
        shown = _properties(done.stdout)
        return shown if all(shown.get(name) for name in needed) else None

    @override
    async def start(self, unit: str, *, afresh: bool = False) -> bool:
        status = await self.status(unit)
        if status is None:
            return False
        if status.is_running and status.active_state != "deactivating" and not afresh:
            return True
        await self._try(*self._systemctl, "reset-failed", unit)
        done = await self._try(*self._systemctl, "restart", unit, timeout=_START_TIMEOUT)
        if done is not None and done.returncode == 0 and not done.timed_out:
            return True
        status = await self.status(unit)
        if status is None or status.is_running:
            return status is not None
        raise HostError(Kind.CONFIRM_UNIT_FAILED, f"cannot start {unit}: {_reason_in(done)}")

    @override
    async def start_later(self, unit: str) -> None:
        await self._try(*self._systemctl, "--no-block", "start", unit)

    @override
    async def is_clock_synchronised(self) -> bool | None:
        return await is_synchronised(self._runner)

    @override
    async def arm(self, delay: timedelta, run_id: str, toplevel: StorePath) -> None:
        # Each has a name of its own: it may be set again from within the service of the last one.
        await self.disarm()
        name = f"{DEAD_MAN_UNIT}-{run_id}"
        environment = self._environment_of(f"{name}.env", self._inherited())
        if environment is None:
            what = f"cannot set the dead-man's timer: {self._run_dir} cannot be written"
            raise HostError(Kind.DEAD_MAN_UNARMED, what)
        done = await self._try(
            *(*self._systemd_run, f"--unit={name}", f"--on-active={delay.total_seconds():g}s"),
            *("--timer-property=AccuracySec=1s", "--timer-property=RemainAfterElapse=no"),
            *("--property=Type=exec", "--collect", "--no-ask-password", "--quiet"),
            *environment,
            *("--", *self._dead_man, "--run-id", run_id, "--toplevel", toplevel),
        )
        if done is None or done.returncode != 0:
            what = f"cannot set the dead-man's timer: {_reason_in(done)}"
            raise HostError(Kind.DEAD_MAN_UNARMED, what)
        state = await self._state_of(f"{name}.timer")
        if state is None:
            what = f"systemd does not say whether the dead-man's timer {name}.timer runs"
            raise HostError(Kind.SYSTEMD_SILENT, what, hint="the next run tries again")
        if state != "active":
            what = f"the dead-man's timer {name}.timer is {state} after it was set"
            raise HostError(Kind.DEAD_MAN_UNARMED, what)

    async def _state_of(self, unit: str) -> str | None:
        """Return a unit's ActiveState; None if systemd does not answer, after several attempts."""
        for _ in range(_ASKED):
            shown = await self._show(self._systemctl, unit, ("ActiveState",))
            if shown is not None:
                return shown["ActiveState"]
            await asyncio.sleep(_POLL)
        return None

    @override
    async def disarm(self) -> None:
        await self._try(*self._systemctl, "stop", f"{DEAD_MAN_UNIT}-*.timer")
        self._files.remove(f"{DEAD_MAN_UNIT}-*.env")

    @override
    async def wake(self, at: datetime) -> None:
        # Rounded up to whole seconds: a run that comes too early would have to wait once more.
        await self._try(*self._systemctl, "stop", f"{WAKE_UNIT}.timer")
        rounded = at.astimezone(UTC) + _ALMOST_A_SECOND
        moment = rounded.strftime("%Y-%m-%d %H:%M:%S UTC")
        await self._try(
            *(*self._systemd_run, f"--unit={WAKE_UNIT}", f"--on-calendar={moment}"),
            *("--timer-property=AccuracySec=1s", "--timer-property=RemainAfterElapse=no"),
            *("--collect", "--no-ask-password", "--quiet"),
            *("--", *self._systemctl, "--no-block", "start", UPGRADE_UNIT),
        )

    @override
    async def is_host_upgrading(self) -> bool | None:
        return False

    @override
    async def is_activating(self) -> bool | None:
        return (await self.activation()).is_running

    @override
    async def activation(self) -> ActivationSeen:
        unit = self._activation_unit
        shown = await self._show(self._systemctl, unit, STATE, _WHOSE)
        if shown is not None and _is_running(shown):
            return _seen(unit, shown)
        is_locked = self._is_locked()
        if is_locked and (seen := await self._under_another_name()):
            return seen
        return ActivationSeen(
            is_running=None if shown is None and is_locked is False else is_locked
        )

    async def _under_another_name(self) -> ActivationSeen | None:
        """Return the one running transient unit whose name is longer than usual.

        During the development of NixOS 26.05 nixos-rebuild added eight hexadecimal digits to it.
        """
        names = ",".join(("Id", *STATE, *_WHOSE))
        pattern = f"{self._activation_unit.removesuffix('.service')}-*.service"
        done = await self._try(*self._systemctl, "show", f"--property={names}", pattern)
        if done is None or done.returncode != 0:
            return None
        blocks = map(_properties, done.stdout.split("\n\n"))
        found = [
            shown for shown in blocks if all(map(shown.get, ("Id", *STATE))) and _is_running(shown)
        ]
        return _seen(found[0]["Id"], found[0]) if len(found) == 1 else None

    @override
    def has_work_left(self) -> bool:
        # A transient unit that `systemctl stop` ends is a success, with exit code 0: it got
        # SIGTERM.
        return any(self._is_listed(name) for name in _LISTS)

    def _is_listed(self, name: str) -> bool:
        try:
            return (self._run_dir / name).stat().st_size > 0
        except OSError:
            return False

    @override
    async def begun(self, paths: frozenset[StorePath]) -> str:
        # Asked more and more seldom: building may take nixos-rebuild hours before.
        pause = _POLL
        while True:
            seen = await self.activation()
            if seen.invocation and names_one_of(seen.command, paths):
                return seen.invocation
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL)

    @override
    async def stop_activation(self, invocation: str) -> None:
        # It is looked at again just before each blow: another one may have the name by now.
        if (seen := await self.activation()).invocation == invocation:
            await self._try(*self._systemctl, "stop", seen.unit)
        if (seen := await self.activation()).invocation == invocation:
            await self._try(*self._systemctl, "kill", "--signal=SIGKILL", seen.unit)
        for _ in range(round(_TIMEOUT / _POLL)):
            seen = await self.activation()
            if seen.is_running is False or seen.invocation not in ("", invocation):
                return
            await asyncio.sleep(_POLL)

    @override
    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        # The name is the same on purpose: a nixos-rebuild at the same time is refused.
        variables = [
            (name, value)
            for name, value in self._inherited()
            if name.startswith("NIX_") or name in (*_BY_UNIT, "AGENT_DEMO_ROOT")
        ]
        script = (f"{toplevel}/bin/switch-to-configuration", action)
        done = await self._in_a_unit(script, variables)
        for line in done.stdout.splitlines():
            self._runner.say("switch-to-configuration", line, stream="stdout")
        tail = with_relevant_lines(filter(is_relevant, done.stdout.splitlines()), done.tail)
        return ActivationExit(done.returncode, tail, done.timed_out)

    async def _in_a_unit(
        self, script: tuple[str, ...], variables: Sequence[tuple[str, str]], *, spent: float = 0.0
    ) -> Completed:
        """Run a script in the activation's transient unit, with variables of the environment.

        Without a manager that can be asked for one it runs by itself. It is never begun twice: what
        went wrong with an activation that has begun looks just as what kept one from beginning.
        `spent` are the seconds of the activation's deadline that are gone already. systemd itself
        ends what takes longer: of an installer's run that hangs no row says that it is the agent's.
        """
        timeout = max(self._activate_deadline - spent, 1.0)
        file = f"{self._activation_unit.removesuffix('.service')}.env"
        argv = (
            *self._systemd_run,
            *(self._environment_of(file, variables) or ()),
            *("--collect", "--no-ask-password", "--pipe", "--quiet", "--service-type=exec"),
            f"--property=RuntimeMaxSec={timeout:.0f}s",
            *(f"--unit={self._activation_unit.removesuffix('.service')}", *script),
        )
        has_units = self._is_managed() and not await self._has_no_bus()
        try:
            return await self._runner.run(argv if has_units else script, timeout=timeout)
        except ProgramMissingError as error:
            raise HostError(Kind.ROLL_BACK_FAILED, str(error)) from error
        finally:
            self._files.remove(file)

    def _is_managed(self) -> bool:
        return (self._run_dir / "systemd/system").is_dir()

    async def _has_no_bus(self) -> bool:
        """Return whether the manager provably takes no transient units, as in emergency mode.

        For those that are waited for systemd-run needs the bus; systemctl as root goes by the
        manager's own socket (run.c and systemctl-util.c of systemd 257).
        """
        if not (self._run_dir / "systemd/private").is_socket():
            return False
        done = await self._try(*self._busctl, *_PING)
        if done is None or done.returncode == 0 or done.timed_out:
            return False
        return _LATE not in done.tail

    def _inherited(self) -> list[tuple[str, str]]:
        return [
            (name, value)
            for name, value in sorted(self._runner.environment.items())
            if name in (*_INHERITED, *_BY_UNIT) or name.startswith(self._prefixes)
        ]

    def _environment_of(
        self, file: str, variables: Sequence[tuple[str, str]]
    ) -> tuple[str, ...] | None:
        """Return the options that give a transient unit its variables; None without a file.

        What everybody knows is passed by name, so that the unit has that much without its file.
        """
        known = portable(variables)
        by_name = [name for name in _PLAIN if name in known]
        others = {name: value for name, value in known.items() if name not in by_name}
        options = tuple(word for name in by_name for word in ("-E", name))
        try:
            written = self._files.write(file, others)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            self._runner.say("systemd-run", f"no file for the environment of a unit: {why}")
            return None
        return (*options, f"--property=EnvironmentFile=-{written}")

    def _is_locked(self) -> bool | None:
        """Look for the lock in the kernel's list: to try it would keep others from taking it.

        None if there is a lock file, and the list cannot be read.
        """
        try:
            file = (self._run_dir / _LOCK).stat()
        except FileNotFoundError:
            return False
        except OSError:
            return None
        try:
            held = self._locks.read_text()
        except (OSError, UnicodeError):
            return None
        # As fs/locks.c writes it: another file system may have a file of that number, and in the
        # line of one who waits each field stands one further on, after `->`.
        wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        # Number, kind, mode, access, pid, inode.
        return any(line.split()[5:6] == [wanted] for line in held.splitlines())

    async def _try(self, *argv: str, timeout: float = _TIMEOUT) -> Completed | None:
        """Run a program to its end, whatever its exit code; None if it is missing."""
        return await self._runner.try_run(argv, timeout=timeout)


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _is_running(shown: Mapping[str, str]) -> bool:
    return UnitStatus(shown["LoadState"], shown["ActiveState"], shown["SubState"]).is_running


def _seen(unit: str, shown: Mapping[str, str]) -> ActivationSeen:
    found = _ARGV.search(shown.get("ExecStart", ""))
    return ActivationSeen(
        is_running=True,
        command=tuple(found[1].split()) if found else (),
        invocation=shown.get("InvocationID", ""),
        unit=unit,
    )


def _reason_in(done: Completed | None) -> str:
    if done is None:
        return "systemd's commands are missing"
    if done.timed_out:
        return "it does not start in time"
    return done.last_line
