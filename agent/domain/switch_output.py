"""Parses the output of switch-to-configuration and of nixos-rebuild.

The messages are those of nixpkgs' switch-to-configuration-ng (main.rs), of its Perl predecessor,
of nixos-rebuild-ng, of the earlier shell script, and of systemd-run. Each must be a whole line,
since the output of a unit or of an activation script snippet may quote any of them.
`tests/fixtures/real_programs.toml` says where each was found.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCK_HELD: Final = 11
"""EAGAIN: switch-to-configuration exits with the errno of what failed."""
NEEDS_REBOOT: Final = 100
UNITS_FAILED: Final = 4
SCRIPT_FAILED: Final = 2
_ANY: Final = 1

_BEGUN: Final = re.compile(
    r"stopping the following units: .*|stopping swap device: .*|activating the configuration\.\.\."
)
_LOCKED: Final = re.compile(r"(?:error: )?Could not acquire lock(?: at .+)?")
_LOADED: Final = re.compile(r"(?:.*: )?Unit \S+ was already loaded\b.*")
_NOT_NIXOS: Final = re.compile(r"This is not a NixOS installation!(?: at .+)?")
_CHECK: Final = re.compile(r"Pre-switch check '(?P<name>[^']{1,200})' failed")
_CHECKS: Final = re.compile(r"Pre-switch checks failed(?: at .+)?")
_UNSTARTED: Final = re.compile(
    r"Could not open lock(?: at .+)?|Failed to start transient service unit: .*"
    r"|.*switch-to-configuration must be run as the root user"
)
_SCRIPT: Final = re.compile(r"Failed to run activate script")
_LOGIND: Final = re.compile(r"Unable to list users with logind: .*")
_UNITS: Final = re.compile(
    r"warning: (?:the following units failed: .*|user activation for .* failed)"
)
_INIT: Final = re.compile(r"incompatible with the current configuration\..*")
_BROKEN_OFF: Final = re.compile(r"Error: .*")
_OWN_WORDS: Final = (
    *(_LOCKED, _LOADED, _NOT_NIXOS, _CHECK, _CHECKS, _UNSTARTED, _SCRIPT, _LOGIND, _UNITS),
    *(_BROKEN_OFF, re.compile(r"Failed to install bootloader.*")),
    re.compile(r"Activation script snippet '.*' failed \(.*\)"),
    re.compile(r"Failed to (?:start|restart|reload|stop) [^ ]+(?:: .*)?"),
)
_TELLING: Final = (*_OWN_WORDS, _BEGUN, _INIT)

_STATUS: Final = re.compile(
    r"Command '.*switch-to-configuration.*' (?:returned non-zero exit status (?P<status>\d+)"
    r"|died with (?:<Signals\.\w+: |unknown signal )(?P<signal>\d+)>?)\."
)
_OF_THE_SCRIPT: Final = "warning: error(s) occurred while switching to the new configuration"
"""The shell script's; it then exits with 1, whatever the exit code of its child."""
_AROUND_IT: Final = re.compile(
    r"Command '.*switch-to-configuration.*|error: while running command with .*"
    rf"|{re.escape(_OF_THE_SCRIPT)}"
)
_MOST_WORDS: Final = 2


OF_INHIBITORS: Final = "switchInhibitors"
"""Nixpkgs' own pre-switch check, which compares the switch inhibitors of two systems."""


class Refusal(StrEnum):
    """Why an activation has not begun; the profile may have been changed before."""

    BUSY = "busy"
    """Another activation holds the lock, or uses the unit."""
    NOT_NIXOS = "not-nixos"
    """`/etc/NIXOS` is missing, and os-release names another system."""
    CHECK = "check"
    """A pre-switch check refused it."""
    UNSTARTED = "unstarted"
    """The unit could not be started, or the lock file not be opened."""


def _closing(lines: list[str]) -> str:
    """Return nixos-rebuild's last line; what is printed after it does not belong to the switch."""
    for line in reversed(lines):
        if _STATUS.fullmatch(line) or line == _OF_THE_SCRIPT:
            return line
        if _is_one_of(_TELLING, line):
            break
    return ""


