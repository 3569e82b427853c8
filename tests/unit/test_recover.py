from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.application import events
from agent.application.act.recover import next_step, record_of, recover_all, resume_roll_back
from agent.application.act.rival_activation import restore_profile
from agent.application.report import Result
from agent.domain.errors import ExitCode, HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action
from agent.domain.recovery import Step
from agent.domain.run_record import altered
from agent.domain.store_path import StorePath
from fakes.pending import FULL, NEW, STRANGE, carry_out_with, pending_world, row_of_upgrade
from fakes.runs import a_run
from fakes.samples import OLD, SPECIAL

LOOP = 20


@pytest.fixture
def world():
    return pending_world()


def stage(world, **links):
    """Let exactly these marks be there."""
    for mark in Mark:
        world.marks.remove(mark)
    for name, path in links.items():
        world.marks.set(Mark(name.replace("_", "-")), path)


def rewrite(world, **facts):
    world.journal.rows[0] = altered(world.journal.rows[0], **facts)


def recover(world):
    """Let a run recover, and return the step that is left, and its report."""
    left = []

    async def body(run):
        left.append(await recover_all(run))
        return Result(Outcome.NOTHING_TO_DO)

    report = carry_out_with(world, body, about_the_upgrade=False)
    return (left[0] if left else None), report


def steps_told(world):
    return [fields["step"] for event, fields in world.told.said if event is events.RECOVERY_STEP]


# What is left to others


def test_a_pending_system_that_runs_is_left_to_its_confirmation(world):
    assert recover(world)[0] is Step.CONFIRM
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert steps_told(world) == []


def test_an_activation_at_work_is_waited_for(world):
    world.systemd.is_running = True
    assert recover(world)[0] is Step.WAIT


def test_an_activation_of_someone_else_is_no_matter_where_nothing_is_under_way(world):
    world.systemd.is_running = True
    stage(world, confirmed=NEW)
    rewrite(world, outcome="confirmed")
    assert recover(world)[0] is Step.NOTHING


def test_what_recovery_would_begin_with_is_told_without_doing_it(world):
    stage(world, confirmed=OLD, rolling_back=NEW)
    found = []

    async def body(run):
        found.append(await next_step(run))
        return Result(Outcome.NOTHING_TO_DO)

    carry_out_with(world, body)
    assert found == [Step.ROLL_BACK]
    assert world.marks.read() == Marks(confirmed=OLD, rolling_back=NEW)


# The first run, and lost marks


@pytest.mark.parametrize(("profile", "adopted"), [(OLD, OLD), (STRANGE, SPECIAL), (None, SPECIAL)])
def test_the_first_run_adopts_what_runs_or_the_profile_it_is_a_specialisation_of(
    world, profile, adopted
):
    stage(world)
    world.journal.rows.clear()
    world.host.specialise(OLD, "quiet", SPECIAL, "k1")
    world.host.running, world.host.profile = SPECIAL, profile
    assert recover(world)[0] is Step.NOTHING
    assert world.marks.read() == Marks(confirmed=adopted)
    assert world.told.fields_of(events.SYSTEM_ADOPTED) == {"toplevel": adopted}


def test_lost_marks_are_set_again_as_the_history_tells(world):
    stage(world)
    assert recover(world)[0] is Step.CONFIRM
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)


def test_a_confirmed_mark_that_is_left_is_not_changed_by_the_history(world):
    stage(world, confirmed=STRANGE)
    recover(world)
    assert world.marks.read() == Marks(confirmed=STRANGE, pending=NEW)


def test_a_roll_back_whose_marks_are_lost_is_finished(world):
    stage(world)
    rewrite(world, outcome="rolling-back", fault="broken", reasons=(("check-failed", "ill"),))
    assert recover(world)[0] is Step.NOTHING
    assert (world.host.running, world.marks.read()) == (OLD, Marks(confirmed=OLD))
    assert row_of_upgrade(world).outcome == "rolled-back"


# Undone


def cut_short(world, **facts):
    """Let the power fail when the profile has moved and the services have not."""
    world.host.running = OLD
    rewrite(world, outcome="activating", **facts)


def test_an_activation_that_was_cut_short_is_undone_and_its_system_suspect(world):
    cut_short(world)
    step, report = recover(world)
    assert (step, report.outcome) == (Step.NOTHING, Outcome.NOTHING_TO_DO)
    assert world.host.running == world.host.profile == OLD
    assert world.marks.read() == Marks(confirmed=OLD)
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.reasons[0][0]) == ("rolled-back", "suspect", "cut-short")
    assert world.journal.denied == []


