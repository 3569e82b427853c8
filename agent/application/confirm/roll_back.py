"""Brings the confirmed system back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.own_activation import Invocation, make_way
from agent.application.act.rival_activation import keep_pending_boot, keep_profile
from agent.application.act.try_boot import make_confirmed_default
from agent.application.confirm.denial import deny_if_broken, held_as, standing_of
from agent.application.confirm.settle import FailedSystem, settle_rolled_back
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.facts.specialisations import previous_system
from agent.application.report import Result, error_fields, reason_fields
from agent.domain.activation import current_of, is_busy, is_inhibited
from agent.domain.errors import ActivationError, HostError, JournalError, Kind
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, RebootMode
from agent.domain.run_record import altered
from agent.domain.states import Change, RollingBack, change_of
from agent.domain.switch_output import last_words
from agent.domain.systems import inhibitor_reason

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit, HostPorts
    from agent.application.run import Run
    from agent.domain.confirmation import Reason
    from agent.domain.path_record import Fault
    from agent.domain.store_path import StorePath

_LONGEST = 300
"""Characters of switch-to-configuration's last words in an error."""
_ATTEMPTS = 3
"""How often a roll-back waits for someone else's activation to end."""


@dataclass(frozen=True, slots=True)
class _RollBackPlan:
    """One roll-back: which system is left, for which, how it came here, and why it is left."""

    failed: StorePath
    target: StorePath
    action: Action
    reasons: tuple[Reason, ...]
    special: StorePath
    """What of the target ran before: itself, or a specialisation of it."""


async def roll_back(
    run: Run, failed: StorePath, action: Action, cause: Fault | None, reasons: tuple[Reason, ...]
) -> Result | None:
    """Activate the confirmed system in place of `failed`; None if someone else has decided.

    `run.record` is the row of the upgrade. The history is written where it can be: a full disk
    does not keep a broken system. Until all is done the mark `rolling-back` stays, and whoever
    comes next begins again.

    Raises:
        HostError: NO_CONFIRMED_SYSTEM, before anything is changed; ROLL_BACK_FAILED, with what the
            host shows; ROLL_BACK_NEEDS_REBOOT: the confirmed system is what the host boots next.
        ActivationError: ACTIVATION_BUSY: another activation does not end; nothing was done.
    """
    ports = run.ports
    marks = ports.marks.read()
    if failed not in (marks.pending, marks.left):
        ports.sink.emit(events.CLAIM_LOST, toplevel=failed)
        return None
    target = marks.confirmed
    if target is None or target == failed:
        raise HostError(
            Kind.NO_CONFIRMED_SYSTEM,
            f"{failed} should be rolled back from, and there is no other confirmed system",
            hint="activate a good system by hand, then `agent confirm --force`",
        )
    if failed != marks.left and not ports.marks.move(Mark.PENDING, failed, Mark.ROLLING_BACK):
        ports.sink.emit(events.CLAIM_LOST, toplevel=failed)
        return None
    if marks.tested == failed:
        with suppress(HostError):  # it is tidied up; a broken system does not stay for that
            ports.marks.remove(Mark.TESTED)
    earlier = run.record
    special = previous_system(run, target)
    _write_down(run, failed, cause, reasons, target)
    await make_way(run, earlier, failed)
    action = await keep_pending_boot(run.of(earlier), failed, target, action)
    if await _bring_back(run, _RollBackPlan(failed, target, action, reasons, special)):
        return Result(Outcome.REBOOTING, reasons)
    is_leaving = ports.marks.read().rebooting_back == failed
    mark = Mark.REBOOTING_BACK if is_leaving else Mark.ROLLING_BACK
    ports.marks.move(mark, failed, Mark.ROLLED_BACK)
    await settle_rolled_back(run, FailedSystem(failed, target))
    return Result(Outcome.ROLLED_BACK, reasons)


async def _bring_back(run: Run, back: _RollBackPlan) -> bool:
    """Have the target run again, as what of it ran, or by a reboot that is asked for: True then.

    What NixOS refuses to switch to is gone back to by a reboot, whatever `reboot.mode` says.
    """
    ports, failed, target = run.ports, back.failed, back.target
    if _is_left_already(run, failed, target):
        await _leave_to_another(run, replace(back, action=Action.BOOT))
        return False
    is_second_boot = ports.marks.read().rebooting_back == failed
    if is_second_boot and _has_booted(ports, target) and _is_back(ports, back):
        return False
    inhibited = (
        ""
        if back.action is Action.BOOT
        else inhibitor_reason(find_inhibitors(ports.host, back.special))
    )
    if not is_second_boot and await _reboot_back(run, back, inhibited):
        return True
    if not inhibited:
        inhibited = await _activate(run, back)
        if not inhibited:
            return False
        if not is_second_boot and await _reboot_back(run, back, inhibited):
            return True
    raise await _leave_to_administrator(run, back, inhibited)


def _is_left_already(run: Run, failed: StorePath, target: StorePath) -> bool:
    """Whether an administrator has brought another system here since: that one stays.

    The upgrade has found `run.record.previous` here.
    """
    host = run.ports.host
    known = host.equivalents(failed) | host.equivalents(target) | {run.record.previous}
    running = host.systems().running
    return running is not None and running not in known


