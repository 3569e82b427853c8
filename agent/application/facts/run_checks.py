"""Runs all checks at once, so that no single one can delay, break or fail another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.application.working_time import WorkingTime
from agent.domain.check import CheckResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.application.ports import EventSink, Prober
    from agent.domain.check import Check

_GRACE: Final = timedelta(milliseconds=500)
"""How long a probe may overstay its check's timeout: its own reason is better than ours."""


async def run_checks(
    prober: Prober,
    checks: Sequence[Check],
    deadline: timedelta,
    sink: EventSink,
    on_result: Callable[[CheckResult], None] | None = None,
) -> tuple[CheckResult, ...]:
    """Run `checks` concurrently and return their results in the same order.

    What a probe does cannot reach beyond its check: one that raises, or that overstays its
    timeout, is a failed check with a reason, and so is whatever has not finished when `deadline`
    (for all of them together) ends. Only a timeout that is over proves something of the target.
    A check's own timeout begins once there is room to run it, and all that the checks need is
    loaded; it counts while the loop is running. What `deadline` leaves no time for
    is inconclusive, and cut short: its reason says whether there ever was room for it.
    Each result is logged, and given to `on_result`, as soon as it is known.
    """
    results: dict[int, CheckResult] = {}
    begun: set[int] = set()

    def conclude(index: int, result: CheckResult) -> None:
        if index in results:  # a probe that even its cancellation did not end in time
            return
        results[index] = result
        _log(sink, result)
        if on_result is not None:
            on_result(result)

    async def ask(index: int, check: Check) -> None:
        conclude(index, await _ask(prober, check, lambda: begun.add(index)))

    _load(prober, checks)
    tasks = [asyncio.create_task(ask(index, check)) for index, check in enumerate(checks)]
    try:
        if tasks:
            await asyncio.wait(
                tasks, timeout=deadline.total_seconds(), return_when=asyncio.FIRST_EXCEPTION
            )
    finally:
        await _abandon([task for task in tasks if not task.done()])
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()  # a fault of `sink` or `on_result` is the caller's
    for index, check in enumerate(checks):
        if index not in results:
            conclude(index, _cut_short(check, deadline, has_begun=index in begun))
    return tuple(results[index] for index in range(len(checks)))


def _load(prober: Prober, checks: Sequence[Check]) -> None:
    """Let all that the checks need be loaded before the time of any begins."""
    for check in checks:
        with suppress(Exception):  # the check fails with it when its turn comes
            prober.room_for(check)


def _cut_short(check: Check, deadline: timedelta, *, has_begun: bool) -> CheckResult:
    what = "not finished" if has_begun else "not asked: there was no room for it"
    reason = f"{what} within the time of all checks ({format_seconds(deadline)})"
    return CheckResult(check, is_well=False, reason=reason, is_conclusive=False, is_cut_short=True)


async def _ask(prober: Prober, check: Check, on_begun: Callable[[], None]) -> CheckResult:
    """Probe once there is room, and make a failed check of whatever the probe does wrong."""
    try:
        async with prober.room_for(check):
            on_begun()
            async with WorkingTime(check.timeout.total_seconds(), _GRACE.total_seconds()):
                return await prober.probe(check)
    except TimeoutError:
        reason = f"no answer within {format_seconds(check.timeout)}"
        return CheckResult(check, is_well=False, reason=reason)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        reason = "could not be probed: the probe was cancelled"
    except Exception as error:  # noqa: BLE001 - whatever it is, the other checks go on
        reason = f"could not be probed: {type(error).__name__}: {error}"
    return CheckResult(check, is_well=False, reason=reason, is_conclusive=False)


async def _abandon(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what still runs, and wait a moment, but no longer, for it to clean up."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_GRACE.total_seconds())


def _log(sink: EventSink, result: CheckResult) -> None:
    sink.emit(
        events.CHECK_FINISHED,
        check=result.check.name,
        type=result.check.type,
        target=result.check.target,
        well=result.is_well,
        wanted=result.check.is_wanted,
        conclusive=result.is_conclusive,
        reason=result.reason,
        latency=None if result.latency is None else round(result.latency.total_seconds(), 6),
    )


def format_seconds(duration: timedelta) -> str:
    """Return a duration as in reasons: `30 s`, `0.5 s`."""
    return f"{round(duration.total_seconds(), 3):g} s"