@pytest.mark.parametrize("kind", [Kind.INTERRUPTED, Kind.TERMINATED])
def test_what_a_person_has_cut_short_is_nobodys_fault(world, kind):
    cut_short(world, error_kind=kind)
    recover(world)
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault) == ("rolled-back", None)


def test_a_system_that_is_cut_short_a_second_time_is_denied(world):
    cut_short(world)
    earlier = a_run(9, outcome="rolled-back", fault="suspect", toplevel=NEW)
    world.journal.rows.insert(0, earlier)
    recover(world)
    assert [denial.toplevel for denial in world.journal.denied] == [NEW]


@pytest.mark.parametrize(
    ("fault", "kept"), [("broken", "broken"), ("suspect", "suspect"), (None, "suspect")]
)
def test_a_roll_back_that_was_cut_short_keeps_its_cause_and_reasons(world, fault, kept):
    stage(world, confirmed=OLD, rolling_back=NEW)
    reasons = (("check-failed", "service: no reply"),)
    rewrite(world, outcome="rolling-back", fault=fault, reasons=reasons)
    assert recover(world)[0] is Step.NOTHING
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.reasons) == ("rolled-back", kept, reasons)
    assert (world.host.running, world.marks.read()) == (OLD, Marks(confirmed=OLD))


def test_a_roll_back_without_reasons_in_its_row_was_cut_short(world):
    stage(world, confirmed=OLD, rolling_back=NEW)
    rewrite(world, outcome="rolling-back", reasons=())
    recover(world)
    assert row_of_upgrade(world).reasons[0][0] == "cut-short"


@pytest.mark.parametrize(("running", "back"), [(NEW, Action.SWITCH), (OLD, Action.BOOT)])
def test_of_a_staged_system_only_what_is_there_is_undone(world, running, back):
    stage(world, confirmed=OLD, rolling_back=NEW)
    rewrite(world, outcome="rolling-back", action="boot")
    world.host.running = running
    recover(world)
    assert world.systemd.activated == [(back, OLD)]
    assert world.host.running == world.host.profile == OLD


def test_a_step_that_fails_ends_the_run_and_is_the_first_of_the_next(world):
    stage(world, confirmed=OLD, rolling_back=NEW)
    world.systemd.activate_fault = HostError(Kind.ROLL_BACK_FAILED, "no such file")
    step, report = recover(world)
    assert (step, report.error.kind) == (None, Kind.ROLL_BACK_FAILED)
    world.systemd.activate_fault = None
    assert recover(world)[0] is Step.NOTHING
    assert world.host.running == OLD


# Without a history


@pytest.mark.parametrize("fault", ["read_fault", "fault"])
def test_a_roll_back_on_a_full_disk_ends_without_turning_in_circles(world, fault):
    stage(world, confirmed=OLD, rolling_back=NEW)
    setattr(world.journal, fault, FULL)
    step, report = recover(world)
    assert (step, report.exit_code) == (Step.NOTHING, ExitCode.DONE)
    assert world.host.running == world.host.profile == OLD
    assert steps_told(world).count(Step.ROLL_BACK) == 1
    assert len(steps_told(world)) < LOOP


def test_an_unreadable_history_does_not_keep_the_marks_from_being_followed(world):
    world.host.running = OLD
    world.journal.read_fault = FULL
    assert recover(world)[0] is Step.NOTHING
    assert world.host.profile == OLD
    assert events.RECORD_FAILED.name in world.told.names()


def test_a_roll_back_that_could_not_be_written_down_is_written_once_there_is_room(world):
    stage(world, confirmed=OLD, rolling_back=NEW)
    world.journal.fault = FULL
    recover(world)
    assert world.marks.read() == Marks(confirmed=OLD, rolled_back=NEW)
    world.journal.fault = None
    assert recover(world)[0] is Step.NOTHING
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.reasons[0][0]) == ("rolled-back", "suspect", "cut-short")
    assert world.marks.read() == Marks(confirmed=OLD)


