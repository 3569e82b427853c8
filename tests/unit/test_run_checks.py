from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import ClassVar

import pytest

from agent.application import events
from agent.application.facts.run_checks import format_seconds, run_checks
from agent.domain.check import CheckResult, HttpCheck, IcmpCheck
from fakes.events import RememberedEvents
from fakes.prober import FakeProber, RogueProber, SkippingLoop

LONG = timedelta(seconds=30)
SOON = timedelta(milliseconds=20)


def ping(name: str, timeout: timedelta = LONG) -> IcmpCheck:
    return IcmpCheck(name, f"{name}.example", timeout)


def run(prober, checks, deadline=LONG, on_result=None, sink=None):
    return asyncio.run(run_checks(prober, checks, deadline, sink or RememberedEvents(), on_result))


async def never():
    await asyncio.Event().wait()
    raise AssertionError


async def breaks():
    raise RuntimeError("a probe with a fault")


async def cancels_itself():
    raise asyncio.CancelledError


def test_no_checks_have_no_results():
    assert run(FakeProber(), []) == ()


def test_results_come_in_the_order_of_the_checks_whoever_ends_first():
    async def play():
        first_is_done = asyncio.Event()

        async def waits():
            await first_is_done.wait()
            return CheckResult(slow, is_well=True)

        async def hurries():
            first_is_done.set()
            return CheckResult(quick, is_well=True)

        slow, quick = ping("slow"), ping("quick")
        prober = RogueProber({"slow": waits, "quick": hurries})
        ended = []
        results = await run_checks(
            prober, [slow, quick], LONG, RememberedEvents(), lambda r: ended.append(r.check.name)
        )
        return [result.check.name for result in results], ended

    assert asyncio.run(play()) == (["slow", "quick"], ["quick", "slow"])


def test_every_result_is_logged():
    sink = RememberedEvents()
    check = HttpCheck("wiki", "https://wiki.example/", LONG, is_wanted=True)
    run(FakeProber({"https://wiki.example/": "status 503, expected 200-399"}), [check], sink=sink)
    assert sink.fields_of(events.CHECK_FINISHED) == {
        "check": "wiki",
        "type": "http",
        "target": "https://wiki.example/",
        "well": False,
        "wanted": True,
        "conclusive": True,
        "reason": "status 503, expected 200-399",
        "latency": None,
    }


def test_a_well_check_is_logged_with_its_latency_in_seconds():
    sink = RememberedEvents()
    run(FakeProber(), [ping("gateway")], sink=sink)
    assert sink.fields_of(events.CHECK_FINISHED)["latency"] == 0.001


@pytest.mark.parametrize(
    ("act", "reason", "is_conclusive"),
    [
        (breaks, "could not be probed: RuntimeError: a probe with a fault", False),
        (cancels_itself, "could not be probed: the probe was cancelled", False),
        (never, "no answer within 0.02 s", True),
    ],
)
def test_a_bad_probe_fails_its_own_check_and_no_other(act, reason, is_conclusive):
    checks = [ping("before"), ping("bad", SOON), ping("after")]
    before, bad, after = run(RogueProber({"bad": act}), checks)
    assert (before.is_well, after.is_well) == (True, True)
    assert bad == CheckResult(checks[1], is_well=False, reason=reason, is_conclusive=is_conclusive)


def test_what_has_not_finished_at_the_deadline_has_failed():
    sink = RememberedEvents()
    checks = [ping("dead"), ping("alive")]
    dead, alive = run(RogueProber({"dead": never}), checks, SOON, sink=sink)
    assert alive.is_well
    assert dead.reason == "not finished within the time of all checks (0.02 s)"
    assert not dead.is_conclusive
    assert sink.names() == ["check.finished"] * 2


