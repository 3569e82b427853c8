"""Tells how far an activation got, from what the host shows and not from the exit code alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.domain.errors import ActivationError, Kind
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.standing import Fault

if TYPE_CHECKING:
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

# switch-to-configuration's exit codes. 100: `init-interface-version` differs; 4 hides a 2.
_NEEDS_REBOOT: Final = 100
_UNITS_FAILED: Final = 4
_SCRIPT_FAILED: Final = "Failed to run activate script"
_KINDS: Final = {2: (Kind.ACTIVATION_SCRIPT_FAILED, "the activation script failed")}
# Of systemd-run and of switch-to-configuration itself.
_BUSY: Final = ("was already loaded", "Could not acquire lock")
# nixpkgs' nixos/modules/system/activation/pre-switch-check.nix, and the name of the check that
# compares switch inhibitors there.
_REFUSED_BY: Final = re.compile(
    r"^Pre-switch check '(?P<name>[^'\n]{1,200})' failed\s*$", re.MULTILINE
)
_OF_INHIBITORS: Final = "switchInhibitors"
# What is said once services are about to be touched.
_BEGUN: Final = ("stopping the following units", "activating the configuration")
_ANY_TROUBLE: Final = 255
_SIGNALS: Final = range(1, 65)


@dataclass(frozen=True, slots=True)
class Ended:
    """How nixos-rebuild ended, and where the host's links point before and after."""

    action: Action
    toplevel: StorePath
    equivalents: frozenset[StorePath]
    before: Systems
    after: Systems
    returncode: int
    tail: str
    timed_out: bool = False
    refused: str = ""
    """The options that nixos-rebuild did not know: it has done nothing then."""
    new_failures: frozenset[str] | None = None
    """Units that this switch touched and that have failed since; None if that is unknown."""


def judge_activation(ended: Ended) -> Outcome:
    """Return what was reached.

    Raises:
        ActivationError: the action was not completed; the message says what the host shows.
    """
    reached = _reached(ended)
    if ended.timed_out and reached is None:
        raise _fault(ended, Kind.ACTIVATION_TIMEOUT, "it did not end in time")
    if ended.timed_out or ended.returncode == 0 or _is_excused(ended):
        if reached is None:
            raise _fault(ended, Kind.ACTIVATION_INEFFECTIVE, "it reported success")
        return reached
    if ended.returncode == _NEEDS_REBOOT and not refusing_check(ended):
        if ended.action is Action.SWITCH and ended.after.profile == ended.toplevel:
            return Outcome.STAGED
        raise _fault(ended, Kind.ACTIVATION_NEEDS_REBOOT, "only a reboot can start this system")
    raise _fault(ended, *_trouble(ended))


def _is_excused(ended: Ended) -> bool:
    """Whether nothing but units failed, and none that this switch can have broken."""
    return (
        ended.returncode == _UNITS_FAILED
        and ended.new_failures == frozenset()
        and _SCRIPT_FAILED not in ended.tail
        and not refusing_check(ended)
        and _reached(ended) is not None
    )


def _trouble(ended: Ended) -> tuple[Kind, str]:
    if (unbegun := _unbegun(ended)) is not None:
        return unbegun
    if ended.returncode != _UNITS_FAILED:
        unnamed = (Kind.ACTIVATION_FAILED, "it refused or broke off")
        return _KINDS.get(ended.returncode, unnamed)
    what = "units and the activation script" if _SCRIPT_FAILED in ended.tail else "units"
    named = f": {', '.join(sorted(ended.new_failures))}" if ended.new_failures else ""
    return Kind.UNITS_FAILED, f"{what} failed{named}"


def _unbegun(ended: Ended) -> tuple[Kind, str] | None:
    """Return why it ended without an end of its own: killed, or refused before it began."""
    signal = _signal(ended.returncode)
    if signal is not None:
        return Kind.ACTIVATION_KILLED, f"it was killed by signal {signal}"
    if ended.refused:
        return Kind.NIXOS_REBUILD_OPTIONS, f"nixos-rebuild does not know {ended.refused}"
    if is_busy(ended.returncode, ended.tail):
        return Kind.ACTIVATION_BUSY, "another activation was at work"
    check = refusing_check(ended)
    return _refusal(check) if check else None


