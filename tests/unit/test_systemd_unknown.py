"""Where systemd gives no answer, nothing is decided by that; what else is known still counts."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.await_confirmation import await_decision
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.application.ports import UnitStatus
from agent.domain.activation_unit import ActivationSeen
from agent.domain.errors import ExitCode, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.run_record import altered
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.pending import NEW, carry_out_with, pending_world, row_of_upgrade
from fakes.samples import OLD
from fakes.systemd import AT_WORK
from fakes.world import World, system

CANDIDATE = system(1)


@pytest.fixture
def world():
    """A system is pending, and the timer has fired."""
    world = pending_world()
    world.systemd.timer = None
    return world


def fire(world):
    return world.carry_out(partial(dead_man, toplevel=NEW))


def judges_for_ever(world):
    """Let the new system's agent be at work, and not come to an end."""
    del world.systemd.programs[CONFIRM_UNIT]
    world.systemd.units[CONFIRM_UNIT] = AT_WORK


def judges_for(world, seconds):
    """Let it be at work, and then confirm."""
    judges_for_ever(world)

    def on_sleep():
        if world.clock.seconds >= seconds:
            world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)

    world.clock.on_sleep = on_sleep


def is_left_alone(world):
    return (world.host.running, world.systemd.activated, world.journal.denied) == (NEW, [], [])


# The dead-man


@pytest.mark.parametrize("lost", [1, 2, 3, 5])
def test_answers_that_get_lost_end_no_agent_that_is_at_work(world, lost):
    judges_for(world, 60)
    world.systemd.lost_answers = lost
    assert fire(world).outcome is Outcome.CONFIRMED
    assert is_left_alone(world)


@pytest.mark.parametrize("lost", [1, 2, 3, 5, 50])
def test_an_agent_that_was_not_started_for_want_of_an_answer_has_not_failed(world, lost):
    world.systemd.lost_answers = lost
    assert fire(world).outcome in (Outcome.CONFIRMED, Outcome.PENDING, Outcome.HELD)
    assert is_left_alone(world)


def test_an_agent_that_nobody_could_start_is_not_waited_for(world):
    world.systemd.is_silent = True
    fire(world)
    asked, looked = timedelta(seconds=5), timedelta(minutes=10, seconds=30)
    assert world.clock.seconds == (asked + looked).total_seconds()


def test_that_it_hangs_is_not_proven_by_a_watch_with_gaps(world):
    """The input that was found: one answer that gets lost while the agent is at work."""
    judges_for_ever(world)
    status = world.systemd.status
    answers = iter([None])

    async def lossy(unit):
        return next(answers) if answers.__length_hint__() else await status(unit)

    world.systemd.status = lossy
    assert fire(world).outcome is Outcome.PENDING
    assert is_left_alone(world)
    assert world.systemd.timer is not None


def test_a_unit_that_is_not_found_once_it_was_started_is_no_answer(world):
    judges_for_ever(world)
    world.systemd.units[CONFIRM_UNIT] = UnitStatus()
    world.systemd.programs[CONFIRM_UNIT] = _lost
    assert fire(world).outcome is Outcome.PENDING
    assert is_left_alone(world)


async def _lost():
    return UnitStatus()


def test_it_asks_again_until_patience_is_over_and_then_calls_a_person(world):
    world.systemd.is_silent = True
    assert fire(world).exit_code is ExitCode.HELD
    assert world.systemd.timer is not None
    assert is_left_alone(world)
    world.systemd.timer = None
    world.clock.move(timedelta(hours=25).total_seconds())
    assert fire(world).exit_code is ExitCode.HELD
    assert world.systemd.timer is None
    assert events.CONFIRMATION_OVERDUE.name in world.told.names()
    assert is_left_alone(world)


def test_a_system_that_fails_its_checks_is_rolled_back_from_all_the_same(world):
    judges_for_ever(world)
    world.systemd.is_silent = True
    world.service_breaks()
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.systemd.stops) == (OLD, 0)


def test_a_roll_back_that_the_marks_show_is_ended_all_the_same(world):
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    world.systemd.is_silent = True
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD


def test_a_roll_back_that_begins_meanwhile_is_ended_all_the_same(world):
    world.systemd.is_silent = True
    world.steps.at("start confirm", lambda: world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK))
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD


