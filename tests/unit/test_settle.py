from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from agent.application import events
from agent.application.act.recover import recover_all
from agent.application.confirm import settle
from agent.application.confirm.settle import AFTER_CONFIRMATION, AFTER_ROLL_BACK, SettlingStep
from agent.application.manual import verdicts
from agent.application.report import Result
from agent.application.run import RunSettings, begin, carry_out
from agent.domain.errors import HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.policy import Action
from agent.domain.recovery import Step
from agent.domain.run_record import altered
from agent.domain.unit_names import GARBAGE_COLLECTION_UNIT
from fakes.pending import FULL, NEW, STRANGE, pending_world, row_of_upgrade
from fakes.samples import OLD
from fakes.world import STORE, WATCHFUL, PowerCut

TIDY = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, collects_garbage=True))


def after_switch():
    return pending_world()


def after_test():
    return pending_world(Action.TEST)


def after_try_boot():
    """The new system was booted once: the loader's default is still the old one."""
    world = pending_world(Action.BOOT)
    world.host.boot()
    world.host.loader.installed = OLD
    world.marks.set(Mark.TESTED, STRANGE)
    return world


def broken_after(make):
    world = make()
    world.service_breaks()
    return world


def broken_after_switch():
    return broken_after(after_switch)


def broken_after_test():
    return broken_after(after_test)


def after_reboot_back():
    """The host has been rebooted into the confirmed system."""
    world = pending_world()
    world.marks.move(Mark.PENDING, NEW, Mark.REBOOTING_BACK)
    world.host.activate(Action.SWITCH, OLD)
    world.host.boot()
    row = row_of_upgrade(world)
    world.journal.record(
        altered(row, outcome="rolling-back", fault="broken", reasons=(("check-failed", "no"),))
    )
    return world


by_checks = verdicts.confirm
by_force = partial(verdicts.confirm, force=True)
by_hand = partial(verdicts.roll_back_by_hand, reason="eats data")

CASES = [
    pytest.param("AFTER_CONFIRMATION", after_switch, by_checks, id="switch, confirmed"),
    pytest.param("AFTER_CONFIRMATION", after_test, by_checks, id="test, confirmed"),
    pytest.param("AFTER_CONFIRMATION", after_try_boot, by_checks, id="booted once, confirmed"),
    pytest.param("AFTER_CONFIRMATION", after_switch, by_force, id="confirmed by force"),
    pytest.param("AFTER_ROLL_BACK", broken_after_switch, by_checks, id="switch, broken"),
    pytest.param("AFTER_ROLL_BACK", broken_after_test, by_checks, id="test, broken"),
    pytest.param("AFTER_ROLL_BACK", after_switch, by_hand, id="rolled back by hand"),
    pytest.param("AFTER_ROLL_BACK", after_reboot_back, by_checks, id="rebooted back"),
]
EVERY_CASE = pytest.mark.parametrize(("name", "make", "use_case"), CASES)


async def recover(ports, policy, settings):
    async def body(run):
        assert await recover_all(run) is Step.NOTHING
        return Result(Outcome.NOTHING_TO_DO)

    return await carry_out(begin(ports, policy, settings), body)


def state_of(world):
    """Return all that a verdict changes."""
    row = row_of_upgrade(world)
    return {
        "links": world.links(),
        "marks": world.marks.read(),
        "default": world.host.loader.installed,
        "is blessed": world.host.loader.blessed > 0,
        "timer": world.systemd.timer,
        "note": world.idle_note.build_id,
        "started": set(world.systemd.started_later),
        "row": (row.outcome, row.reasons, row.fault, row.target, row.finished_at is not None),
        "denied": [(denial.toplevel, denial.by) for denial in world.journal.denied],
    }


def watch(monkeypatch, name, change=lambda steps: steps):
    """Return the names of the steps, as they are taken; `change` puts others among them."""
    taken = []

    def noted(step):
        async def take(run, system):
            taken.append(step.name)
            await step.take(run, system)

        return replace(step, take=take)

    steps = tuple(noted(step) for step in getattr(settle, name))
    monkeypatch.setattr(settle, name, change(steps))
    return taken


def raising(step, fault):
    async def take(_run, _system):
        raise fault

    return replace(step, take=take)


@EVERY_CASE
def test_a_list_that_is_cut_short_after_a_step_is_taken_again_to_the_same_end(
    monkeypatch, name, make, use_case
):
    whole = make()
    whole.idle_note.build_id = 7
    whole.carry_out(use_case, TIDY)
    end = state_of(whole)
    names = [step.name for step in getattr(settle, name)]
    for count in range(len(names)):
        world = make()
        world.idle_note.build_id = 7
        with monkeypatch.context() as patch:
            taken = watch(
                patch,
                name,
                lambda steps, count=count: (
                    *(*steps[:count], raising(steps[0], PowerCut()), *steps[count:]),
                ),
            )
            with pytest.raises(PowerCut):
                world.carry_out(use_case, TIDY)
        with monkeypatch.context() as patch:
            again = watch(patch, name)
            world.carry_out(recover, TIDY)
            assert taken == names[:count]
            assert again == names
            assert state_of(world) == end, count
            again.clear()
            world.carry_out(recover, TIDY)
            assert again == []


