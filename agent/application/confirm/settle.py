"""What follows a verdict: the one list for *confirmed*, and the one for *rolled back*.

The verdict is the mark that was renamed; nothing here can undo it. A step that fails is logged, and
the next one is taken. A list is closed by its last steps, which are taken only once all that is
needed has succeeded; until then recovery takes the whole list again, after a kill as well as after
a failure. So every step may find that its effect is there already, and must be none the worse. What
would have an effect each time waits until the history can be written: a state directory that cannot
is no reason to do it in every run.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from agent.application import events
from agent.application.act.try_boot import make_confirmed_default
from agent.application.confirm.denial import deny_if_broken
from agent.application.report import error_fields
from agent.domain.errors import AgentError, JournalError, Kind
from agent.domain.marks import Mark
from agent.domain.states import Change, Confirmed, RolledBack, RollingBack, change_of
from agent.domain.unit_names import GARBAGE_COLLECTION_UNIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.application.run import Run
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class ConfirmedSystem:
    """A system that is confirmed by now, in place of the one `before`."""

    toplevel: StorePath
    before: StorePath | None
    is_tested: bool
    """By `test`: it runs, and the profile is another one."""


@dataclass(frozen=True, slots=True)
class FailedSystem:
    """A system that was rolled back from, to `target`; None where that is not known any more."""

    toplevel: StorePath
    target: StorePath | None


_System = TypeVar("_System", ConfirmedSystem, FailedSystem)


@dataclass(frozen=True, slots=True)
class SettlingStep(Generic[_System]):
    """One thing that follows a verdict. `run.record` is the row of the upgrade."""

    name: str
    take: Callable[[Run, _System], Awaitable[None]]
    is_needed: bool = False
    """Unless it succeeds the list is not closed, and the next run takes it again."""
    closes: bool = False
    """It says that all is done."""
    has_effect_each_time: bool = False
    """It is not taken again while nobody could remember that it was."""


async def settle_confirmed(run: Run, system: ConfirmedSystem, *, is_again: bool = False) -> bool:
    """Do what follows a confirmation; False if the next run has to do it again."""
    return await _settle(run, system, AFTER_CONFIRMATION, is_again=is_again)


async def settle_rolled_back(run: Run, system: FailedSystem, *, is_again: bool = False) -> bool:
    """Do what follows a roll-back; False if the next run has to do it again."""
    return await _settle(run, system, AFTER_ROLL_BACK, is_again=is_again)


async def _settle(
    run: Run, system: _System, steps: tuple[SettlingStep[_System], ...], *, is_again: bool
) -> bool:
    is_complete, is_quiet = True, is_again and not _can_be_written(run)
    for step in steps:
        if step.closes and not is_complete:
            break
        if step.has_effect_each_time and is_quiet:
            continue
        has_succeeded = await _has_succeeded(run, system, step)
        if step.is_needed or step.closes:
            is_complete = is_complete and has_succeeded
    return is_complete


def _can_be_written(run: Run) -> bool:
    try:
        run.ports.journal.record(run.record)
    except JournalError:
        return False  # the step that closes the list logs it
    return True


async def _has_succeeded(run: Run, system: _System, step: SettlingStep[_System]) -> bool:
    sink = run.ports.sink
    try:
        await step.take(run, system)
    except JournalError as error:
        sink.emit(events.RECORD_FAILED, **error_fields(error))
        return False
    except AgentError as error:
        sink.emit(
            events.SETTLING_FAILED, step=step.name, toplevel=system.toplevel, **error_fields(error)
        )
        return False
    except Exception as error:  # noqa: BLE001 - not even a bug undoes a verdict
        sink.emit(events.BUG_FOUND, exception=traceback.format_exc())
        bug = AgentError(Kind.BUG, f"{type(error).__name__}: {error}")
        sink.emit(
            events.SETTLING_FAILED, step=step.name, toplevel=system.toplevel, **error_fields(bug)
        )
        return False
    return True


# After a confirmation


async def _log_confirmed(run: Run, system: ConfirmedSystem) -> None:
    run.ports.sink.emit(events.SYSTEM_CONFIRMED, toplevel=system.toplevel)


async def _end_test(run: Run, system: ConfirmedSystem) -> None:
    """Remove the mark of an earlier `test`: another system runs now."""
    if not system.is_tested:
        run.ports.marks.remove(Mark.TESTED)


async def _move_default(run: Run, system: ConfirmedSystem) -> None:
    """Let the loader start the confirmed system.

    Where the power has failed before that, the host has come up with what still was the default:
    the confirmed system waits for a reboot once more. If the default has moved, the old one was
    picked by hand.
    """
    if system.is_tested:
        return
    ports, toplevel, before = run.ports, system.toplevel, system.before
    systems, default = ports.host.systems(), ports.loader.default()
    await make_confirmed_default(ports, toplevel, before)
    has_booted_old = (systems.profile, systems.running, systems.booted) == (
        *(toplevel, before, before),
    )
    if has_booted_old and toplevel != default == before:
        ports.marks.set(Mark.STAGED, toplevel)


async def _bless_boot(run: Run, system: ConfirmedSystem) -> None:
    ports = run.ports
    if not system.is_tested and ports.host.systems().running in ports.host.equivalents(
        system.toplevel
    ):
        await ports.loader.bless()


async def _disarm(run: Run, _system: ConfirmedSystem | FailedSystem) -> None:
    await run.ports.systemd.disarm()


async def _forget_idle_note(run: Run, _system: ConfirmedSystem | FailedSystem) -> None:
    run.ports.idle_note.forget()


async def _collect_garbage(run: Run, system: ConfirmedSystem) -> None:
    if run.policy.confirm.collects_garbage and not system.is_tested:
        await run.ports.systemd.start_later(GARBAGE_COLLECTION_UNIT)


async def _record_confirmed(run: Run, system: ConfirmedSystem) -> None:
    change = change_of(run.record.state) or Change(system.toplevel)
    run.commit(Confirmed(change), finished_at=run.ports.clock.now(), reasons=())


AFTER_CONFIRMATION: Final[tuple[SettlingStep[ConfirmedSystem], ...]] = (
    SettlingStep("log", _log_confirmed, has_effect_each_time=True),
    SettlingStep("end-test", _end_test),
    SettlingStep("move-default", _move_default),
    SettlingStep("bless-boot", _bless_boot),
    SettlingStep("disarm", _disarm),
    SettlingStep("forget-idle-note", _forget_idle_note),
    SettlingStep("collect-garbage", _collect_garbage, has_effect_each_time=True),
    SettlingStep("record", _record_confirmed, closes=True),
)


# After a roll-back


async def _deny(run: Run, system: FailedSystem) -> None:
    if not isinstance(run.record.state, RolledBack):  # an administrator may have allowed it since
        deny_if_broken(run, system.toplevel)


async def _log_rolled_back(run: Run, system: FailedSystem) -> None:
    run.ports.sink.emit(events.ROLL_BACK_FINISHED, toplevel=system.toplevel, target=system.target)


async def _record_rolled_back(run: Run, _system: FailedSystem) -> None:
    state = run.record.state
    if isinstance(state, RollingBack):
        ended = RolledBack(state.change, state.target, state.fault)
        run.commit(ended, finished_at=run.ports.clock.now())


async def _remove_mark(run: Run, _system: FailedSystem) -> None:
    run.ports.marks.remove(Mark.ROLLED_BACK)


AFTER_ROLL_BACK: Final[tuple[SettlingStep[FailedSystem], ...]] = (
    SettlingStep("disarm", _disarm),
    SettlingStep("deny", _deny, is_needed=True),
    SettlingStep("forget-idle-note", _forget_idle_note),
    SettlingStep("log", _log_rolled_back, has_effect_each_time=True),
    SettlingStep("record", _record_rolled_back, closes=True),
    SettlingStep("remove-mark", _remove_mark, closes=True),
)
