"""Determines how far an activation got, from the host and not from the exit code alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.domain.errors import ActivationError, Kind
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.switch_output import (
    NEEDS_REBOOT,
    OF_INHIBITORS,
    UNITS_FAILED,
    Refusal,
    exit_code,
    failed_check,
    has_begun,
    has_broken_off,
    has_script_failed,
    last_words,
    refusal,
)

if TYPE_CHECKING:
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

_ANY_TROUBLE: Final = 255
"""The exit code of systemd-run if a signal killed its program; it does not say which signal."""
_SIGNALS: Final = range(1, 65)
_LONGEST: Final = 300
"""Characters of the output's end that an error quotes."""
_REFUSALS: Final = {
    Refusal.BUSY: (Kind.ACTIVATION_BUSY, "another activation was running"),
    Refusal.NOT_NIXOS: (Kind.HOST_NOT_NIXOS, "it does not recognise this host as NixOS"),
    Refusal.UNSTARTED: (Kind.ACTIVATION_REFUSED, "it could not even be started"),
}
_NEEDS_26_05: Final = (
    "`strategy = 'store-path'` needs the nixos-rebuild of NixOS 26.05 or newer;"
    " until the host runs that, use `strategy = 'flake'`"
)
IN_THE_WAY: Final = "would be clobbered"
"""home-manager's words for a file that is not its own and where it wants a link."""
_BACKUP: Final = (
    "move them away, or set HOME_MANAGER_BACKUP_EXT in `environmentFile`, and home-manager keeps"
    " each under its name with that extension"
)
_HINTS: Final = {
    Kind.HOST_NOT_NIXOS: "`touch /etc/NIXOS` if this is NixOS; the candidate is not at fault",
}


@dataclass(frozen=True, slots=True)
class ActivationResult:
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
    """The options that nixos-rebuild does not know; if there are any, it has done nothing."""
    new_failures: frozenset[str] | None = None
    """Units that this switch has changed and that have failed since; None if unknown."""
    is_half_done: bool = False
    """It was stopped before it had reached all units, whatever its exit code."""
    script_failed: bool = False
    """For a home: the activation itself reported that its script failed."""
    is_home: bool = False

    @property
    def code(self) -> int:
        """switch-to-configuration's own exit code, as far as it is known."""
        return exit_code(self.returncode, self.tail)

    @property
    def refusal(self) -> Refusal | None:
        """Why it has not begun; None if it has, or may have."""
        found = None if self.timed_out else refusal(self.code, self.tail)
        is_unmoved = self.after.running == self.before.running
        return found if is_unmoved or found is Refusal.BUSY else None

    @property
    def has_begun(self) -> bool:
        """Whether its output or the host shows that it reached the services."""
        return has_begun(self.tail) or (self.is_running and not self.was_running)

    @property
    def is_running(self) -> bool:
        """Whether the host runs the candidate."""
        return self.after.running in self.equivalents

    @property
    def has_script_failed(self) -> bool:
        """Whether the activation script is known to have failed."""
        return self.script_failed or has_script_failed(self.tail)

    @property
    def was_running(self) -> bool:
        """Whether the host ran the candidate already."""
        return self.before.running in self.equivalents

    @property
    def is_overtaken(self) -> bool:
        """Whether the host runs neither the candidate nor what it ran before."""
        now = self.after.running
        return now is not None and now != self.before.running and now not in self.equivalents

    @property
    def profile_of_another(self) -> StorePath | None:
        """The profile that someone else has set while the candidate was activated."""
        now = self.after.profile
        is_ours = now in (None, self.before.profile, self.toplevel)
        return None if is_ours or not self.action.moves_profile else now


def judge_activation(ended: ActivationResult) -> Outcome:
    """Return what was reached.

    A system that someone else has activated meanwhile is not the candidate's fault.

    Raises:
        ActivationError: the action was not completed; the message says what the host shows.
    """
    reached = None if ended.is_half_done else _reached(ended)
    if ended.timed_out and reached is None and not _is_superseded(ended):
        raise _fault(ended, Kind.ACTIVATION_TIMEOUT, "it did not finish in time")
    if ended.timed_out or ended.code == 0 or _is_excused(ended):
        if reached is not None:
            return reached
        if _is_superseded(ended):
            raise _fault(ended, Kind.ACTIVATION_BUSY, "another activation has taken its place")
        if ended.is_half_done:
            raise _fault(ended, Kind.ACTIVATION_KILLED, "it was stopped half-way")
        raise _fault(ended, Kind.ACTIVATION_INEFFECTIVE, "it reported success")
    if ended.code == NEEDS_REBOOT and ended.refusal is None:
        if ended.action is Action.SWITCH and ended.after.profile == ended.toplevel:
            return Outcome.STAGED
        raise _fault(ended, Kind.ACTIVATION_NEEDS_REBOOT, "only a reboot can start this system")
    raise _fault(ended, *_trouble(ended))


def _is_excused(ended: ActivationResult) -> bool:
    """Whether only units failed, and none of them because of this switch."""
    return (
        ended.code == UNITS_FAILED
        and ended.new_failures == frozenset()
        and not ended.has_script_failed
        and not has_broken_off(ended.tail)
        and ended.refusal is None
        and _reached(ended) is not None
    )


def _is_superseded(ended: ActivationResult) -> bool:
    """Whether the host shows a system of someone else's in the candidate's place."""
    is_staged_over = ended.action is Action.BOOT and ended.profile_of_another is not None
    return ended.is_overtaken or is_staged_over