async def _leave_to_another(run: Run, back: _RollBackPlan) -> None:
    """Take back only what the next boot would bring, and leave what runs."""
    systems = run.ports.host.systems()
    run.ports.sink.emit(
        events.ROLL_BACK_LEFT,
        toplevel=back.failed,
        running=systems.running,
        profile=systems.profile,
    )
    run.record = altered(run.record, target=systems.running)
    if systems.profile in run.ports.host.equivalents(back.failed):
        await _activate(run, back)
    elif systems.profile == back.target:
        await make_confirmed_default(run.ports, back.target, before=back.failed)


def _write_down(
    run: Run, failed: StorePath, cause: Fault | None, reasons: tuple[Reason, ...], target: StorePath
) -> None:
    """Commit the phase, and with it the denial if there is to be one."""
    ports, fault = run.ports, held_as(run, failed, cause)
    ports.sink.emit(
        events.ROLL_BACK_STARTED,
        toplevel=failed,
        target=target,
        fault=fault,
        reasons=reason_fields(reasons),
    )
    change = change_of(run.record.state) or Change(failed)
    run.try_commit(RollingBack(change, target, fault), reasons=reasons)
    try:
        deny_if_broken(run, failed)
    except JournalError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))


async def _reboot_back(run: Run, back: _RollBackPlan, inhibited: str) -> bool:
    """Leave a system by a reboot, if the host has booted it; False if it cannot.

    It is asked for at most once: the mark says so, and stands before the reboot. Nor is a path that
    was rolled back from before left by another one: the services are switched back, and its kernel
    goes with the next reboot that an upgrade needs. `inhibited` is why they cannot be.
    """
    ports, failed, target = run.ports, back.failed, back.target
    if ports.host.systems().is_container or standing_of(ports, failed).roll_backs:
        return False
    if not inhibited and not (
        run.policy.reboot_mode is not RebootMode.NEVER
        and back.action is Action.SWITCH
        and _has_booted(ports, failed)
    ):
        return False
    try:
        if not await _stage_back(run, back):
            return False
        ports.marks.move(Mark.ROLLING_BACK, failed, Mark.REBOOTING_BACK)
    except HostError as error:
        ports.sink.emit(events.RUN_FAILED, **error_fields(error))
        return False
    await ports.systemd.disarm()
    ports.sink.emit(events.ROLL_BACK_REBOOTS, toplevel=failed, target=target)
    return await _ask_for_reboot(ports)


async def _ask_for_reboot(ports: HostPorts) -> bool:
    """Ask for a reboot; False if that is refused."""
    try:
        # Past logind: it may not have come up, and a broken host waits for nobody.
        await ports.host.reboot(forced=True)
    except asyncio.CancelledError:
        return True  # the end of this process comes with the reboot
    except HostError as error:
        ports.sink.emit(events.RUN_FAILED, **error_fields(error))
        return False
    return True


async def _stage_back(run: Run, back: _RollBackPlan) -> bool:
    """Let the host's next boot be of the confirmed system; False if the loader does not say so.

    Raises:
        HostError: the profile cannot be set, or its installer not be started.
    """
    ports = run.ports
    with run.step("roll-back"):
        await ports.profile.set(back.target)
        await _make_room(run, back.failed)
        ended = await _switch(run, back.failed, back.target, Action.BOOT)
        await ports.loader.forget_choices()
        if back.special != back.target:
            # Where the loader cannot do that, its base is booted, and switched from afterwards.
            await ports.loader.make_default(back.special)
    defaults = (None, back.target, back.special)
    return ended.returncode == 0 and ports.loader.default() in defaults


async def _leave_to_administrator(run: Run, back: _RollBackPlan, inhibited: str) -> HostError:
    """Stage the confirmed system, and return the fault that says what an administrator has to run.

    Runs until then find it staged, and have nothing to write.
    """
    host, loader = run.ports.host, run.ports.loader
    is_default = loader.default() in (back.target, back.special)
    is_there = host.systems().profile == back.target and is_default
    try:
        is_staged = is_there or await _stage_back(run, back)
    except HostError as error:
        run.ports.sink.emit(events.RUN_FAILED, **error_fields(error))
        is_staged = False
    boot = "" if is_staged else f"{back.target}/bin/switch-to-configuration boot && "
    command = f"{boot}systemctl reboot"
    run.ports.sink.emit(
        events.ROLL_BACK_NEEDS_REBOOT,
        toplevel=back.failed,
        target=back.target,
        reason=inhibited,
        command=command,
    )
    running = run.ports.host.systems().running or "unknown"
    return HostError(
        Kind.ROLL_BACK_NEEDS_REBOOT,
        f"only a reboot can start the confirmed {back.target} again ({inhibited}), and the agent"
        f" may do none here, or no other; the running system is still {running}",
        hint=f"run `{command}`",
    )


