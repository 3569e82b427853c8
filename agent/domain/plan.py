"""How an upgrade is activated: with which action, and whether with a reboot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from agent.domain.policy import Action, Policy, RebootMode
from agent.domain.systems import inhibitor_reason


@dataclass(frozen=True, slots=True)
class Plan:
    """How an upgrade is activated."""

    action: Action
    reboots: bool
    reason: str
    """Why it reboots, or would have to reboot."""


def plan(
    policy: Policy, need: tuple[str, ...], inhibitors: tuple[str, ...] = (), *, is_container: bool
) -> Plan:
    """Return how to activate, given what only a reboot would change.

    If a `switch` needs a reboot and reboots are allowed, it becomes `boot` and a reboot, so that no
    service runs with another kernel's modules (as in `system.autoUpgrade`). A `switch` that NixOS
    would refuse because of `inhibitors` becomes `boot` even if reboots are not allowed.
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