def _refusal(check: str) -> tuple[Kind, str]:
    named = f"Pre-switch check '{check}' failed"
    if check == _OF_INHIBITORS:
        return Kind.SWITCH_INHIBITED, f"{named}: only a reboot can start this system"
    return Kind.PRE_SWITCH_CHECK_FAILED, f"{named} before anything had begun"


def is_busy(returncode: int, tail: str) -> bool:
    """Whether another activation kept this one from beginning; the profile may have moved."""
    return returncode == 1 and any(words in tail for words in _BUSY)


def refusing_check(ended: Ended) -> str:
    """Return the name of the pre-switch check that refused to begin; empty where none did.

    The exit code tells nothing: it is the errno of whatever failed last.
    """
    is_unmoved = ended.after.running == ended.before.running
    if not ended.returncode or not is_unmoved or has_begun(ended.tail):
        return ""
    return named_check(ended.tail)


def named_check(tail: str) -> str:
    """Return the pre-switch check that has failed as the output says; empty for none."""
    found = _REFUSED_BY.findall(tail)
    return str(found[-1]) if found else ""


def with_refusal(stdout: str, tail: str) -> str:
    """Return the end of stderr, with the pre-switch check that stdout says has failed before it.

    The checks are shell scripts, and releases differ in which of the two they write that to.
    """
    check = named_check(stdout)
    return f"Pre-switch check '{check}' failed\n{tail}" if check else tail


def is_inhibited(returncode: int, tail: str) -> bool:
    """Whether a switch-to-configuration was refused for its switch inhibitors before it began."""
    return returncode != 0 and not has_begun(tail) and named_check(tail) == _OF_INHIBITORS


def has_begun(tail: str) -> bool:
    """Whether an activation has said that it touches services."""
    return any(words in tail for words in _BEGUN)


def fault_of_activation(kind: Kind, ended: Ended) -> Fault:
    """Return where the cause of a failed activation lies.

    That units failed proves nothing where nobody knows which.
    """
    is_broken = kind is Kind.ACTIVATION_SCRIPT_FAILED or (
        kind is Kind.UNITS_FAILED and (ended.new_failures or _SCRIPT_FAILED in ended.tail)
    )
    return Fault.BROKEN if is_broken else Fault.SUSPECT


def fault_of_refusal(kind: Kind) -> Fault | None:
    """Return where the cause of a refusal lies: a check asks about its own world, and may be wrong.

    That only a reboot can start a system is nobody's fault.
    """
    return None if kind is Kind.SWITCH_INHIBITED else Fault.SUSPECT


def _signal(returncode: int) -> int | None:
    """Return the signal that an exit code tells of.

    Our own child's is negative; a shell's child gives 128 + N, and nixos-rebuild, which passes a
    negative code to `exit`, 256 - N. But 255 is what ssh and others say of any trouble.
    """
    if returncode == _ANY_TROUBLE:
        return None
    for number in (-returncode, returncode - 128, 256 - returncode):
        if number in _SIGNALS:
            return number
    return None


def _reached(ended: Ended) -> Outcome | None:
    """Return what the host shows to have been reached; None if it is not what was wanted."""
    is_running = ended.after.running in ended.equivalents
    is_profile = ended.after.profile == ended.toplevel
    match ended.action:
        case Action.SWITCH if is_running and is_profile:
            return Outcome.PENDING
        case Action.BOOT if is_profile:
            return Outcome.STAGED
        case Action.TEST if is_running:
            return Outcome.PENDING
        case Action.DRY_ACTIVATE:
            return Outcome.DRY_ACTIVATED
        case _:
            return None


def _fault(ended: Ended, kind: Kind, what: str) -> ActivationError:
    running = _told(ended.after.running, ended.before.running, ended)
    profile = _told(ended.after.profile, ended.before.profile, ended)
    last = next((line for line in reversed(ended.tail.splitlines()) if line.strip()), "")
    said = f" (last line: {last.strip()[:300]})" if last else ""
    return ActivationError(
        kind,
        f"{ended.action} to {ended.toplevel} ended with {ended.returncode}:"
        f" {what}{said}; the running system is {running}, the profile is {profile}",
    )


def _told(now: StorePath | None, before: StorePath | None, ended: Ended) -> str:
    if now in ended.equivalents:
        return "the candidate"
    if now is None:
        return "unknown"
    return f"unchanged ({now})" if now == before else f"now {now}"
