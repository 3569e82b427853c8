"""Finds out how far an activation got, from the host and not from the exit code alone."""

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
"""systemd-run's where a signal has killed its program, without saying which one."""
_SIGNALS: Final = range(1, 65)
_LONGEST: Final = 300
"""Characters of its last words in an error."""
_REFUSALS: Final = {
    Refusal.BUSY: (Kind.ACTIVATION_BUSY, "another activation was running"),
    Refusal.NOT_NIXOS: (Kind.HOST_NOT_NIXOS, "this host does not look like NixOS to it"),
    Refusal.UNSTARTED: (Kind.ACTIVATION_REFUSED, "it could not even be started"),
}
_NEEDS_26_05: Final = (
    "`strategy = 'store-path'` needs the nixos-rebuild of NixOS 26.05 or newer;"
    " until the host runs that, use `strategy = 'flake'`"
)
_HINTS: Final = {
    Kind.HOST_NOT_NIXOS: "`touch /etc/NIXOS` if this is a NixOS host; the system is not to blame",
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
    """The options that nixos-rebuild did not know: it has done nothing then."""
    new_failures: frozenset[str] | None = None
    """Units that this switch touched and that have failed since; None if that is unknown."""
    is_half_done: bool = False
    """It was stopped before it had come to all units, whatever its exit code."""
    script_failed: bool = False
    """What stands in switch-to-configuration's place knows that its script failed: a home's."""

    @property
    def code(self) -> int:
        """switch-to-configuration's own exit code, as far as it is known."""
        return exit_code(self.returncode, self.tail)

    @property
    def refusal(self) -> Refusal | None:
        """Why it has not begun; None where it has, or may have."""
        found = None if self.timed_out else refusal(self.code, self.tail)
        is_unmoved = self.after.running == self.before.running
        return found if is_unmoved or found is Refusal.BUSY else None

    @property
    def has_begun(self) -> bool:
        """Whether it says that it has come to the services, or the host shows it."""
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
        """Whether the host runs what is neither the candidate nor what it ran before."""
        now = self.after.running
        return now is not None and now != self.before.running and now not in self.equivalents

    @property
    def profile_of_another(self) -> StorePath | None:
        """What another hand has set the profile to while the candidate was activated."""
        now = self.after.profile
        is_ours = now in (None, self.before.profile, self.toplevel)
        return None if is_ours or not self.action.moves_profile else now


def judge_activation(ended: ActivationResult) -> Outcome:
    """Return what was reached.

    What another hand has brought here meanwhile is no fault of the candidate.

    Raises:
        ActivationError: the action was not completed; the message says what the host shows.
    """
    reached = None if ended.is_half_done else _reached(ended)
    if ended.timed_out and reached is None and not _is_superseded(ended):
        raise _fault(ended, Kind.ACTIVATION_TIMEOUT, "it did not end in time")
    if ended.timed_out or ended.code == 0 or _is_excused(ended):
        if reached is not None:
            return reached
        if _is_superseded(ended):
            raise _fault(ended, Kind.ACTIVATION_BUSY, "another activation has taken its place")
        if ended.is_half_done:
            raise _fault(ended, Kind.ACTIVATION_KILLED, "it was stopped among the services")
        raise _fault(ended, Kind.ACTIVATION_INEFFECTIVE, "it reported success")
    if ended.code == NEEDS_REBOOT and ended.refusal is None:
        if ended.action is Action.SWITCH and ended.after.profile == ended.toplevel:
            return Outcome.STAGED
        raise _fault(ended, Kind.ACTIVATION_NEEDS_REBOOT, "only a reboot can start this system")
    raise _fault(ended, *_trouble(ended))


def _is_excused(ended: ActivationResult) -> bool:
    """Whether nothing but units failed, and none that this switch can have broken."""
    return (
        ended.code == UNITS_FAILED
        and ended.new_failures == frozenset()
        and not ended.has_script_failed
        and not has_broken_off(ended.tail)
        and ended.refusal is None
        and _reached(ended) is not None
    )


def _is_superseded(ended: ActivationResult) -> bool:
    """Whether the host shows another hand's work in the candidate's place."""
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
    return Kind.ACTIVATION_FAILED, "it broke off" if ended.has_begun else "it refused or broke off"


def _check_against(ended: ActivationResult) -> tuple[Kind, str]:
    name = failed_check(ended.tail)
    if name == OF_INHIBITORS:
        what = f"the pre-switch check {name!r} refused it: only a reboot can start this system"
        return Kind.SWITCH_INHIBITED, what
    which = f"the pre-switch check {name!r}" if name else "a pre-switch check"
    return Kind.PRE_SWITCH_CHECK_FAILED, f"{which} refused it before anything had begun"


def is_busy(returncode: int, tail: str) -> bool:
    """Whether another activation kept this one from beginning; the profile may have moved.

    A lock that is held ends switch-to-configuration with 11, and the shell script around it with
    1; a unit that is loaded ends systemd-run with 1.
    """
    return refusal(exit_code(returncode, tail), tail) is Refusal.BUSY


def is_inhibited(returncode: int, tail: str) -> bool:
    """Whether a switch-to-configuration was refused for its switch inhibitors before it began."""
    is_refused = refusal(exit_code(returncode, tail), tail) is Refusal.CHECK
    return is_refused and failed_check(tail) == OF_INHIBITORS


def fault_of_activation(kind: Kind, ended: ActivationResult) -> Fault:
    """Return where the cause of a failed activation lies.

    That units failed proves nothing where nobody knows which.
    """
    is_broken = kind is Kind.ACTIVATION_SCRIPT_FAILED or (
        kind is Kind.UNITS_FAILED and (ended.new_failures or ended.has_script_failed)
    )
    return Fault.BROKEN if is_broken else Fault.SUSPECT


def fault_of_refusal(kind: Kind) -> Fault | None:
    """Return where the cause of a refusal lies: a check asks about its own world, and may be wrong.

    That only a reboot can start a system is nobody's fault.
    """
    return None if kind is Kind.SWITCH_INHIBITED else Fault.SUSPECT


def _killed(code: int) -> str:
    """Return how a signal has ended it; empty if none has."""
    if code == _ANY_TROUBLE:
        return "it was killed by a signal"
    signal = _signal(code)
    return "" if signal is None else f"it was killed by signal {signal}"


def _signal(returncode: int) -> int | None:
    """Return the signal that an exit code stands for.

    Our own child's is negative; a shell's child gives 128 + N, and nixos-rebuild, which passes a
    negative code to `exit`, 256 - N.
    """
    for number in (-returncode, returncode - 128, 256 - returncode):
        if number in _SIGNALS:
            return number
    return None


def _reached(ended: ActivationResult) -> Outcome | None:
    """Return what the host shows to have been reached; None if it is not what was wanted."""
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


def _fault(ended: ActivationResult, kind: Kind, what: str) -> ActivationError:
    running = _described(ended.after.running, ended.before.running, ended)
    profile = _described(ended.after.profile, ended.before.profile, ended)
    words = last_words(ended.tail)
    quoted = f" (last words: {words[:_LONGEST]})" if words else ""
    return ActivationError(
        kind,
        f"{ended.action} to {ended.toplevel} ended with {ended.code}:"
        f" {what}{quoted}; the running system is {running}, the profile is {profile}",
        hint=_hint(kind, ended),
    )


def _hint(kind: Kind, ended: ActivationResult) -> str:
    """Return what to do about it; up to NixOS 25.11 no nixos-rebuild knows `--store-path`."""
    if kind is Kind.NIXOS_REBUILD_OPTIONS:
        is_too_old = "--store-path" in ended.refused.split()
        return _NEEDS_26_05 if is_too_old else "is it in `flags`?"
    return _HINTS.get(kind, "")


def _described(now: StorePath | None, before: StorePath | None, ended: ActivationResult) -> str:
    if now in ended.equivalents:
        return "the candidate"
    if now is None:
        return "unknown"
    return f"unchanged ({now})" if now == before else f"now {now}"