def exit_code(returncode: int, tail: str) -> int:
    """Return the exit code of switch-to-configuration itself, if known.

    nixos-rebuild-ng names it in its last line, and early versions then exit with 1; other programs
    may print after that. The shell script exits with 1 and does not name it: the code is derived
    from the output.
    """
    lines = _lines(tail)
    last = _closing(lines) if returncode == _ANY else "".join(lines[-1:])
    if found := _STATUS.fullmatch(last):
        return -int(found["signal"]) if found["signal"] else int(found["status"])
    if returncode != _ANY or last != _OF_THE_SCRIPT:
        return returncode
    if _any(_LOCKED, lines) and not has_begun(tail):
        return LOCK_HELD
    if _any(_INIT, lines):
        return NEEDS_REBOOT
    if _any(_UNITS, lines):
        return UNITS_FAILED
    return SCRIPT_FAILED if _any(_SCRIPT, lines) else returncode


def refusal(code: int, tail: str) -> Refusal | None:
    """Return why it has not begun; None if it has, or may have.

    `code` is that of `exit_code`. A held lock is recognised by both the code and the message.
    """
    lines = _lines(tail)
    if code == 0 or has_begun(tail):
        return None
    is_locked = code in (LOCK_HELD, _ANY) and _any(_LOCKED, lines)
    if is_locked or (code == _ANY and _any(_LOADED, lines)):
        return Refusal.BUSY
    if _any(_NOT_NIXOS, lines):
        return Refusal.NOT_NIXOS
    if _any(_CHECK, lines) or _any(_CHECKS, lines):
        return Refusal.CHECK
    return Refusal.UNSTARTED if _any(_UNSTARTED, lines) else None


def failed_check(tail: str) -> str:
    """Return the name of the pre-switch check that refused it; empty if it is not named."""
    found = [match["name"] for line in _lines(tail) if (match := _CHECK.fullmatch(line))]
    return found[-1] if found else ""


def has_begun(tail: str) -> bool:
    """Whether services were stopped, or the activation script started."""
    return _any(_BEGUN, _lines(tail))


def has_script_failed(tail: str) -> bool:
    """Whether the output says that the activation script failed; a later failure hides its code."""
    return _any(_SCRIPT, _lines(tail))


def has_broken_off(tail: str) -> bool:
    """Whether it aborted for a reason other than failed units."""
    lines = _lines(tail)
    return _any(_LOGIND, lines) or _any(_BROKEN_OFF, lines)


def last_words(tail: str) -> str:
    """Return its own last messages, without what nixos-rebuild adds and units print after them.

    If no message is recognised, that is the last line.
    """
    lines = [line for line in _lines(tail) if not _AROUND_IT.fullmatch(line)]
    own = [_with_cause(lines, at) for at, line in enumerate(lines) if _is_one_of(_OWN_WORDS, line)]
    if failed_check(tail):
        own = [line for line in own if not _CHECKS.fullmatch(line)]
    return "; ".join(own[-_MOST_WORDS:] or lines[-1:])


def with_relevant_lines(relevant: Iterable[str], tail: str) -> str:
    """Return the end of an output, preceded by the relevant lines that it does not include.

    `heard` are the lines for which `is_relevant` was true, in order.
    """
    present = set(_lines(tail))
    return "\n".join([*(line for line in relevant if line.strip() not in present), tail])


def is_relevant(line: str) -> bool:
    """Whether a line affects how an activation is judged."""
    line = line.strip()
    return bool(_is_one_of(_TELLING, line) or _STATUS.fullmatch(line) or line == _OF_THE_SCRIPT)


def _with_cause(lines: list[str], at: int) -> str:
    """Return a line; an error of the Rust program together with the causes listed below it."""
    if not _BROKEN_OFF.fullmatch(lines[at]) or lines[at + 1 : at + 2] != ["Caused by:"]:
        return lines[at]
    causes = []
    for line in lines[at + 2 :]:
        if _is_one_of(_TELLING, line):
            break
        causes.append(re.sub(r"^\d+: ", "", line))
    return ": ".join([lines[at], *causes[:_MOST_WORDS]])


def _lines(tail: str) -> list[str]:
    return [line.strip() for line in tail.splitlines() if line.strip()]


def _any(pattern: re.Pattern[str], lines: Iterable[str]) -> bool:
    return any(pattern.fullmatch(line) for line in lines)


def _is_one_of(patterns: Iterable[re.Pattern[str]], line: str) -> bool:
    return any(pattern.fullmatch(line) for pattern in patterns)
