from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.application import events
from agent.application.confirm.await_confirmation import await_decision, lock_if_free
from agent.domain.errors import ExitCode, HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.policy import Action, OnFailure
from agent.domain.run_record import altered
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.pending import NEW, carry_out_with, pending_world, row_of_upgrade
from fakes.runs import NOW
from fakes.samples import OLD
from fakes.systemd import AT_WORK, ENDED, failed
from fakes.world import WATCHFUL

HOLDS = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, on_failure=OnFailure.HOLD))
BROKEN_AGENT = HostError(Kind.CONFIRM_UNIT_FAILED, "cannot start it: no such file")
NO_LOCK = HostError(Kind.STATE_FULL, "cannot use agent.lock: no room")


@pytest.fixture
def world():
    return pending_world()


def see(world, policy=WATCHFUL, *, starts=2, waits=True):
    return carry_out_with(
        world,
        lambda run: await_decision(run, NEW, starts=starts, waits=waits),
        policy,
        about_the_upgrade=False,
    )


def does(world, *acts):
    """Let each start of the confirm unit do the next of `acts`, which return the unit's state."""
    left = list(acts)

    async def program():
        return left.pop(0)()

    world.systemd.programs[CONFIRM_UNIT] = program


def lost_its_agent(world):
    del world.host.contents[NEW].units[CONFIRM_UNIT]


# The new system's agent decides


def test_the_new_systems_agent_confirms_and_writes_its_row(world):
    report = see(world)
    assert (report.outcome, report.exit_code) == (Outcome.CONFIRMED, ExitCode.DONE)
    assert report.is_recorded_elsewhere
    assert world.steps.count("start confirm") == world.confirmations == 1
    assert world.told.fields_of(events.CONFIRMATION_HANDED_OVER)["unit"] == CONFIRM_UNIT
    assert [row.outcome for row in world.journal.rows] == ["confirmed"]


def test_its_roll_back_is_told_as_this_runs_failure(world):
    world.service_breaks()
    report = see(world)
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.ROLLED_BACK)
    assert report.reasons == row_of_upgrade(world).reasons != ()
    assert world.marks.read() == Marks(confirmed=OLD)


def test_what_it_cannot_judge_stays_pending_for_the_reason_it_gives(world):
    world.hydra_is_gone()
    report = see(world)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert report.reasons == row_of_upgrade(world).reasons
    assert len(world.journal.rows) == 1
    assert world.steps.count("start confirm") == 1
    assert world.systemd.activated == []


def test_a_reason_that_it_could_not_write_is_told_in_general(world):
    does(world, lambda: failed(75))
    assert see(world).reasons[0][0] == "inconclusive"


def test_one_that_fails_once_is_started_again(world):
    confirms = world.systemd.programs[CONFIRM_UNIT]
    states = [failed(70)]

    async def program():
        return states.pop() if states else await confirms()

    world.systemd.programs[CONFIRM_UNIT] = program
    assert see(world).outcome is Outcome.CONFIRMED
    assert world.told.fields_of(events.CONFIRM_UNIT_ENDED)["exit_status"] == 70


def test_one_that_has_decided_need_not_end(world):
    def decides():
        world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)
        return AT_WORK

    does(world, decides)
    before = world.clock.seconds
    assert see(world).outcome is Outcome.CONFIRMED
    assert world.clock.seconds == before


# An agent that cannot decide


def test_a_system_whose_agent_cannot_start_is_rolled_back_from_and_denied(world):
    world.systemd.start_fault = BROKEN_AGENT
    report = see(world)
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.ROLLED_BACK)
    assert world.told.fields_of(events.RUN_FAILED)["error.kind"] is Kind.ROLLED_BACK
    assert world.steps.count("start confirm") == 2
    assert world.host.running == world.host.profile == OLD
    (denial,) = world.journal.denied
    assert (denial.toplevel, "no such file" in denial.reason) == (NEW, True)
    assert row_of_upgrade(world).outcome == "rolled-back"


def test_a_system_that_was_booted_and_whose_agent_cannot_start_is_left_too(world):
    world = pending_world(Action.BOOT)
    world.host.boot()
    world.systemd.start_fault = BROKEN_AGENT
    see(world)
    assert world.host.running == world.host.profile == OLD


def test_a_system_whose_agent_fails_is_rolled_back_from(world):
    does(world, lambda: failed(78), lambda: failed(78))
    report = see(world)
    assert report.reasons == (
        (Kind.CONFIRM_UNIT_FAILED, f"{CONFIRM_UNIT} ended with 78 (exit-code)"),
    )
    assert world.host.running == OLD


def test_an_agent_that_ends_well_without_a_decision_has_failed(world):
    does(world, lambda: ENDED)
    assert see(world, starts=1).outcome is Outcome.ROLLED_BACK


def test_an_agent_that_hangs_is_given_up_when_all_its_limits_are_over(world):
    does(world, lambda: AT_WORK)
    limits = WATCHFUL.confirm.settle + WATCHFUL.confirm.deadline + WATCHFUL.activate_deadline
    assert see(world, starts=1).outcome is Outcome.ROLLED_BACK
    assert 0 <= world.clock.seconds - limits.total_seconds() - 30 < 1