@EVERY_CASE
@pytest.mark.parametrize("fault", [HostError(Kind.MARKS_UNUSABLE, "no"), FULL, ValueError("a bug")])
def test_no_step_that_fails_changes_the_verdict(monkeypatch, name, make, use_case, fault):
    whole = make()
    decided = whole.carry_out(use_case, TIDY)
    end = state_of(whole)
    for count, step in enumerate(getattr(settle, name)):
        world = make()
        with monkeypatch.context() as patch:
            taken = watch(
                patch,
                name,
                lambda steps, count=count: (
                    *(*steps[:count], raising(steps[count], fault), *steps[count + 1 :]),
                ),
            )
            report = world.carry_out(use_case, TIDY)
        assert (report.outcome, report.exit_code) == (decided.outcome, decided.exit_code)
        is_closed = not (step.is_needed or step.closes)
        expected = [
            other.name
            for place, other in enumerate(getattr(settle, name))
            if place != count and (is_closed or not other.closes or place < count)
        ]
        assert taken[: len(expected)] == expected  # recovery itself may take them once more
        if not is_closed:
            world.carry_out(recover, TIDY)
            assert state_of(world) == end, step.name


def test_a_failed_step_is_logged_with_its_name(monkeypatch):
    world = after_switch()
    watch(
        monkeypatch,
        "AFTER_CONFIRMATION",
        lambda steps: (raising(steps[0], HostError(Kind.MARKS_UNUSABLE, "no")), *steps[1:]),
    )
    world.carry_out(by_checks, TIDY)
    told = world.told.fields_of(events.SETTLING_FAILED)
    assert (told["step"], told["toplevel"], told["error.kind"]) == ("log", NEW, "marks-unusable")


def test_a_bug_in_a_step_is_logged_with_its_traceback(monkeypatch):
    world = after_switch()
    watch(
        monkeypatch,
        "AFTER_CONFIRMATION",
        lambda steps: (raising(steps[0], ValueError("a bug")), *steps[1:]),
    )
    world.carry_out(by_checks, TIDY)
    assert "ValueError: a bug" in world.told.fields_of(events.BUG_FOUND)["exception"]
    assert world.told.fields_of(events.SETTLING_FAILED)["error.kind"] == Kind.BUG


def test_what_is_needed_and_has_failed_is_taken_again_by_the_next_run(monkeypatch):
    """As the release of a slot would be: the row stays open until it is done."""
    world, done = after_switch(), []

    async def release(_run, _system):
        done.append("tried")
        if len(done) == 1:
            raise HostError(Kind.MARKS_UNUSABLE, "no answer")

    watch(
        monkeypatch,
        "AFTER_CONFIRMATION",
        lambda steps: (SettlingStep("release", release, is_needed=True), *steps),
    )
    report = world.carry_out(by_checks, TIDY)
    assert report.outcome is Outcome.CONFIRMED
    assert world.journal.under_way() is not None
    world.carry_out(recover, TIDY)
    assert (done, world.journal.under_way()) == (["tried", "tried"], None)


def test_the_steps_of_the_two_lists():
    assert [step.name for step in AFTER_CONFIRMATION] == [
        *("log", "end-test", "move-default", "bless-boot", "disarm", "forget-idle-note"),
        *("collect-garbage", "record"),
    ]
    assert [step.name for step in AFTER_ROLL_BACK] == [
        *("disarm", "deny", "forget-idle-note", "log", "record", "remove-mark"),
    ]


def test_a_confirmation_after_a_switch_collects_garbage_and_forgets_the_idle_note():
    world = after_switch()
    world.idle_note.build_id = 7
    world.carry_out(by_checks, TIDY)
    assert world.systemd.started_later == [GARBAGE_COLLECTION_UNIT]
    assert world.idle_note.build_id is None


def test_the_boot_of_an_older_system_is_not_blessed_for_the_confirmed_one():
    """The power has failed between the verdict and the move of the loader's default."""
    world = after_switch()
    world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    world.host.loader.installed = OLD
    world.host.boot()
    world.carry_out(recover, TIDY)
    assert (world.host.loader.blessed, world.host.loader.installed) == (0, NEW)
    assert world.marks.read() == Marks(confirmed=NEW, staged=NEW)


def cut_short_once_denied():
    """The host is back, and the broken system denied; that is not in the history yet."""
    world = after_reboot_back()
    world.marks.move(Mark.REBOOTING_BACK, NEW, Mark.ROLLED_BACK)
    world.journal.deny(Denial(NEW, "no", world.clock.now(), "agent"))
    return world


async def allow(world):
    await verdicts.allow(world.ports, RunSettings("run-2", STORE, by="eve"), NEW, "fixed")


def test_what_a_person_has_allowed_meanwhile_is_not_denied_again_when_a_roll_back_is_finished():
    world = cut_short_once_denied()
    asyncio.run(allow(world))
    world.carry_out(recover)
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, world.journal.denied) == (Outcome.ROLLED_BACK, None, [])
    assert world.marks.read().rolled_back is None


def test_a_system_is_allowed_while_another_agent_is_at_work():
    world = cut_short_once_denied()
    with world.lock.hold():
        asyncio.run(allow(world))
    assert world.journal.denied == []
    assert row_of_upgrade(world).fault == "broken"


@EVERY_CASE
def test_while_nothing_can_be_written_runs_repeat_nothing_that_is_seen(name, make, use_case):
    """The runs decide by the marks, and have nobody who remembers what was done."""
    world = make()
    world.journal.fault = FULL
    world.carry_out(use_case, TIDY)
    is_confirmed = name == "AFTER_CONFIRMATION"
    once = (events.SYSTEM_CONFIRMED if is_confirmed else events.ROLL_BACK_FINISHED).name
    started = list(world.systemd.started_later)
    for _ in range(2):
        assert world.told.names().count(once) <= 1
        assert world.systemd.started_later == started
        world.carry_out(recover, TIDY)
    world.journal.fault = None
    world.carry_out(recover, TIDY)
    assert (world.journal.under_way(), world.marks.read().rolled_back) == (None, None)
