"""By hand: confirm, roll back, deny, allow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.recover import record_of, recover_all
from agent.application.confirm.await_confirmation import lock_if_free
from agent.application.confirm.await_turn import lock_in_turn, repeat_until_decided
from agent.application.confirm.confirm import confirm_pending, take_as_confirmed
from agent.application.confirm.denial import BY_HAND
from agent.application.confirm.roll_back import roll_back
from agent.application.report import Result, error_fields
from agent.application.run import begin, carry_out
from agent.application.watch.choose import newest_taken
from agent.domain.build import toplevel_of
from agent.domain.errors import ActivationError, HostError, JournalError, Kind, LockedError
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial, Fault
from agent.domain.policy import Action
from agent.domain.recovery import Step
from agent.domain.states import Change, Failed, RollingBack
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from datetime import timedelta

    from agent.application.ports import Ports
    from agent.application.report import Report
    from agent.application.run import Run, RunSettings
    from agent.domain.path_record import TakenBuild
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath

_ROWS_OF_CONFIRMED = 1000
"""Newest rows of the history among which what was confirmed before is looked for."""
_ROWS_OF_ROLL_BACKS = 50
"""Newest rows of the history among which a roll-back that was cut short is looked for."""
_LONGEST_NUMBER = 16


async def confirm(
    ports: Ports, policy: Policy, settings: RunSettings, *, force: bool = False
) -> Report:
    """Recover what was cut short, then judge the pending system; with `force` take it as it is."""

    async def body(run: Run[Ports]) -> Result:
        async with lock_in_turn(run) as step:
            return await _confirm(run, step, force=force)

    async def look() -> Report:
        return await carry_out(begin(ports, policy, settings), body)

    return await repeat_until_decided(ports, policy, look) if settings.is_patient else await look()


async def _confirm(run: Run[Ports], step: Step, *, force: bool) -> Result:
    _refuse_to_wait(step)
    pending = run.ports.marks.read().pending
    if step is not Step.CONFIRM or pending is None:
        return Result(Outcome.NOTHING_TO_DO)
    run.record = record_of(run, pending)
    if not force:
        return await confirm_pending(run, pending)
    result = await take_as_confirmed(run, pending)
    if result.outcome is Outcome.CONFIRMED:
        _forgive(run, pending)
    return result


def _forgive(run: Run[Ports], toplevel: StorePath) -> None:
    """Lift what was held against a system that an administrator takes as it is."""
    try:
        _lift(run.ports, run.settings, toplevel, "taken as confirmed")
    except JournalError as error:
        run.ports.sink.emit(events.RECORD_FAILED, **error_fields(error))


async def roll_back_by_hand(
    ports: Ports, policy: Policy, settings: RunSettings, reason: str
) -> Report:
    """Go back to the last confirmed system, and deny the present one.

    From a confirmed system it goes back to the one that was confirmed before it.
    """

    async def body(run: Run[Ports]) -> Result:
        with lock_if_free(run, waits=True):
            if await _is_done_by_recovery(run):
                return Result(Outcome.ROLLED_BACK, is_recorded_elsewhere=True)
            reasons = ((BY_HAND, f"{settings.by}: {reason}"),)
            failed = _to_leave(run)
            result = await roll_back(run, failed, Action.SWITCH, Fault.BROKEN, reasons)
            if result is None:
                raise ActivationError(
                    Kind.ACTIVATION_BUSY,
                    f"someone else has decided about {failed} in this moment",
                    hint="`agent status` shows what came of it",
                )
            return result

    return await carry_out(begin(ports, policy, settings), body)


async def _is_done_by_recovery(run: Run[Ports]) -> bool:
    """Recover, and return whether that was a roll-back: one more would leave a good system."""
    before = run.ports.marks.read()
    _refuse_to_wait(await recover_all(run))
    after, systems = run.ports.marks.read(), run.ports.host.systems()
    target = after.confirmed
    is_back = (
        target is not None
        and target == systems.profile
        and systems.running in run.ports.host.equivalents(target)
    )
    was_under_way = before.pending is not None or before.rolling_back is not None
    return after.pending is None and is_back and was_under_way


def _to_leave(run: Run[Ports]) -> StorePath:
    """Return the system to leave, with the marks and the row ready for it."""
    ports = run.ports
    marks, systems = ports.marks.read(), ports.host.systems()
    if marks.pending is not None:
        run.record = record_of(run, marks.pending)
        return marks.pending
    if marks.confirmed is None or systems.running is None:
        raise HostError(
            Kind.NO_CONFIRMED_SYSTEM, "no system is confirmed, so there is none to go back to"
        )
    failed = systems.running
    if systems.running in ports.host.equivalents(marks.confirmed):
        failed = systems.profile or systems.running
    if failed == marks.confirmed:
        ports.marks.set(Mark.CONFIRMED, _confirmed_before(run, failed))
    ports.marks.set(Mark.ROLLING_BACK, failed)
    run.record = replace(run.record, state=Failed(Change(failed, previous=systems.running)))
    return failed


def _confirmed_before(run: Run[Ports], confirmed: StorePath) -> StorePath:
    for row in run.ports.journal.runs(_ROWS_OF_CONFIRMED):
        if row.toplevel == confirmed and row.outcome == Outcome.CONFIRMED:
            previous = parse_store_path(row.previous, run.settings.store_dir)
            if previous not in (None, confirmed) and _may_return_to(run, previous):
                return previous
    raise HostError(
        Kind.NO_CONFIRMED_SYSTEM,
        f"{confirmed} is confirmed, and none that was confirmed before it is in the store",
        hint="a host goes back by a generation with `nixos-rebuild switch --rollback`, a home with"
        " `activate` of one that `home-manager generations` lists",
    )


def _may_return_to(run: Run[Ports], path: StorePath) -> bool:
    standing = run.ports.journal.standing_of(path, run.ports.clock.now())
    return standing.denial is None and run.ports.host.exists(path)


def _refuse_to_wait(step: Step) -> None:
    if step is Step.WAIT:
        raise ActivationError(
            Kind.ACTIVATION_BUSY,
            "an activation is running, or may be, or it is unknown which system runs",
            hint="try again once it has ended",
        )


async def deny(
    ports: Ports,
    settings: RunSettings,
    what: str,
    reason: str,
    length: timedelta | None = None,
) -> Denial:
    """Deny a store path, or a build's; until it is allowed, or for `length`.

    Raises:
        AgentError: it is neither, or the history cannot be written.
    """
    now = ports.clock.now()
    denial = Denial(
        toplevel=await _path_of(ports, settings, what),
        reason=reason,
        denied_at=now,
        by=settings.by,
        build_id=_build_id(what),
        until=None if length is None else now + length,
    )
    ports.journal.deny(denial)
    ports.idle_note.forget()
    ports.sink.emit(events.SYSTEM_DENIED, toplevel=denial.toplevel, reason=reason, by=settings.by)
    return denial


async def allow(ports: Ports, settings: RunSettings, what: str, reason: str) -> StorePath:
    """Lift what is held against a store path, or a build's.

    Raises:
        AgentError: nothing is held against it (NOTHING_HELD), or it is neither.
    """
    toplevel = await _path_of(ports, settings, what)
    if not _lift(ports, settings, toplevel, reason):
        raise HostError(Kind.NOTHING_HELD, f"nothing is held against {toplevel}")
    ports.idle_note.forget()
    return toplevel


async def allow_downgrade(
    ports: Ports, policy: Policy, settings: RunSettings, reason: str
) -> TakenBuild:
    """Let the builds of the host's job that were taken before count no more; return the newest.

    That can also be one that someone else has brought here. The next build that is taken is the new
    measure, whatever its number.

    Raises:
        AgentError: none was taken (NOTHING_HELD), or the history cannot be written.
    """
    job = policy.job
    taken = newest_taken(ports, job, ports.good_builds.read(job))
    ports.journal.forget_taken(job, reason, settings.by, ports.clock.now())
    ports.good_builds.keep(job, ())
    if taken is None:
        raise HostError(
            Kind.NOTHING_HELD, f"no build of {job} counts as taken: none is a downgrade"
        )
    ports.idle_note.forget()
    ports.sink.emit(
        events.DOWNGRADE_ALLOWED, build_id=taken.build_id, reason=reason, by=settings.by
    )
    return taken


def _lift(ports: Ports, settings: RunSettings, toplevel: StorePath, reason: str) -> bool:
    if not ports.journal.allow(toplevel, reason, settings.by, ports.clock.now()):
        return False
    ports.sink.emit(events.DENIAL_LIFTED, toplevel=toplevel, reason=reason, by=settings.by)
    _excuse(ports, toplevel)
    return True


def _excuse(ports: Ports, toplevel: StorePath) -> None:
    """Let a roll-back that was cut short deny the system no more, once it is finished.

    An agent that is at work just now decides by itself, as where there is no room for a lock.
    """
    with suppress(LockedError, HostError), ports.lock.hold():
        for row in ports.journal.runs(_ROWS_OF_ROLL_BACKS):
            if row.toplevel == toplevel and isinstance(row.state, RollingBack):
                ports.journal.record(replace(row, state=replace(row.state, fault=None)))


async def _path_of(ports: Ports, settings: RunSettings, what: str) -> StorePath:
    build_id = _build_id(what)
    if build_id is not None:
        known = ports.journal.toplevel_of(build_id)
        return known or toplevel_of(await ports.hydra.build(build_id), settings.store_dir)
    path = parse_store_path(what, settings.store_dir)
    if path is None:
        raise HostError(
            Kind.NOTHING_HELD,
            f"{what[:200]!r} is no path of {settings.store_dir} and no number of a build",
        )
    return path


def _build_id(what: str) -> int | None:
    return int(what) if what.isdecimal() and len(what) < _LONGEST_NUMBER else None