@pytest.mark.parametrize(
    ("links", "row"),
    [
        ({}, {"outcome": "activating", "action": "boot"}),
        ({}, {"outcome": "selected", "toplevel": STRANGE, "previous": None}),
        ({"rolled_back": STRANGE}, {"outcome": "staged"}),
    ],
)
def test_a_row_that_cannot_be_closed_keeps_nobody_from_judging_what_was_booted(world, links, row):
    stage(world, confirmed=OLD, staged=NEW, **links)
    world.host.booted = NEW
    rewrite(world, **row)
    world.journal.fault = FULL
    assert recover(world)[0] is Step.CONFIRM
    assert world.marks.read() == replace(Marks(confirmed=OLD, pending=NEW), **links)


@pytest.mark.parametrize("step", ["forget", "repair"])
def test_an_upgrade_is_taken_back_whether_or_not_its_row_can_be_closed(world, step):
    world.host.running = STRANGE if step == "repair" else OLD
    world.host.profile = NEW if step == "repair" else OLD
    rewrite(world, outcome="armed" if step == "forget" else "activating")
    world.journal.fault = FULL
    assert recover(world)[0] is Step.NOTHING
    assert world.marks.read() == Marks(confirmed=OLD)
    assert steps_told(world) == [step]


@pytest.mark.parametrize("phase", ["pending", "rolling-back"])
def test_lost_marks_and_confirmed_systems_are_seen_to_without_a_history_to_write(world, phase):
    stage(world, confirmed=NEW)
    rewrite(world, outcome=phase)
    world.journal.fault = FULL
    assert recover(world)[0] is Step.NOTHING
    assert steps_told(world) == ["close-confirmed"]


def test_such_a_roll_back_is_the_last_one_if_there_was_one_before(world):
    stage(world, confirmed=OLD, rolled_back=NEW)
    world.host.activate(Action.SWITCH, OLD)
    earlier = a_run(9, outcome="rolled-back", fault="suspect", toplevel=NEW)
    world.journal.rows.insert(0, earlier)
    recover(world)
    assert [denial.toplevel for denial in world.journal.denied] == [NEW]
    assert row_of_upgrade(world).fault == "broken"


def test_a_roll_back_whose_row_is_lost_gets_one_that_no_other_run_writes(world):
    stage(world, confirmed=OLD, rolling_back=NEW)
    world.journal.rows.clear()
    recover(world)
    (row,) = world.journal.rows
    assert (row.run_id, row.outcome, row.toplevel) == ("run-1-recovered", "rolled-back", NEW)


# Closed


def test_a_roll_back_that_stands_in_the_history_needs_its_mark_no_more(world):
    world.host.activate(Action.SWITCH, OLD)
    stage(world, confirmed=OLD, rolled_back=NEW)
    rewrite(world, outcome="rolled-back", fault="broken")
    before = world.journal.rows[0]
    recover(world)
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.journal.rows == [before]
    assert world.systemd.timer is None


def test_a_persons_roll_back_that_was_killed_is_denied_as_that_persons(world):
    world.host.activate(Action.SWITCH, OLD)
    stage(world, confirmed=OLD, rolled_back=NEW)
    rewrite(
        world, outcome="rolling-back", fault="broken", reasons=(("by-hand", "ada: it: eats data"),)
    )
    recover(world)
    assert [(told.reason, told.by) for told in world.journal.denied] == [("it: eats data", "ada")]


def test_what_has_no_name_in_a_persons_reason_is_denied_as_it_is(world):
    world.host.activate(Action.SWITCH, OLD)
    stage(world, confirmed=OLD, rolled_back=NEW)
    rewrite(world, outcome="rolling-back", fault="broken", reasons=(("by-hand", "no name"),))
    recover(world)
    assert [(told.reason, told.by) for told in world.journal.denied] == [("no name", "agent")]


def test_a_roll_back_killed_before_its_last_row_keeps_its_cause_and_is_closed(world):
    world.host.activate(Action.SWITCH, OLD)
    stage(world, confirmed=OLD, rolled_back=NEW)
    reasons = (("check-failed", "service: no reply"),)
    rewrite(world, outcome="rolling-back", fault="broken", reasons=reasons)
    recover(world)
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.reasons) == ("rolled-back", "broken", reasons)
    assert [denial.reason for denial in world.journal.denied] == ["service: no reply"]
    assert world.systemd.activated == []


def test_a_confirmation_that_the_history_does_not_tell_is_written(world):
    stage(world, confirmed=NEW)
    assert recover(world)[0] is Step.NOTHING
    row = row_of_upgrade(world)
    assert (row.outcome, row.error_kind, row.finished_at) == ("confirmed", None, world.clock.now())
    assert world.systemd.timer is None


