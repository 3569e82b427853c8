"""What `agent dead-man --booted` may cost a host: one reboot a system, none if nothing is wrong.

systemd reboots a host whose boot deadline fails (`FailureAction=reboot`), so that the boot loader
can go back. Links and marks alone decide here whether there is anything to do, before a setting is
read: a host that runs its confirmed system must not be rebooted for a mistake in its settings.
The agent itself runs in a process of its own; however that ends, the reboots are counted, in a
file beside the marks, before one is let happen. This module needs the standard library alone.
"""

from __future__ import annotations

import os
import signal
import sys
import tomllib
import traceback
from typing import TYPE_CHECKING, Final

from agent.lean import idle_poll
from agent.lean.places import MARKS_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNTED: Final = ".reboots-by-deadline"
"""The file beside the marks: the systems that a failed deadline has rebooted from, one a line."""
_MOST: Final = 50
_MAX_FILE: Final = 1 << 16
_LONGEST: Final = 1024
_UNDECIDED: Final = ("pending", "rolling-back", "staged")
_DONE: Final = 0
_ASKED_TO_END: Final = (signal.SIGINT, signal.SIGTERM)
_NO_FAILURE: Final = frozenset({_DONE, 1, 75, *(128 + number for number in _ASKED_TO_END)})
"""What the unit has as successes: done, rolled back, held, and asked to end, as by a shutdown."""
_BUG: Final = 70
_SAFELY: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed, and a pipe in a file's place keeps nobody waiting."""
_TO_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _SAFELY
_LINKS: Final = {
    "current_system": "/run/current-system",
    "booted_system": "/run/booted-system",
    "marks_dir": MARKS_DIR,
}


def end_boot(arguments: Sequence[str], act: Callable[[], int]) -> int:
    """Let `act` do what is due after a boot, and return the exit code of the command.

    A code that fails the unit is returned at most once for each system: the host is rebooted then.

    Args:
        arguments: those of `agent dead-man`.
        act: the whole command; returns its exit code.
    """
    places = {name: _place(name, arguments) for name in _LINKS}
    system = _unconfirmed(places)
    if system is None:
        return _DONE
    code = _in_a_child(act)
    if code in _NO_FAILURE or _count(places["marks_dir"], system):
        return code
    _warn(system, code)
    return _DONE


def _place(name: str, arguments: Sequence[str]) -> str:
    """Return one of `paths.*`, the usual one where the settings cannot be read."""
    try:
        named = os.environ.get(f"NIXOS_HYDRA_AGENT_PATHS__{name.upper()}")
        if named is None:
            content = idle_poll.read_file(idle_poll.config_file(arguments, os.environ))
            named = tomllib.loads(content.decode())["paths"][name]
        return str(named)
    except Exception:  # noqa: BLE001 - whatever is wrong with them, they are not to decide here
        return _LINKS[name]


def _unconfirmed(places: dict[str, str]) -> str | None:
    """Return the system that was booted and is still to be confirmed, None if there is none."""
    # A setting, or a variable, that leads nowhere makes no host an unconfirmed one.
    running, booted = (
        _resolved(places[name]) or _resolved(_LINKS[name])
        for name in ("current_system", "booted_system")
    )
    marks_dir = places["marks_dir"]
    if running is not None and running in _family(marks_dir, "confirmed"):
        return None
    for mark in _UNDECIDED:
        if booted is not None and booted in _family(marks_dir, mark):
            return booted
    return None


def _family(marks_dir: str, mark: str) -> set[str]:
    """Return the system that a mark names, and its specialisations; empty without the mark."""
    link = os.path.join(marks_dir, mark)
    system = _resolved(link)
    if system is None:
        return set()
    special = os.path.join(system, "specialisation")
    try:
        names = os.listdir(special)
    except OSError:
        names = []
    found = {_resolved(os.path.join(special, name)) for name in names}
    return {system, *(path for path in found if path is not None)}


def _resolved(link: str) -> str | None:
    """Return where a link leads to in the end, whether or not anything is there."""
    return os.path.realpath(link) if os.path.islink(link) else None


def _in_a_child(act: Callable[[], int]) -> int:
    """Return the exit code of `act`, 128 and more for a signal, however it may end."""
    sys.stdout.flush()
    # None may come between the fork and the handlers.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED_TO_END)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = _BUG
        try:
            code = act()
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - the last boundary of this process
            traceback.print_exc()
        finally:
            os._exit(code)

    def pass_on(number: int, _frame: object) -> None:
        os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in _ASKED_TO_END}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _count(marks_dir: str, system: str) -> bool:
    """Count the reboot that follows; False if there was one, or it cannot be counted."""
    file = os.path.join(marks_dir, COUNTED)
    try:
        counted = _counted(file)
        if system in counted:
            return False
        handle = os.open(f"{file}.new", _TO_WRITE, 0o600)
        try:
            os.write(handle, "".join(f"{path}\n" for path in [*counted, system][-_MOST:]).encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(f"{file}.new", file)
        handle = os.open(marks_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        return False
    return True


def _counted(file: str) -> list[str]:
    """Return the systems that were rebooted from; a file that cannot be read says nothing.

    Raises:
        OSError: it is there and cannot be opened.
    """
    try:
        handle = os.open(file, os.O_RDONLY | _SAFELY)
    except FileNotFoundError:
        return []
    try:
        lines = os.read(handle, _MAX_FILE).decode(errors="replace").splitlines()
    finally:
        os.close(handle)
    return [line for line in lines if line.startswith("/") and len(line) <= _LONGEST]


def _warn(system: str, code: int) -> None:
    """Log that the host stays as it is, since a reboot has not helped."""
    try:
        from agent.application import events
        from agent.telemetry.log import StructlogSink, standard_output

        sink = StructlogSink(standard_output(), level="info", format="json")
        sink.emit(events.BOOT_DEADLINE_IN_VAIN, toplevel=system, exit_code=code)
    except Exception:  # noqa: BLE001 - a lost word must not reboot the host
        traceback.print_exc()
