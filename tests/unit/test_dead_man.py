from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.domain.errors import ExitCode, HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.pending import FULL, NEW, STRANGE, pending_world, row_of_upgrade
from fakes.samples import OLD
from fakes.systemd import AT_WORK, Armed
from fakes.world import WATCHFUL

AGAIN = Armed(WATCHFUL.confirm.settle + WATCHFUL.confirm.deadline, "run-1", NEW)
BROKEN_AGENT = HostError(Kind.CONFIRM_UNIT_FAILED, "cannot start it: no such file")
NOT_BACK = HostError(Kind.ROLL_BACK_FAILED, "no such file")
NO_LOCK = HostError(Kind.STATE_FULL, "cannot use agent.lock: no room")


@pytest.fixture
def world():
    """The timer has fired, and is no more."""
    world = pending_world()
    world.systemd.timer = None
    return world


def fire(world, toplevel=NEW):
    return world.carry_out(partial(dead_man, toplevel=toplevel))


def fill_the_disk(world):
    world.journal.fault = FULL
    world.lock.fault = NO_LOCK


# Nothing of its own to end


@pytest.mark.parametrize(
    "links", [{Mark.CONFIRMED: NEW}, {Mark.CONFIRMED: OLD, Mark.PENDING: STRANGE}]
)
def test_an_upgrade_that_is_decided_or_another_ones_is_left_alone(world, links):
    world.marks.links = links
    report = fire(world)
    assert (report.outcome, report.exit_code) == (Outcome.NOTHING_TO_DO, ExitCode.DONE)
    assert world.told.names() == ["run.started", "run.finished"]
    assert world.systemd.timer is None


# The end


def test_a_healthy_system_whose_run_was_killed_is_confirmed(world):
    report = fire(world)
    assert report.outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)
    assert world.confirmations == 1
    assert events.DEAD_MAN_FIRED.name in world.told.names()
    assert world.systemd.timer is None


def test_a_broken_system_whose_run_was_killed_is_rolled_back_from(world):
    world.service_breaks()
    report = fire(world)
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.FAILED)
    assert (world.host.running, world.marks.read()) == (OLD, Marks(confirmed=OLD))
    assert world.systemd.timer is None


@pytest.mark.parametrize("disk", ["has room", "is full"])
def test_a_system_whose_agent_cannot_start_is_rolled_back_from(world, disk):
    world.systemd.start_fault = BROKEN_AGENT
    if disk == "is full":
        fill_the_disk(world)
    report = fire(world)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.host.running == world.host.profile == OLD
    assert world.steps.count("start confirm") == 1
    kept = {"rolled_back": NEW} if disk == "is full" else {}
    assert world.marks.read() == Marks(confirmed=OLD, **kept)
    assert world.systemd.timer is None


def test_a_healthy_system_is_confirmed_on_a_full_disk(world):
    fill_the_disk(world)
    assert fire(world).outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)


def test_a_full_disk_does_not_make_a_doubt_a_proof(world):
    fill_the_disk(world)
    world.hydra_is_gone()
    assert fire(world).outcome is Outcome.PENDING
    assert (world.host.running, world.systemd.activated) == (NEW, [])
    assert world.systemd.timer == AGAIN


def test_an_agent_that_hangs_with_the_lock_in_its_hands_does_not_keep_it_from_the_end(world):
    async def hangs():
        world.lock.is_taken_by_another()
        return AT_WORK

    world.systemd.programs[CONFIRM_UNIT] = hangs
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD


def test_an_activation_that_hangs_is_stopped_and_undone(world):
    world.host.running = OLD
    world.systemd.works_on(NEW)
    report = fire(world)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.systemd.stops == 1
    assert world.host.running == world.host.profile == OLD
    assert row_of_upgrade(world).fault == "suspect"
    assert events.ACTIVATION_STOPPED.name in world.told.names()


def test_a_roll_back_that_was_cut_short_is_ended(world):
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    report = fire(world)
    assert (report.outcome, world.host.running) == (Outcome.ROLLED_BACK, OLD)
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.systemd.timer is None


def test_a_roll_back_that_another_agent_is_at_is_left_to_it(world):
    def ends():
        if world.steps.count("lock") == 3:
            world.host.activate(Action.SWITCH, OLD)
            world.marks.move(Mark.ROLLING_BACK, NEW, Mark.ROLLED_BACK)

    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    world.systemd.is_running = True
    world.lock.is_taken_by_another()
    world.steps.at("lock", ends)
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert (world.systemd.stops, world.systemd.activated) == (0, [])
    assert world.marks.read() == Marks(confirmed=OLD, rolled_back=NEW)