@pytest.mark.parametrize("phase", ["selected", "verified", "fetched", "armed"])
def test_what_never_touched_the_host_is_closed_as_failed(world, phase):
    stage(world, confirmed=OLD)
    world.host.activate(Action.SWITCH, OLD)
    rewrite(world, outcome=phase)
    assert recover(world)[0] is Step.NOTHING
    row = row_of_upgrade(world)
    assert (row.outcome, row.error_kind) == ("failed", "cut-short")
    assert phase in row.error_message


def test_a_fault_that_a_row_tells_already_is_not_replaced(world):
    stage(world, confirmed=OLD)
    world.host.activate(Action.SWITCH, OLD)
    rewrite(world, outcome="fetched", error_kind="terminated", error_message="asked to end")
    recover(world)
    row = row_of_upgrade(world)
    assert (row.error_kind, row.error_message) == ("terminated", "asked to end")


def test_a_row_without_a_path_is_closed_and_nothing_done(world):
    stage(world, confirmed=OLD)
    rewrite(world, outcome="activating", toplevel="../etc")
    assert recover(world)[0] is Step.NOTHING
    assert row_of_upgrade(world).outcome == "failed"
    assert world.systemd.activated == []


def test_a_dry_activation_that_was_cut_short_has_touched_nothing(world):
    stage(world, confirmed=OLD)
    rewrite(world, outcome="activating", action="dry-activate")
    assert recover(world)[0] is Step.NOTHING
    assert (row_of_upgrade(world).outcome, world.systemd.activated) == ("failed", [])


# Staged


def test_a_staged_system_that_was_booted_is_pending_from_this_boot_on(world):
    stage(world, confirmed=OLD, staged=NEW)
    rewrite(world, outcome="staged")
    world.clock.move(10**6)
    world.host.boot()
    assert recover(world)[0] is Step.CONFIRM
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert world.marks.pending_for() == timedelta(0)


def test_a_staged_system_that_was_not_booted_yet_stays(world):
    stage(world, confirmed=OLD, staged=NEW)
    rewrite(world, outcome="staged")
    world.host.running = OLD
    assert recover(world)[0] is Step.NOTHING
    assert world.marks.read() == Marks(confirmed=OLD, staged=NEW)


def test_a_staged_system_that_someone_has_replaced_is_forgotten(world):
    stage(world, confirmed=OLD, staged=NEW)
    rewrite(world, outcome="staged")
    world.host.running = OLD
    world.host.profile = STRANGE
    recover(world)
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_staging_that_the_history_does_not_tell_is_written(world):
    stage(world, confirmed=OLD, staged=NEW)
    rewrite(world, outcome="activating", action="boot")
    world.host.running = OLD
    assert recover(world)[0] is Step.NOTHING
    assert row_of_upgrade(world).outcome == "staged"


# Someone was there


def test_an_upgrade_that_never_began_is_forgotten(world):
    world.host.activate(Action.SWITCH, OLD)
    rewrite(world, outcome="armed")
    assert recover(world)[0] is Step.NOTHING
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.systemd.timer is None
    assert row_of_upgrade(world).outcome == "failed"


def test_a_persons_system_stays_and_what_was_pending_is_forgotten(world):
    world.somebody_switches(STRANGE)
    recover(world)
    assert (world.host.running, world.host.profile) == (STRANGE, STRANGE)
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_persons_system_under_our_profile_gets_its_generation_back(world):
    world.host.profile = STRANGE
    world.host.running = STRANGE
    world.host.profile = NEW
    recover(world)
    assert (world.host.running, world.host.profile) == (STRANGE, STRANGE)
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.told.fields_of(events.PROFILE_GIVEN_BACK) == {"toplevel": NEW, "profile": STRANGE}


@pytest.mark.parametrize("has_row", [True, False])
def test_only_the_row_of_what_is_forgotten_is_closed_with_it(world, has_row):
    world.somebody_switches(STRANGE)
    other = None if has_row else StorePath(f"/nix/store/{'x' * 32}-other")
    if other:
        rewrite(world, toplevel=other, outcome="selected")
    recover(world)
    assert row_of_upgrade(world).outcome == "failed"
    assert world.marks.read() == Marks(confirmed=OLD)


@pytest.mark.parametrize("profile", [NEW, STRANGE])
def test_a_profile_is_given_back_only_where_there_is_something_to_give(world, profile):
    world.host.generations.clear()
    world.host.profile = profile
    carry_out_with(world, lambda run: restore_profile(run.ports, NEW))
    assert world.host.profile == profile


