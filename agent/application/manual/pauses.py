"""By hand: pause, resume, and the reboot that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.reboot import Waiting, cancel_announced, reboot
from agent.application.act.recover import recover_all, require_readable
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.report import Result
from agent.application.run import begin, carry_out
from agent.application.watch.world import WorldBeforeReboot
from agent.domain.errors import HostError, Kind
from agent.domain.gates import denied
from agent.domain.outcome import Outcome
from agent.domain.pause import Pause
from agent.domain.recovery import Step
from agent.domain.systems import reboot_need, reboot_reason

if TYPE_CHECKING:
    from datetime import timedelta

    from agent.application.ports import Ports
    from agent.application.report import Report
    from agent.application.run import Run, RunSettings
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


async def pause(
    ports: Ports, settings: RunSettings, reason: str, length: timedelta | None
) -> Pause:
    """Keep the agent from upgrading and rebooting; an announced reboot is taken back.

    Raises:
        AgentError: the history cannot be written.
    """
    now = ports.clock.now()
    begun = Pause(reason, settings.by, now, None if length is None else now + length)
    ports.journal.set_pause(begun)
    ports.idle_note.forget()
    ports.sink.emit(
        events.PAUSE_BEGUN,
        reason=reason,
        by=begun.by,
        until=begun.until and begun.until.isoformat(),
    )
    waiting = ports.host.systems().profile
    if waiting is not None:
        await cancel_announced(ports, waiting, f"paused by {begun.by}: {reason}")
    return begun


async def resume(ports: Ports, settings: RunSettings) -> None:
    """End the pause; the next run goes on.

    Raises:
        HostError: there is none (NOTHING_HELD).
    """
    if ports.journal.pause(ports.clock.now()) is None:
        raise HostError(Kind.NOTHING_HELD, "upgrades are not paused")
    ports.journal.set_pause(None)
    ports.idle_note.forget()
    ports.sink.emit(events.PAUSE_ENDED, by=settings.by)


async def reboot_by_hand(ports: Ports, policy: Policy, settings: RunSettings) -> Report:
    """Do the reboot that waits, if it is allowed now; the report says what is in its way."""

    async def body(run: Run[Ports]) -> Result:
        with ports.lock.hold():
            step = await recover_all(run)
            if step is not Step.NOTHING:
                reason = f"first the upgrade under way: {step}"
                return Result(Outcome.HELD, (("recovery", reason),))
            require_readable(ports.marks.read())
            return await _reboot(run)

    return await carry_out(begin(ports, policy, settings), body)


async def _reboot(run: Run[Ports]) -> Result:
    ports = run.ports
    systems = ports.host.systems()
    run.summary.add(systems=systems)
    profile = systems.profile
    reason = "" if profile is None else _reason(ports, systems, profile)
    if profile is None or not reason or systems.is_container:
        return Result(Outcome.NOTHING_TO_DO)
    denial = ports.journal.standing_of(profile, ports.clock.now()).denial
    if denial is not None:
        held = (denied.GATE.name, denied.why_denied(denial))
        return Result(Outcome.HELD, (("reboot", reason), held))
    world = WorldBeforeReboot(run, profile, None)
    answer = await reboot(run, profile, reason, None, systems, world=world)
    is_held = isinstance(answer, Waiting)
    return Result(Outcome.HELD if is_held else Outcome.REBOOTING, answer.reasons)


def _reason(ports: Ports, systems: Systems, profile: StorePath) -> str:
    """Return why the profile's system waits for a reboot; empty if it does not."""
    host = ports.host
    booted = host.boot_artifacts(systems.booted) if systems.booted else None
    wanted = host.counterpart(profile)
    return reboot_reason(
        reboot_need(booted, host.boot_artifacts(wanted)),
        find_inhibitors(host, wanted),
        is_running=systems.running in host.equivalents(profile),
    )