def test_a_decision_that_is_taken_while_it_asks_is_reported(world):
    world.systemd.is_silent = True
    judges_for(world, 5)
    assert fire(world).outcome is Outcome.CONFIRMED


def test_an_activation_that_is_cut_short_is_not_undone_on_a_guess(world):
    world.host.running = OLD
    world.systemd.is_silent = True
    report = fire(world)
    assert (report.exit_code, report.error.kind) == (ExitCode.HELD, Kind.ACTIVATION_BUSY)
    assert (world.host.profile, world.systemd.activated) == (NEW, [])
    assert world.systemd.timer is not None


@pytest.mark.parametrize("invocation", [None, "a" * 32])
def test_an_administrators_switch_is_never_stopped(world, invocation):
    world.marks.set(Mark.PENDING, NEW)
    world.systemd.works_on(system(9), "b" * 32)
    world.journal.record(_with(row_of_upgrade(world), invocation))
    assert fire(world).exit_code is ExitCode.HELD
    assert (world.systemd.stops, world.systemd.timer is not None) == (0, True)


@pytest.mark.parametrize(
    ("recorded", "at_work", "stops"),
    [("a" * 32, "a" * 32, 1), (None, "a" * 32, 1), ("a" * 32, "b" * 32, 0)],
)
def test_ours_is_the_one_with_the_path_and_the_id_of_the_row(world, recorded, at_work, stops):
    world.host.running = OLD
    world.journal.record(_with(row_of_upgrade(world), recorded))
    world.systemd.works_on(NEW, at_work)
    fire(world)
    assert world.systemd.stops == stops
    assert (world.host.profile == OLD) is bool(stops)


def _with(row, invocation):
    return altered(row, invocation=invocation)


# The others


def test_a_run_waits_for_an_answer_before_it_ends_the_new_systems_agent(world):
    judges_for(world, 60)
    world.systemd.lost_answers = 3
    report = carry_out_with(
        world, lambda run: await_decision(run, NEW, starts=2), about_the_upgrade=False
    )
    assert report.outcome is Outcome.CONFIRMED


def test_a_decision_that_is_taken_before_it_looks_itself_is_reported(world):
    world.systemd.is_silent = True
    world.steps.at("lock", partial(_decides_at, world, 2))
    assert fire(world).outcome is Outcome.CONFIRMED


def _decides_at(world, number):
    if world.steps.count("lock") == number:
        world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)


def test_nor_is_it_confirmed_where_all_else_is_known(world):
    async def unknown():
        return ActivationSeen(is_running=None)

    world.systemd.activation = unknown
    report = world.carry_out(verdicts.confirm)
    assert (report.outcome, report.reasons[0][0]) == (Outcome.PENDING, Kind.ACTIVATION_BUSY)
    world.service_breaks()
    assert world.carry_out(verdicts.confirm).outcome is Outcome.ROLLED_BACK


def test_a_healthy_system_is_not_confirmed_past_an_activation_that_nobody_knows_of(world):
    world.systemd.is_silent = True
    world.systemd.failed = frozenset()
    report = world.carry_out(verdicts.confirm)
    assert report.outcome is Outcome.PENDING
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)


def upgrading():
    world = World()
    world.publish(1, CANDIDATE)
    world.marks.links = {Mark.CONFIRMED: OLD}
    return world


def test_nothing_is_activated_while_nobody_knows_whether_another_activation_is_at_work():
    world = upgrading()
    world.steps.at("substitute", lambda: setattr(world.systemd, "is_silent", True))
    report = world.run()
    assert report.exit_code is ExitCode.HELD
    assert world.is_untouched()
    assert world.marks.read() == Marks(confirmed=OLD)


def test_the_row_holds_the_id_of_the_activation_while_it_goes_on():
    world = upgrading()
    world.nixos_rebuild.activates = lambda action, path: (
        world.host.activate(action, path),
        world.systemd.activated.clear(),
    )
    world.steps.at(Action.SWITCH.value, lambda: world.systemd.works_on(CANDIDATE, "c" * 32))
    world.steps.at("start confirm", lambda: setattr(world.systemd, "is_running", False))
    world.run()
    rows = [row for row in world.journal.written if row.outcome == Outcome.ACTIVATING]
    assert [row.invocation for row in rows] == [None, "c" * 32]
