"""The power supply of a host: boots it, boots it again when it reboots, cuts a silent boot off."""

from __future__ import annotations

import enum
import os
import select
import socket
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nspawn.namespaces import Namespaces

_REBOOTS = 133
"""How systemd-nspawn ends with --keep-unit when its system wants to reboot."""
_LONGEST_MESSAGE = 4096
_LOCKED = "is currently busy."
"""How systemd-nspawn's last words end where another one has the directory."""
_PAUSE = 0.1
_LONGEST_LOCK = 5.0


class Phase(enum.Enum):
    """What a host is doing, as far as its power supply can tell."""

    OFF = "off"
    BOOTING = "booting"
    UP = "up"


class SilentBootError(Exception):
    """A boot did not end within its time and was cut off; the text has the console's last lines."""


class PowerSupply:
    """Runs systemd-nspawn for one host of the namespaces, in a thread, until the host powers itself off.

    `boot` gives the command line for each boot; it begins in the control group `name` of the namespaces.
    `patience` is how many seconds a boot may take until systemd says that all of it is up.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        name: str,
        boot: Callable[[], Sequence[str]],
        *,
        patience: float,
    ) -> None:
        self._namespaces = namespaces
        self._name = name
        self._boot = boot
        self.patience = patience
        self.boots_again = False
        """Whether a silent boot is followed by another, as by a watchdog; otherwise it stays off."""
        self.phase = Phase.OFF
        self.boots = 0
        """How often it was booted, ever."""
        self.silent_boots = 0
        self.leader = 0
        """The host's first process, as the namespaces number it; 0 while there is none."""
        self.console = namespaces.path(f"/tmp/{name}.console")
        """What systemd-nspawn and all boots have printed."""
        self.fault: Exception | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._locked = 0

    def switch_on(self) -> None:
        """Begin to boot, unless it is on."""
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                return
            self.fault, self._wanted = None, True
            self.phase = Phase.BOOTING
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def cut(self) -> None:
        """Take the power away, at once; nothing is written any more."""
        with self._changed:
            self._wanted = False
            thread = self._thread
        while thread is not None and thread.is_alive():
            # More than once: a boot may be just about to begin.
            self._namespaces.kill(self._name)
            thread.join(0.05)

    def wait(self, until: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until something is so, looked at whenever the phase changes.

        Raises:
            SilentBootError: a boot was cut off meanwhile.
            TimeoutError: it is not so after `timeout` seconds; the text has the console.
        """
        with self._changed:
            silent = self.silent_boots

            def settled() -> bool:
                was_cut_off = self.silent_boots != silent and self.phase is Phase.OFF
                return until() or self.fault is not None or was_cut_off

            in_time = self._changed.wait_for(settled, timeout)
            if self.fault is not None:
                raise self.fault
            if until():
                return
            told = f"{what}: the host is {self.phase.value} in boot {self.boots}\n{self._tail()}"
        if in_time:
            raise SilentBootError(told)
        raise TimeoutError(told)

    # In the thread

    def _run(self) -> None:
        try:
            while self._wanted and self._boot_once():
                pass
        except Exception as fault:  # noqa: BLE001 - raised again by `wait`
            self.fault = fault
        finally:
            self._change(Phase.OFF, leader=0)

    def _boot_once(self) -> bool:
        """Boot, and wait for the end of that; return whether to boot again."""
        silent_boots = self.silent_boots
        directory = self._namespaces.path(f"/tmp/{self._name}.notify")
        directory.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notified,
            self.console.open("ab") as console,
        ):
            notified.bind(str(directory))
            self.boots += 1
            self._change(Phase.BOOTING, leader=0)
            # What is left of a boot that was cut off would be in the way.
            with suppress(RuntimeError):
                self._namespaces.run("ip", "link", "delete", f"vb-{self._name}")
            child = subprocess.Popen(
                self._namespaces.argv(*self._boot(), cgroup=self._name),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={
                    **self._namespaces.environment(),
                    "NOTIFY_SOCKET": f"/tmp/{self._name}.notify",
                },
            )
            try:
                self._watch(child, notified)
            finally:
                self._change(self.phase, leader=0)
                self._namespaces.end(self._name)
                child.wait()
        was_silent = self.silent_boots != silent_boots
        # The lock of the boot before is not always gone with its last process.
        is_locked = child.returncode == 1 and self._tail().endswith(_LOCKED)
        self.boots -= is_locked
        return (
            child.returncode == _REBOOTS or (was_silent and self.boots_again) or is_locked
        ) and not self._gives_up(is_locked=is_locked)

    def _gives_up(self, *, is_locked: bool) -> bool:
        """Wait a little for a lock; return whether that was long enough."""
        self._locked = self._locked + 1 if is_locked else 0
        time.sleep(_PAUSE if is_locked else 0)
        return self._locked > _LONGEST_LOCK / _PAUSE

    def _watch(self, child: subprocess.Popen[bytes], notified: socket.socket) -> None:
        """Follow one boot to its end."""
        deadline: float | None = time.monotonic() + self.patience
        ended = os.pidfd_open(child.pid)
        try:
            while True:
                if self.phase is Phase.UP:
                    deadline = None
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    deadline = left = None
                    self.silent_boots += 1
                    self._namespaces.kill(self._name)
                readable, _, _ = select.select([ended, notified], [], [], left)
                if notified in readable:
                    self._take(notified.recv(_LONGEST_MESSAGE).decode())
                elif ended in readable:
                    return
        finally:
            os.close(ended)

    def _take(self, message: str) -> None:
        for line in message.splitlines():
            name, _, value = line.partition("=")
            if name == "X_NSPAWN_LEADER_PID":
                self._change(self.phase, leader=int(value))
            elif line == "READY=1" and self.phase is Phase.BOOTING:
                self._change(Phase.UP, leader=self.leader)

    def _change(self, phase: Phase, *, leader: int) -> None:
        with self._changed:
            self.phase, self.leader = phase, leader
            self._changed.notify_all()

    def _tail(self) -> str:
        return tail(self.console)


def tail(file: Path, lines: int = 40) -> str:
    """Return the last lines of a text."""
    if not file.exists():
        return ""
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