async def _activate(run: Run, back: _RollBackPlan) -> str:
    """Activate the confirmed system; return why only a reboot can, if it was refused for that.

    Raises:
        HostError: ROLL_BACK_FAILED.
    """
    ports, failed, target, action = run.ports, back.failed, back.target, back.action
    with run.step("roll-back"):
        if action.moves_profile:
            await _set_profile(run, back)
            await _make_room(run, failed)
        ended = await _switch(run, failed, _activated(back, action), action)
        if not _is_back(ports, back) and is_inhibited(ended.returncode, ended.tail):
            return inhibitor_reason(("as switch-to-configuration says",))
        if action.moves_profile:
            await keep_profile(ports, target)
        if not _is_back(ports, back) and action is Action.SWITCH:
            # Where the boot loader cannot be written, the services can still be had back.
            ended = await _switch(run, failed, back.special, Action.TEST)
        if back.special != target and action.moves_profile:
            await _start_special_by_default(run, back)
    if not _is_back(ports, back):
        systems = ports.host.systems()
        current = current_of(is_home=ports.systemd.has_host_below)
        raise HostError(
            Kind.ROLL_BACK_FAILED,
            f"{action} to the confirmed {target} ended with"
            f" {ended.returncode} ({last_words(ended.tail)[:_LONGEST]}); the {current} is"
            f" {systems.running or 'unknown'}, the profile is {systems.profile or 'unknown'}",
            hint="the next run tries again; `agent status` shows where the host is",
        )
    _report_shortfall(ports, back, ended)
    return ""


def _activated(back: _RollBackPlan, action: Action) -> StorePath:
    """Return whose switch-to-configuration runs: a generation alone can be booted by `boot`."""
    return back.target if action is Action.BOOT else back.special


async def _start_special_by_default(run: Run, back: _RollBackPlan) -> None:
    """Let the loader start what ran; a specialisation's own installer makes nothing the default."""
    loader = run.ports.loader
    if loader.default() not in (back.target, back.special):
        await _switch(run, back.failed, back.target, Action.BOOT)
    await loader.make_default(back.special)


async def _set_profile(run: Run, back: _RollBackPlan) -> None:
    """Set the profile; where it cannot be changed, the services at least can be had back."""
    try:
        await run.ports.profile.set(back.target)
    except HostError:
        if back.action is Action.SWITCH:
            await _switch(run, back.failed, back.special, Action.TEST)
        raise


async def _make_room(run: Run, failed: StorePath) -> None:
    """Installing the boot loader writes every generation's entry: a full partition fails again.

    A fault here is no reason to leave the broken system running: the boot loader decides then.
    """
    ports = run.ports
    with suppress(HostError):
        boot = ports.host.free_space().boot
        if boot is None or boot >= run.policy.boot_reserve:
            return
        count = await ports.profile.remove_generations(failed)
        if count:
            ports.sink.emit(events.GENERATIONS_REMOVED, toplevel=failed, count=count)


async def _switch(run: Run, failed: StorePath, target: StorePath, action: Action) -> ActivationExit:
    """Activate `target`; if another activation is first, wait for it to end."""
    ended = await _switch_now(run, target, action)
    for _ in range(_ATTEMPTS - 1):
        if not is_busy(ended.returncode, ended.tail):
            break
        invocation = Invocation(run.ports, run.record)
        invocation.disown()
        run.record = invocation.row
        await make_way(run, run.record, failed)
        _require_not_left(run, failed, action)
        ended = await _switch_now(run, target, action)
    return ended


def _require_not_left(run: Run, failed: StorePath, action: Action) -> None:
    """Leave what the other activation has brought here to the next run, which keeps it."""
    ports = run.ports
    confirmed = ports.marks.read().confirmed
    if action is Action.BOOT or confirmed is None or not _is_left_already(run, failed, confirmed):
        return
    raise ActivationError(
        Kind.ACTIVATION_BUSY,
        f"another activation has brought {ports.host.systems().running} here in the meantime",
    )


async def _switch_now(run: Run, target: StorePath, action: Action) -> ActivationExit:
    invocation = Invocation(run.ports, run.record)
    async with invocation.noted(target):
        ended = await run.ports.systemd.activate(target, action)
    run.record = invocation.row
    return ended


def _has_booted(ports: HostPorts, toplevel: StorePath) -> bool:
    """Whether the host has booted a system, and still runs it."""
    systems = ports.host.systems()
    same = ports.host.equivalents(toplevel)
    return systems.booted in same and systems.running in same


def _is_back(ports: HostPorts, back: _RollBackPlan) -> bool:
    systems, action = ports.host.systems(), back.action
    same = {back.special} if back.special != back.target else ports.host.equivalents(back.target)
    return (systems.running in same or action is Action.BOOT) and (
        systems.profile == back.target or not action.moves_profile
    )


def _report_shortfall(ports: HostPorts, back: _RollBackPlan, ended: ActivationExit) -> None:
    target, default = back.target, ports.loader.default()
    is_wrong = back.action.moves_profile and default not in (None, target, back.special)
    if is_wrong or ended.returncode != 0:
        ports.sink.emit(
            events.ROLL_BACK_INCOMPLETE,
            target=target,
            boot_default=default if is_wrong else None,
            returncode=ended.returncode,
        )
