"""Decides what a run does: a pure function of what was observed and what is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from agent.domain.gate import Stage
from agent.domain.gates import denied, registered
from agent.domain.policy import Action, Policy, RebootMode
from agent.domain.systems import inhibitor_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.domain.candidate import Candidate
    from agent.domain.gate import Judgement
    from agent.domain.path_record import Standing
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


@dataclass(frozen=True, slots=True)
class Observation:
    """The facts of one run.

    `need` names what only a reboot would change between the booted system and the profile.
    `equivalents` are the candidate's toplevel and its specialisations, as far as they are in the
    store: running one of them is running the candidate. `inhibitors` are those that differ between
    the running system and the profile's.
    """

    candidate: Candidate
    systems: Systems
    equivalents: frozenset[StorePath]
    need: tuple[str, ...]
    inhibitors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What the journal remembers about the candidate: its path, or what was built in its place."""

    is_staged: bool = False
    """The agent has left it in the profile for the next boot, on purpose."""
    is_dry_activated: bool = False
    reboot_asked_in: str | None = None
    """The boot in which the agent asked for a reboot into it, if it did."""
    has_failed: bool = False
    """Its last activation failed or was cut short: whatever the links say, it is not done."""
    activated_as: StorePath | None = None
    """The other path that this build's flake gave, and that was activated for want of a proof."""


@dataclass(frozen=True, slots=True)
class Done:
    """The host is where the action would bring it."""

    name = "done"


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now; `reasons` are (machine-readable name, sentence)."""

    reasons: tuple[tuple[str, str], ...]

    name = "hold"


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Bring the candidate to this host."""

    name = "upgrade"


@dataclass(frozen=True, slots=True)
class AwaitReboot:
    """The candidate waits for a reboot that the agent may not do; `reason` is why it is needed."""

    reason: str

    name = "await-reboot"


@dataclass(frozen=True, slots=True)
class Reboot:
    """The candidate waits for a reboot that the agent may do."""

    reason: str

    name = "reboot"


Decision = Done | Hold | Upgrade | AwaitReboot | Reboot


def decide(seen: Observation, history: History, policy: Policy, standing: Standing) -> Decision:
    """Return what to do about the candidate, gates aside; what is denied is never completed."""
    decision = _decide(seen, history, policy)
    if standing.denial is not None and isinstance(decision, Done | AwaitReboot | Reboot):
        return Hold(((denied.GATE.name, denied.why_denied(standing.denial)),))
    return decision


def _decide(seen: Observation, history: History, policy: Policy) -> Decision:
    goal = _goal(seen, history, policy)
    has_rebooted = history.reboot_asked_in not in (None, seen.systems.boot_id)
    if _is_reached(seen, history, policy.action, goal):
        reason = _reboot_reason(seen, goal) if policy.action.moves_profile else ""
        return _complete(seen, policy, reason, has_rebooted=has_rebooted)
    # Where it did come up with it, somebody has changed the running system since.
    if has_rebooted and seen.systems.booted not in goal and policy.action.moves_profile:
        return _ineffective(seen, "it is not what the host came up with")
    return Upgrade()


def _complete(
    seen: Observation, policy: Policy, reason: str, *, has_rebooted: bool
) -> Done | AwaitReboot | Hold | Reboot:
    """Return what is left to do where the candidate is, but for a reboot if there is a `reason`."""
    if not reason:
        return Done()
    if policy.reboot_mode is RebootMode.NEVER or seen.systems.is_container:
        return AwaitReboot(reason)
    if has_rebooted:
        return _ineffective(seen, reason)
    return Reboot(reason)


def _goal(seen: Observation, history: History, policy: Policy) -> frozenset[StorePath]:
    """Return the paths of which running one is running the candidate.

    Without verification what nixos-rebuild built in its place counts, too: the host would be
    upgraded to it again on each run.
    """
    if policy.verify or history.activated_as is None:
        return seen.equivalents
    return seen.equivalents | {history.activated_as}


def _ineffective(seen: Observation, what: str) -> Hold:
    told = f"the host was rebooted for {seen.candidate.toplevel} before, and still {what}"
    return Hold((("reboot-ineffective", told),))