@pytest.mark.parametrize("how", ["settings", "denied"])
def test_it_stays_where_a_person_is_to_decide(world, how):
    world.systemd.start_fault = BROKEN_AGENT
    if how == "denied":
        world.journal.deny(Denial(NEW, "no", NOW, "ada"))
    denied = list(world.journal.denied)
    report = see(world, HOLDS if how == "settings" else WATCHFUL)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert [name for name, _ in report.reasons] == ["confirmation-failed", "confirm-unit-failed"]
    assert world.told.fields_of(events.CONFIRMATION_BROKEN)["rolls_back"] is False
    assert (world.host.running, world.systemd.activated) == (NEW, [])
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert world.journal.denied == denied
    assert row_of_upgrade(world).reasons == report.reasons


def test_a_roll_back_that_its_agent_did_not_end_is_ended_for_its_reason(world):
    reasons = (("check-failed", "service: no reply"),)

    def dies():
        world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
        row = row_of_upgrade(world)
        world.journal.record(
            altered(row, outcome=Outcome.ROLLING_BACK, fault="suspect", reasons=reasons)
        )
        return failed(9)

    does(world, dies)
    report = see(world, HOLDS, starts=1)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.marks.read() == Marks(confirmed=OLD)
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.reasons) == ("rolled-back", "suspect", reasons)


def test_a_run_that_ends_while_it_ends_the_roll_back_of_another_leaves_the_row_alone(world):
    world.systemd.is_silent = True

    def begins():
        if world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK):
            row = row_of_upgrade(world)
            world.journal.record(altered(row, outcome=Outcome.ROLLING_BACK, fault="suspect"))

    world.steps.at("start confirm", begins)
    world.steps.at("switch-to-configuration switch", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        carry_out_with(world, lambda run: await_decision(run, NEW, starts=1))
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.error_kind) == ("rolling-back", "suspect", None)


def test_what_is_decided_while_this_run_waits_for_the_lock_is_only_told(world):
    does(world, lambda: failed(70))
    world.steps.at("lock", lambda: world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED))
    report = see(world, starts=1)
    assert (report.outcome, report.error) == (Outcome.CONFIRMED, None)
    assert world.systemd.activated == []
    assert events.CONFIRMATION_BROKEN.name not in world.told.names()


def test_what_is_decided_in_the_very_moment_is_only_told(world):
    does(world, lambda: failed(70))
    world.marks.before_move = lambda: world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    report = see(world, starts=1)
    assert (report.outcome, report.error) == (Outcome.CONFIRMED, None)
    assert (world.systemd.activated, world.journal.denied) == ([], [])


# A system without the agent


@pytest.mark.parametrize("is_well", [True, False])
def test_a_system_without_the_agent_is_judged_before_the_run_ends(world, is_well):
    lost_its_agent(world)
    if not is_well:
        world.service_breaks()
    report = see(world)
    assert report.outcome is (Outcome.CONFIRMED if is_well else Outcome.ROLLED_BACK)
    assert world.host.running == (NEW if is_well else OLD)
    assert (world.steps.count("start confirm"), world.lock.times) == (0, 1)
    assert row_of_upgrade(world).outcome == report.outcome


def test_where_nobody_knows_what_runs_the_run_judges_itself_and_proves_nothing(world):
    world.host.running = None
    report = see(world)
    assert (report.outcome, report.reasons[0][0]) == (Outcome.PENDING, "foreign-system")


def test_a_system_that_only_runs_by_test_is_confirmed_as_that(world):
    world = pending_world(Action.TEST)
    lost_its_agent(world)
    see(world)
    assert world.marks.read() == Marks(confirmed=OLD, tested=NEW)


# The lock


@pytest.mark.parametrize("has_agent", [True, False])
def test_a_lock_that_someone_holds_ends_a_run_that_can_wait(world, has_agent):
    world.service_breaks()
    world.systemd.start_fault = BROKEN_AGENT
    if not has_agent:
        lost_its_agent(world)
    world.lock.is_taken_by_another()
    report = see(world)
    assert (report.exit_code, report.error.kind) == (ExitCode.HELD, Kind.LOCKED)
    assert (world.host.running, world.systemd.activated) == (NEW, [])


@pytest.mark.parametrize("has_agent", [True, False])
@pytest.mark.parametrize("why", ["held by an agent that hangs", "no room to make it"])
def test_the_last_who_can_act_does_so_without_the_lock(world, has_agent, why):
    world.service_breaks()
    world.systemd.start_fault = BROKEN_AGENT
    if not has_agent:
        lost_its_agent(world)
    world.lock.is_taken_by_another()
    if why == "no room to make it":
        world.lock.fault = NO_LOCK
    report = see(world, waits=why == "no room to make it")
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.ROLLED_BACK)
    assert world.host.running == OLD
    assert events.LOCK_IGNORED.name in world.told.names()


def test_the_lock_is_let_go_of_whatever_happens_under_it(world):
    async def body(run):
        with lock_if_free(run, waits=True):
            assert world.lock.is_held
            raise NO_LOCK

    assert carry_out_with(world, body).error is NO_LOCK
    assert not world.lock.is_held