def test_the_row_of_an_earlier_upgrade_waits_until_nothing_is_pending(world):
    earlier = a_run(5, outcome="activating", toplevel=STRANGE, previous=OLD)
    world.journal.rows.append(earlier)
    assert recover(world)[0] is Step.CONFIRM
    assert earlier in world.journal.rows


def test_the_phase_of_another_upgrade_says_nothing_of_the_pending_one(world):
    cut_short(world)
    world.journal.rows.append(a_run(5, outcome="armed", toplevel=STRANGE, previous=OLD))
    recover(world)
    assert steps_told(world)[0] is Step.RESTORE
    assert world.host.profile == OLD
    assert row_of_upgrade(world).outcome == "rolled-back"


def test_what_ran_before_the_upgrade_is_nobody_elses_system(world):
    cut_short(world, previous=STRANGE)
    world.host.running = STRANGE
    recover(world)
    assert world.host.running == world.host.profile == OLD
    assert row_of_upgrade(world).outcome == "rolled-back"


def test_what_is_forgotten_was_not_confirmed_though_an_earlier_run_had_confirmed_it(world):
    stage(world, confirmed=NEW, pending=NEW)
    rewrite(world, outcome="activating")
    world.host.running = STRANGE
    recover(world)
    assert row_of_upgrade(world).outcome == "failed"
    assert world.marks.read() == Marks(confirmed=NEW)


# Rows


def own_row(world, *, is_written):
    """Return the row of this run's own upgrade, which another process may have rewritten."""
    found = []

    async def body(run):
        run.record = altered(run.record, toplevel=NEW, previous=OLD)
        if is_written:
            run.ports.journal.record(altered(run.record, outcome=Outcome.ROLLING_BACK))
        found.append(record_of(run, NEW))
        return Result(Outcome.NOTHING_TO_DO)

    carry_out_with(world, body, about_the_upgrade=False)
    return found[0]


@pytest.mark.parametrize(("is_written", "outcome"), [(True, "rolling-back"), (False, "failed")])
def test_a_run_goes_on_with_its_own_row_as_others_have_left_it(world, is_written, outcome):
    row = own_row(world, is_written=is_written)
    assert (row.run_id, row.outcome) == ("run-1", outcome)


def test_a_run_that_ends_its_own_roll_back_writes_its_own_row(world):
    stage(world, confirmed=OLD, rolling_back=NEW)

    async def body(run):
        run.record = altered(run.record, toplevel=NEW, previous=OLD)
        await resume_roll_back(run, NEW)
        return Result(Outcome.ROLLED_BACK, is_recorded_elsewhere=True)

    carry_out_with(world, body, about_the_upgrade=False)
    assert [row.run_id for row in world.journal.rows if row.outcome == "rolled-back"] == ["run-1"]


def test_a_row_that_only_tells_of_a_hold_is_not_the_upgrades(world):
    world.journal.record(a_run(3, toplevel=NEW))
    found = []

    async def body(run):
        found.append(record_of(run, NEW).run_id)
        return Result(Outcome.NOTHING_TO_DO)

    carry_out_with(world, body, about_the_upgrade=False)
    assert found == ["run-0"]


def test_a_lost_row_is_replaced_by_what_the_marks_know(world):
    world.journal.rows.clear()
    found = []

    async def body(run):
        found.append(record_of(run, NEW))
        return Result(Outcome.NOTHING_TO_DO)

    carry_out_with(world, body, about_the_upgrade=False)
    assert (found[0].toplevel, found[0].previous, found[0].outcome) == (NEW, OLD, "pending")


def test_a_roll_back_that_is_taken_up_again_is_not_the_result_of_the_run(world):
    async def body(run):
        await resume_roll_back(run, NEW)
        return Result(Outcome.NOTHING_TO_DO)

    report = carry_out_with(world, body, about_the_upgrade=False)
    assert (report.outcome, report.reasons, report.error) == (Outcome.NOTHING_TO_DO, (), None)
    assert world.host.running == OLD


def test_recovery_that_goes_on_for_ever_is_a_bug_and_says_so(world):
    stage(world, confirmed=OLD, staged=NEW)
    rewrite(world, outcome="staged")
    world.host.profile = STRANGE
    world.marks.remove = lambda _mark: None
    _, report = recover(world)
    assert (report.exit_code, "unstage" in report.error.message) == (ExitCode.BUG, True)