def _is_reached(
    seen: Observation, history: History, action: Action, goal: frozenset[StorePath]
) -> bool:
    """Whether the action has nothing left to do ("done when" of the design's table)."""
    if history.has_failed:
        return False
    is_running = seen.systems.running in goal
    is_profile = seen.systems.profile == seen.candidate.toplevel or (
        seen.systems.profile is not None and seen.systems.profile in goal - seen.equivalents
    )
    match action:
        case Action.SWITCH:
            # One that was booted and left since is not waited for, unless only a boot can start it.
            is_startable = seen.systems.booted in goal and not seen.inhibitors
            is_staged = history.is_staged and not is_startable
            return is_profile and (is_running or is_staged)
        case Action.BOOT:
            return is_profile
        case Action.TEST:
            return is_running
        case Action.DRY_ACTIVATE:
            return is_running or history.is_dry_activated
        case _:
            assert_never(action)


def _reboot_reason(seen: Observation, goal: frozenset[StorePath]) -> str:
    need = () if seen.systems.is_container else seen.need
    return reboot_reason(need, seen.inhibitors, is_running=seen.systems.running in goal)


def reboot_reason(need: tuple[str, ...], inhibitors: tuple[str, ...], *, is_running: bool) -> str:
    """Return why the profile's system waits for a reboot; empty if it does not.

    `is_running`: the running system is the profile's, or a specialisation of it.
    """
    inhibited = "" if is_running else inhibitor_reason(inhibitors)
    if need:
        differing = f"{', '.join(need)} differ between the booted system and the profile"
        return f"{differing}; {inhibited}" if inhibited else differing
    if inhibited:
        return f"{inhibited}, between the running system and the profile"
    return "" if is_running else "the running system is not the profile's"


def held_by(decision: Decision, judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """Return the closed gates that bear on `decision`: on an upgrade any, on a reboot its own."""
    closed = tuple(judgement for judgement in judgements if not judgement.is_open)
    match decision:
        case Upgrade():
            return closed
        case Reboot():
            return tuple(judgement for judgement in closed if _bears_on_reboot(judgement))
        case Done() | Hold() | AwaitReboot():
            return ()
        case _:
            assert_never(decision)


def _bears_on_reboot(judgement: Judgement) -> bool:
    """Whether a gate that was asked about an upgrade holds a reboot, too.

    Those about the moment of a reboot are asked about that by themselves.
    """
    gate = registered()[judgement.gate]
    return Stage.BEFORE_REBOOT in gate.stages and not gate.postpones


@dataclass(frozen=True, slots=True)
class Plan:
    """How an upgrade is activated."""

    action: Action
    reboots: bool
    reason: str
    """Why it reboots, or why it would have to."""


def plan(
    policy: Policy, need: tuple[str, ...], inhibitors: tuple[str, ...] = (), *, is_container: bool
) -> Plan:
    """Return how to activate, given what only a reboot would change.

    A `switch` that needs a reboot, and may have one, becomes `boot` and the reboot, so that no
    service runs against another kernel's modules (as `system.autoUpgrade` does). One that
    `inhibitors` would refuse becomes `boot` even where nothing may reboot.
    """
    reason = "; ".join(
        part
        for part in (f"{', '.join(need)} differ" if need else "", inhibitor_reason(inhibitors))
        if part
    )
    if inhibitors and policy.action is Action.SWITCH:
        may_reboot = policy.reboot_mode is not RebootMode.NEVER and not is_container
        return Plan(Action.BOOT, reboots=may_reboot, reason=reason)
    if not policy.action.moves_profile or is_container:
        return Plan(policy.action, reboots=False, reason="")
    match policy.reboot_mode:
        case RebootMode.NEVER:
            return Plan(policy.action, reboots=False, reason=reason)
        case RebootMode.ALWAYS:
            return Plan(Action.BOOT, reboots=True, reason=reason or "reboot.mode is 'always'")
        case RebootMode.WHEN_NEEDED if need or policy.action is Action.BOOT:
            reason = reason or "the running system changes only with a reboot"
            return Plan(Action.BOOT, reboots=True, reason=reason)
        case RebootMode.WHEN_NEEDED:
            return Plan(policy.action, reboots=False, reason="")
        case _:
            assert_never(policy.reboot_mode)
