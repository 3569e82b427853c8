"""The confirm unit waits inside its process while others are at work, and a run that awaits its verdict
knows that it does."""

from __future__ import annotations

from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.await_confirmation import await_decision
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.application.ports import WaitReason
from agent.domain.errors import ExitCode, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.pending import NEW, STRANGE, carry_out_with, pending_world
from fakes.samples import OLD
from fakes.systemd import AT_WORK
from fakes.world import WATCHFUL

LIMIT = (
    WATCHFUL.confirm.settle + WATCHFUL.confirm.deadline + WATCHFUL.activate_deadline
).total_seconds() + 30


@pytest.fixture
def world():
    return pending_world()


def confirm(world, **asked):
    return world.carry_out(verdicts.confirm, is_patient=True, **asked)


def when_asleep(world, times, act):
    """Let something happen after `times` sleeps; until then, see who waits."""
    seen = []

    def on_sleep():
        seen.append(tuple(world.lock.waits))
        if len(seen) == times:
            act()

    world.clock.on_sleep = on_sleep
    return seen


def is_free(world):
    world.lock.fault = None


# The unit


def test_the_unit_waits_for_the_lock_and_its_settle_time_begins_then(world):
    world.lock.is_taken_by_another()
    seen = when_asleep(world, 5, partial(is_free, world))
    report = confirm(world)
    assert (report.outcome, report.exit_code) == (Outcome.CONFIRMED, ExitCode.DONE)
    assert seen == [(WaitReason.TURN,)] * 5 + [()]
    assert world.clock.seconds == 5 + WATCHFUL.confirm.settle.total_seconds()
    assert world.told.names().count(events.CONFIRMATION_WAITS.name) == 1
    assert world.told.fields_of(events.CONFIRMATION_WAITS)["error.kind"] is Kind.LOCKED


def test_the_unit_waits_for_the_end_of_an_activation_and_judges_what_runs_then(world):
    def person_is_done():
        world.systemd.is_running = False
        world.somebody_switches(STRANGE)

    world.systemd.is_running = True
    seen = when_asleep(world, 3, person_is_done)
    assert confirm(world).outcome is Outcome.NOTHING_TO_DO
    assert seen == [(WaitReason.TURN,)] * 3
    assert world.systemd.stops == 0
    assert (world.host.running, world.marks.read()) == (STRANGE, Marks(confirmed=OLD))


def test_the_unit_looks_again_inside_its_process_at_what_it_could_not_judge(world):
    world.hydra_is_gone()
    waits = []

    def on_sleep():
        waits.append(tuple(world.lock.waits))
        if waits.count((WaitReason.LATER,)) == 3:
            world.all_is_well()

    world.clock.on_sleep = on_sleep
    report = world.carry_out(verdicts.confirm, is_patient=True, summaries=4)
    assert report.outcome is Outcome.CONFIRMED
    assert waits.count((WaitReason.LATER,)) == 3
    assert not world.lock.waits


def test_by_hand_the_answer_comes_at_once(world):
    world.lock.is_taken_by_another()
    report = world.carry_out(verdicts.confirm)
    assert (report.exit_code, report.error.kind) == (ExitCode.HELD, Kind.LOCKED)
    world.lock.fault = None
    world.systemd.is_running = True
    assert world.carry_out(verdicts.confirm).error.kind is Kind.ACTIVATION_BUSY
    assert world.clock.seconds == 0


# Those who await the verdict


def unit_waits(world, wait, then=None):
    """Let the confirm unit be at work, and wait; `then` is what it does when it is started afresh."""

    async def program():
        world.lock.waits[:] = [wait] if then is None else []
        return AT_WORK if then is None else await then()

    world.systemd.units[CONFIRM_UNIT] = AT_WORK
    world.lock.waits = [wait]
    world.systemd.programs[CONFIRM_UNIT] = program


def see(world):
    return carry_out_with(
        world, lambda run: await_decision(run, NEW, starts=2), about_the_upgrade=False
    )


def test_the_time_of_a_unit_that_waits_begins_when_it_has_its_turn(world):
    unit_waits(world, WaitReason.TURN)

    def on_sleep():
        if world.clock.seconds > LIMIT - 1:
            world.lock.waits.clear()
        if world.clock.seconds > 2 * LIMIT - 5:
            world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)

    world.clock.on_sleep = on_sleep
    assert see(world).outcome is Outcome.CONFIRMED
    assert world.systemd.activated == []


def test_a_unit_that_never_has_its_turn_does_not_hang(world):
    unit_waits(world, WaitReason.TURN)
    report = see(world)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert "waits for another agent" in report.reasons[0][1]
    assert (world.host.running, world.journal.denied) == (NEW, [])


def test_the_dead_man_comes_again_for_a_unit_that_never_has_its_turn(world):
    world.systemd.timer = None
    unit_waits(world, WaitReason.TURN)
    world.lock.is_taken_by_another()
    report = world.carry_out(partial(dead_man, toplevel=NEW))
    assert (report.outcome, world.host.running) == (Outcome.PENDING, NEW)
    assert world.systemd.timer is not None
    assert world.journal.denied == []


def test_a_system_that_proves_broken_while_its_unit_waits_is_rolled_back_from(world):
    unit_waits(world, WaitReason.TURN)
    world.service_breaks()
    assert see(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD


def test_a_unit_that_is_to_look_again_later_is_let_look_now(world):
    confirms = world.systemd.programs[CONFIRM_UNIT]
    unit_waits(world, WaitReason.LATER, confirms)
    assert see(world).outcome is Outcome.CONFIRMED
    assert world.confirmations == 1


def test_one_that_could_not_judge_it_then_either_leaves_it_pending(world):
    unit_waits(world, WaitReason.LATER)
    assert see(world).outcome is Outcome.PENDING
    assert world.clock.seconds == 0
    assert world.systemd.activated == []