def _trouble(ended: ActivationResult) -> tuple[Kind, str]:
    if killed := _killed(ended.code):
        return Kind.ACTIVATION_KILLED, killed
    if ended.refused:
        return Kind.NIXOS_REBUILD_OPTIONS, f"nixos-rebuild does not know {ended.refused}"
    if ended.refusal is not None:
        return _REFUSALS.get(ended.refusal) or _check_against(ended)
    if ended.code == UNITS_FAILED:
        what = "units and the activation script" if ended.has_script_failed else "units"
        named = f": {', '.join(sorted(ended.new_failures))}" if ended.new_failures else ""
        return Kind.UNITS_FAILED, f"{what} failed{named}"
    if ended.has_script_failed:
        return Kind.ACTIVATION_SCRIPT_FAILED, "the activation script failed"
    return Kind.ACTIVATION_FAILED, "it aborted" if ended.has_begun else "it refused or aborted"


def _check_against(ended: ActivationResult) -> tuple[Kind, str]:
    name = failed_check(ended.tail)
    if name == OF_INHIBITORS:
        what = f"the pre-switch check {name!r} refused it: only a reboot can start this system"
        return Kind.SWITCH_INHIBITED, what
    which = f"the pre-switch check {name!r}" if name else "a pre-switch check"
    return Kind.PRE_SWITCH_CHECK_FAILED, f"{which} refused it before anything was changed"


def is_busy(returncode: int, tail: str) -> bool:
    """Whether another activation kept this one from beginning; the profile may have moved.

    If the lock is held, switch-to-configuration exits with 11, and the shell script around it with
    1; if the unit is loaded already, systemd-run exits with 1.
    """
    return refusal(exit_code(returncode, tail), tail) is Refusal.BUSY


def is_inhibited(returncode: int, tail: str) -> bool:
    """Whether a switch-to-configuration was refused for its switch inhibitors before it began."""
    is_refused = refusal(exit_code(returncode, tail), tail) is Refusal.CHECK
    return is_refused and failed_check(tail) == OF_INHIBITORS


def fault_of_activation(kind: Kind, ended: ActivationResult) -> Fault:
    """Return where the cause of a failed activation lies.

    Failed units prove nothing if it is unknown which ones failed.
    """
    is_broken = kind is Kind.ACTIVATION_SCRIPT_FAILED or (
        kind is Kind.UNITS_FAILED and (ended.new_failures or ended.has_script_failed)
    )
    return Fault.BROKEN if is_broken else Fault.SUSPECT


def fault_of_refusal(kind: Kind) -> Fault | None:
    """Return where the cause of a refusal lies: what a check depends on may change.

    That only a reboot can start a system is not a fault.
    """
    return None if kind is Kind.SWITCH_INHIBITED else Fault.SUSPECT


def _killed(code: int) -> str:
    """Return which signal has ended it; empty if none has."""
    if code == _ANY_TROUBLE:
        return "it was killed by a signal"
    signal = _signal(code)
    return "" if signal is None else f"it was killed by signal {signal}"


def _signal(returncode: int) -> int | None:
    """Return the signal that an exit code stands for.

    For the agent's own child it is negative; a shell gives 128 + N for its child, and
    nixos-rebuild, which passes a negative code to `exit`, gives 256 - N.
    """
    for number in (-returncode, returncode - 128, 256 - returncode):
        if number in _SIGNALS:
            return number
    return None


def _reached(ended: ActivationResult) -> Outcome | None:
    """Return what was reached according to the host; None if that is not what was wanted."""
    is_profile = ended.after.profile == ended.toplevel
    match ended.action:
        case Action.SWITCH if ended.is_running and (is_profile or ended.profile_of_another):
            return Outcome.PENDING
        case Action.BOOT if is_profile:
            return Outcome.STAGED
        case Action.TEST if ended.is_running:
            return Outcome.PENDING
        case Action.DRY_ACTIVATE:
            return Outcome.DRY_ACTIVATED
        case _:
            return None


def current_of(*, is_home: bool) -> str:
    """Return what messages call that which is active now."""
    return "current home" if is_home else "running system"


def _fault(ended: ActivationResult, kind: Kind, what: str) -> ActivationError:
    running = _described(ended.after.running, ended.before.running, ended)
    profile = _described(ended.after.profile, ended.before.profile, ended)
    words = last_words(ended.tail)
    quoted = f" (last words: {words[:_LONGEST]})" if words else ""
    return ActivationError(
        kind,
        f"{ended.action} to {ended.toplevel} ended with {ended.code}:"
        f" {what}{quoted}; the {current_of(is_home=ended.is_home)} is {running},"
        f" the profile is {profile}",
        hint=_hint(kind, ended),
    )


def _hint(kind: Kind, ended: ActivationResult) -> str:
    """Return what to do about it; up to NixOS 25.11 no nixos-rebuild knows `--store-path`."""
    if kind is Kind.NIXOS_REBUILD_OPTIONS:
        is_too_old = "--store-path" in ended.refused.split()
        return _NEEDS_26_05 if is_too_old else "is it in `flags`?"
    return _BACKUP if IN_THE_WAY in ended.tail else _HINTS.get(kind, "")


def _described(now: StorePath | None, before: StorePath | None, ended: ActivationResult) -> str:
    if now in ended.equivalents:
        return "the candidate"
    if now is None:
        return "unknown"
    return f"unchanged ({now})" if now == before else f"now {now}"