def test_one_that_takes_longer_than_any_activation_may_is_taken_over(world):
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    world.systemd.works_on(OLD)
    world.lock.is_taken_by_another()
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.systemd.stops) == (OLD, 1)
    assert world.clock.seconds == WATCHFUL.activate_deadline.total_seconds()


@pytest.mark.parametrize("disk", ["has room", "is full"])
def test_one_that_nobody_is_at_is_taken_over_at_once(world, disk):
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    if disk == "is full":
        fill_the_disk(world)
    assert fire(world).outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.clock.seconds) == (OLD, 0)


def test_a_persons_system_stays_and_nothing_is_told_to_be_rolled_back(world):
    world.somebody_switches(STRANGE)
    report = fire(world)
    assert (report.outcome, report.reasons[0][0]) == (Outcome.HELD, "not-pending")
    assert world.host.running == world.host.profile == STRANGE
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)


# Again, until a person's turn


def test_what_cannot_be_judged_is_looked_at_again(world):
    world.hydra_is_gone()
    report = fire(world)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert world.systemd.timer == AGAIN
    seconds = AGAIN.delay.total_seconds()
    assert world.told.fields_of(events.DEAD_MAN_ARMED) == {"seconds": seconds, "toplevel": NEW}
    assert (world.marks.read().pending, world.journal.denied) == (NEW, [])


def unjudged(world):
    world.hydra_is_gone()


def unstoppable(world):
    world.systemd.is_running = world.systemd.is_stubborn = True


def not_coming_back(world):
    world.systemd.start_fault = BROKEN_AGENT
    world.systemd.activate_fault = NOT_BACK


def with_a_bug(world):
    world.steps.at("start confirm", ZeroDivisionError())


UNENDED = {
    unjudged: ExitCode.HELD,
    unstoppable: ExitCode.HELD,
    not_coming_back: ExitCode.FAILED,
    with_a_bug: ExitCode.BUG,
}


@pytest.mark.parametrize("how", UNENDED)
def test_what_it_cannot_end_it_tries_again_until_patience_is_over(world, how):
    how(world)
    assert fire(world).exit_code is UNENDED[how]
    assert world.systemd.timer == AGAIN
    world.systemd.timer = None
    world.clock.move(timedelta(hours=25).total_seconds())
    assert fire(world).exit_code is UNENDED[how]
    assert world.systemd.timer is None
    assert events.CONFIRMATION_OVERDUE.name in world.told.names()
    assert NEW in (world.marks.read().pending, world.marks.read().rolling_back)


def test_a_fault_after_the_decision_sets_no_timer(world):
    world.steps.at("unmark rolled-back", HostError(Kind.MARKS_UNUSABLE, "read-only"))
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    assert fire(world).exit_code is ExitCode.FAILED
    assert (world.marks.read().rolled_back, world.systemd.timer) == (NEW, None)


def test_a_bug_after_someone_else_has_decided_sets_no_timer(world):
    def decide_and_break():
        world.marks.links = {Mark.CONFIRMED: NEW}
        raise ZeroDivisionError

    world.steps.at("start confirm", decide_and_break)
    assert fire(world).exit_code is ExitCode.BUG
    assert world.systemd.timer is None


def test_a_timer_that_cannot_be_set_again_is_a_fault(world):
    world.hydra_is_gone()
    world.systemd.arm_fault = HostError(Kind.DEAD_MAN_UNARMED, "no")
    assert fire(world).error.kind is Kind.DEAD_MAN_UNARMED


# Exactly one


@pytest.mark.parametrize("is_well", [True, False])
@pytest.mark.parametrize("first", ["dead-man", "confirm"])
def test_of_dead_man_and_confirm_unit_exactly_one_decides(world, first, is_well):
    if not is_well:
        world.service_breaks()
    turns = [partial(dead_man, toplevel=NEW), verdicts.confirm]
    for use_case in turns if first == "dead-man" else turns[::-1]:
        world.carry_out(use_case)
    assert world.marks.read() == Marks(confirmed=NEW if is_well else OLD)
    assert world.systemd.activated == ([] if is_well else [(Action.SWITCH, OLD)])
    assert row_of_upgrade(world).outcome == ("confirmed" if is_well else "rolled-back")
    assert world.steps.among("start confirm", "switch-to-configuration switch") == []