def test_a_probe_that_ignores_its_cancellation_does_not_hold_up_the_others():
    async def play():
        released = asyncio.Event()

        async def stubborn():
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            return CheckResult(check, is_well=True)

        check = ping("stubborn")
        sink = RememberedEvents()
        results = await run_checks(RogueProber({"stubborn": stubborn}), [check], SOON, sink)
        released.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        return results, sink.names()

    (result,), told = asyncio.run(play())
    assert result.reason == "not finished within the time of all checks (0.02 s)"
    assert told == ["check.finished"]


def test_what_there_was_no_room_for_says_so_by_name():
    checks = [ping(name) for name in ("first", "second", "third")]
    results = run(RogueProber({"first": never}, room=1), checks, SOON)
    assert [(told.check.name, told.is_conclusive, told.is_cut_short) for told in results] == [
        ("first", False, True),
        ("second", False, True),
        ("third", False, True),
    ]
    assert results[0].reason == "not finished within the time of all checks (0.02 s)"
    assert {told.reason for told in results[1:]} == {
        "not asked: there was no room for it within the time of all checks (0.02 s)"
    }


def test_waiting_for_room_takes_nothing_from_a_checks_own_time():
    async def play():
        begun, free = asyncio.Event(), asyncio.Event()

        async def occupies():
            begun.set()
            await free.wait()
            return CheckResult(first, is_well=True)

        first, second = ping("first", timedelta(days=1)), ping("second")
        prober = RogueProber({"first": occupies}, room=1)
        checks = run_checks(prober, [first, second], timedelta(days=1), RememberedEvents())
        running = asyncio.create_task(checks)
        await begun.wait()
        asyncio.get_running_loop().skipped = 3600
        for _ in range(5):  # whatever is due has its turn
            await asyncio.sleep(0)
        free.set()
        return await running

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        assert [result.is_well for result in runner.run(play())] == [True, True]


def test_a_probe_is_not_cut_off_because_the_loop_was_held_up():
    async def play():
        async def is_held_up():
            asyncio.get_running_loop().skipped += 3600
            await asyncio.sleep(0.001)
            return CheckResult(check, is_well=True)

        check = ping("held up", SOON)
        return await run_checks(
            RogueProber({"held up": is_held_up}), [check], timedelta(days=1), RememberedEvents()
        )

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        assert [result.reason for result in runner.run(play())] == [""]


def test_room_is_asked_for_all_before_any_begins():
    class Noting(FakeProber):
        told: ClassVar[list[str]] = []

        def room_for(self, check):
            self.told.append(f"room for {check.name}")
            return super().room_for(check)

        async def probe(self, check):
            self.told.append(f"probe {check.name}")
            return await super().probe(check)

    run(Noting(), [ping("a"), ping("b")])
    assert Noting.told[:2] == ["room for a", "room for b"]


def test_a_check_that_cannot_be_loaded_fails_alone():
    class Without(FakeProber):
        def room_for(self, check):
            if check.name == "b":
                raise ImportError("no library for it")
            return super().room_for(check)

    alive, broken = run(Without(), [ping("a"), ping("b")])
    assert alive.is_well
    assert broken.reason == "could not be probed: ImportError: no library for it"
    assert not broken.is_conclusive


def test_a_caller_that_is_cancelled_leaves_no_probe_behind():
    async def play():
        begun = asyncio.Event()
        ended = []

        async def probes():
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("dead")

        prober = RogueProber({"dead": probes})
        run = asyncio.create_task(run_checks(prober, [ping("dead")], LONG, RememberedEvents()))
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return ended, asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(play()) == (["dead"], set())


def test_a_fault_of_the_listener_is_the_callers_and_ends_the_run():
    def broken_pipe(_):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(RogueProber({"dead": never}), [ping("alive"), ping("dead")], on_result=broken_pipe)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(seconds=30), "30 s"),
        (timedelta(seconds=0.5), "0.5 s"),
        (timedelta(seconds=1.34567), "1.346 s"),
        (timedelta(minutes=5), "300 s"),
    ],
)
def test_durations_are_told_in_seconds(duration, text):
    assert format_seconds(duration) == text
