from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from agent.application import events
from agent.application.manual import verdicts
from agent.application.run import RunSettings
from agent.domain.errors import AgentError, ExitCode, HostError, HydraError, JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.policy import Action
from fakes.pending import FULL, NEW, STRANGE, pending_world, row_of_upgrade
from fakes.runs import NOW, a_run, an_arrival
from fakes.samples import OLD, SPECIAL
from fakes.world import STORE, WATCHFUL, system

OLDER = system(5)
NO_LOCK = HostError(Kind.STATE_FULL, "cannot use agent.lock: no room")


@pytest.fixture
def world():
    return pending_world()


@pytest.fixture
def settled():
    """A host that has confirmed OLDER, OLD and NEW, in that order."""
    world = pending_world()
    for path in (OLDER, STRANGE):
        world.host.contents[path] = world.host.contents[OLD]
    world.marks.set(Mark.CONFIRMED, NEW)
    world.marks.remove(Mark.PENDING)
    world.systemd.timer = None
    world.journal.rows = [
        an_arrival(10, OLD, previous=OLDER),
        an_arrival(11, NEW, previous=OLD),
    ]
    return world


def confirm(world, *, force=False):
    return world.carry_out(partial(verdicts.confirm, force=force))


def roll_back(world):
    return world.carry_out(partial(verdicts.roll_back_by_hand, reason="it eats data"), by="ada")


def ask(world, question, *args):
    """Call what is no run, and return its answer or raise its fault."""
    settings = RunSettings("run-1", STORE, by="ada")
    return asyncio.run(question(world.ports, settings, *args))


# agent confirm


def test_a_pending_system_is_judged(world):
    assert confirm(world).outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)


def test_where_nothing_is_pending_there_is_nothing_to_do(settled):
    for force in (False, True):
        report = confirm(settled, force=force)
        assert (report.outcome, report.exit_code) == (Outcome.NOTHING_TO_DO, ExitCode.DONE)
    assert settled.steps.among("probe service", "mark confirmed") == []


def test_what_was_cut_short_is_recovered_first(world):
    world.host.running = OLD
    report = confirm(world)
    assert report.outcome is Outcome.NOTHING_TO_DO
    assert world.host.profile == OLD


def test_a_system_that_someone_else_decides_about_just_now_is_left_to_them(world):
    world.steps.at("systems", lambda: world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED))
    assert confirm(world).outcome is Outcome.NOTHING_TO_DO


@pytest.mark.parametrize("case", [confirm, roll_back])
def test_an_activation_at_work_is_waited_for(world, case):
    world.systemd.is_running = True
    report = case(world)
    assert (report.exit_code, report.error.kind) == (ExitCode.HELD, Kind.ACTIVATION_BUSY)
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)


@pytest.mark.parametrize("case", [confirm, roll_back])
def test_another_agent_at_work_is_waited_for(world, case):
    world.lock.is_taken_by_another()
    assert case(world).error.kind is Kind.LOCKED
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)


@pytest.mark.parametrize(
    ("case", "outcome"), [(confirm, Outcome.CONFIRMED), (roll_back, Outcome.ROLLED_BACK)]
)
def test_a_full_disk_keeps_nobody_from_deciding(world, case, outcome):
    world.lock.fault, world.journal.fault = NO_LOCK, FULL
    assert case(world).outcome is outcome


def test_force_takes_a_broken_system_unexamined(world):
    world.service_breaks()
    report = confirm(world, force=True)
    assert (report.outcome, report.exit_code) == (Outcome.CONFIRMED, ExitCode.DONE)
    assert "probe service" not in world.steps
    assert world.marks.read() == Marks(confirmed=NEW)
    assert row_of_upgrade(world).outcome == "confirmed"


def test_force_lifts_what_was_held_against_the_system(world):
    world.journal.deny(Denial(NEW, "no", NOW, "agent"))
    confirm(world, force=True)
    assert world.journal.denied == []
    assert world.told.fields_of(events.DENIAL_LIFTED)["toplevel"] == NEW


def test_force_lifts_nothing_where_someone_else_was_quicker(world):
    world.journal.deny(Denial(NEW, "no", NOW, "agent"))
    world.marks.before_move = lambda: world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    assert confirm(world, force=True).outcome is Outcome.ROLLED_BACK
    assert len(world.journal.denied) == 1


def test_force_needs_no_history(world):
    world.journal.read_fault = world.journal.fault = FULL
    assert confirm(world, force=True).outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)


# agent rollback


def test_a_person_rolls_back_from_what_is_pending(world):
    report = roll_back(world)
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.DONE)
    assert report.reasons == (("by-hand", "ada: it eats data"),)
    assert world.host.running == world.host.profile == OLD
    assert world.marks.read() == Marks(confirmed=OLD)
    (denial,) = world.journal.denied
    assert (denial.toplevel, denial.reason, denial.by) == (NEW, "it eats data", "ada")
    assert (row_of_upgrade(world).outcome, row_of_upgrade(world).target) == ("rolled-back", OLD)


def test_from_a_confirmed_system_a_person_goes_back_to_the_one_before(settled):
    report = roll_back(settled)
    assert report.outcome is Outcome.ROLLED_BACK
    assert settled.host.running == settled.host.profile == OLD
    assert settled.marks.read() == Marks(confirmed=OLD)
    assert [denial.toplevel for denial in settled.journal.denied] == [NEW]
    row = settled.journal.rows[-1]
    assert (row.outcome, row.toplevel, row.previous) == ("rolled-back", NEW, NEW)
    roll_back(settled)
    assert settled.host.running == settled.host.profile == OLDER


def test_the_target_is_marked_before_what_is_left(settled):
    roll_back(settled)
    assert settled.steps.among("mark confirmed", "mark rolling-back", "set-profile") == [
        "mark confirmed", "mark rolling-back", "set-profile"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("running", "profile"), [(STRANGE, STRANGE), (NEW, STRANGE), (STRANGE, NEW)]
)
def test_from_someone_elses_system_a_person_goes_back_to_the_confirmed_one(
    settled, running, profile
):
    settled.host.profile = profile
    settled.host.running = running
    assert roll_back(settled).outcome is Outcome.ROLLED_BACK
    assert settled.host.running == settled.host.profile == NEW
    assert settled.marks.read() == Marks(confirmed=NEW)
    assert [denial.toplevel for denial in settled.journal.denied] == [STRANGE]


def test_a_specialisation_of_the_confirmed_system_is_no_system_of_its_own(settled):
    settled.host.contents[NEW].specialisations["quiet"] = settled.host.running = SPECIAL
    roll_back(settled)
    assert settled.host.running == settled.host.profile == OLD


def test_without_a_profile_what_runs_is_left(settled):
    settled.host.profile = None
    roll_back(settled)
    assert settled.host.running == settled.host.profile == OLD


def denied_before(settled):
    settled.journal.deny(Denial(OLD, "no", NOW, "ada"))


def collected(settled):
    del settled.host.contents[OLD]


def unknown(settled):
    settled.journal.rows[1] = an_arrival(11, NEW, previous="unknown")


def itself(settled):
    settled.journal.rows[1] = an_arrival(11, NEW, previous=NEW)


def forgotten(settled):
    settled.journal.rows = [a_run(1), an_arrival(10, OLD, previous=OLDER)]


def only_staged(settled):
    settled.journal.rows[1] = an_arrival(11, NEW, outcome="staged")


@pytest.mark.parametrize("why", [denied_before, collected, unknown, itself, forgotten, only_staged])
def test_without_a_system_to_go_back_to_nothing_is_changed(settled, why):
    why(settled)
    report = roll_back(settled)
    assert (report.exit_code, report.error.kind) == (ExitCode.FAILED, Kind.NO_CONFIRMED_SYSTEM)
    assert settled.host.running == settled.host.profile == NEW
    assert settled.marks.read() == Marks(confirmed=NEW)
    assert settled.systemd.activated == []


def test_a_host_that_shows_nothing_running_is_left_alone(settled):
    settled.host.running = None
    assert roll_back(settled).error.kind is Kind.NO_CONFIRMED_SYSTEM


def test_a_first_run_has_confirmed_nothing_before(settled):
    settled.marks.remove(Mark.CONFIRMED)
    settled.journal.rows.clear()
    assert roll_back(settled).error.kind is Kind.NO_CONFIRMED_SYSTEM
    assert settled.marks.read() == Marks(confirmed=NEW)


def test_a_lost_mark_and_an_unknown_system_leave_nothing_to_go_back_to(settled):
    settled.marks.remove(Mark.CONFIRMED)
    settled.journal.rows.clear()
    settled.host.running = None
    assert roll_back(settled).error.kind is Kind.NO_CONFIRMED_SYSTEM


@pytest.mark.parametrize("cut_short", ["activation", "roll-back"])
def test_what_recovery_has_rolled_back_is_not_rolled_back_further(world, cut_short):
    world.journal.rows.insert(0, an_arrival(10, OLD, previous=OLDER))
    if cut_short == "activation":
        world.host.running = OLD
    else:
        world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    report = roll_back(world)
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.DONE)
    assert world.host.running == world.host.profile == OLD
    assert world.marks.read() == Marks(confirmed=OLD)
    assert len(world.journal.rows) == 2


def test_a_persons_system_is_left_though_recovery_had_to_forget_another(world):
    world.somebody_switches(STRANGE)
    roll_back(world)
    assert world.host.running == world.host.profile == OLD
    assert [denial.toplevel for denial in world.journal.denied] == [STRANGE]


def test_who_loses_the_claim_is_told_to_look_again(world):
    world.marks.before_move = lambda: world.marks.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    report = roll_back(world)
    assert (report.exit_code, report.error.kind) == (ExitCode.HELD, Kind.ACTIVATION_BUSY)
    assert (world.host.running, world.systemd.activated) == (NEW, [])


def test_a_test_is_undone_with_the_profile_where_it_was():
    world = pending_world(Action.TEST)
    roll_back(world)
    assert world.host.running == world.host.profile == OLD


# agent deny, agent allow


@pytest.mark.parametrize(
    ("what", "toplevel", "build_id"),
    [(NEW, NEW, None), (OLD, OLD, None), ("1", NEW, 1), ("2", OLDER, 2)],
)
def test_a_path_or_what_a_build_has_made_is_denied(world, what, toplevel, build_id):
    world.publish(2, OLDER)  # the history knows build 1 alone
    denial = ask(world, verdicts.deny, what, "no")
    assert denial == Denial(toplevel, "no", world.clock.now(), "ada", build_id)
    assert world.journal.denied == [denial]
    assert world.told.fields_of(events.SYSTEM_DENIED) == {
        "toplevel": toplevel, "reason": "no", "by": "ada"
    }  # fmt: skip
    assert world.hydra.asked.among("build") == (["build"] if what == "2" else [])


def test_a_denial_may_have_an_end(world):
    denial = ask(world, verdicts.deny, NEW, "no", timedelta(days=3))
    assert denial.until == world.clock.now() + timedelta(days=3)


@pytest.mark.parametrize("case", ["deny", "allow"])
def test_the_next_run_does_not_trust_an_older_note(world, case):
    world.journal.deny(Denial(NEW, "no", NOW, "agent"))
    world.idle_note.build_id = 1
    ask(world, getattr(verdicts, case), NEW, "because")
    assert world.idle_note.build_id is None


@pytest.mark.parametrize("what", ["nginx", "/etc/passwd", "-1", "1.5", "9" * 5000, ""])
@pytest.mark.parametrize("case", ["deny", "allow"])
def test_what_is_neither_path_nor_build_is_refused(world, case, what):
    with pytest.raises(HostError) as refused:
        ask(world, getattr(verdicts, case), what, "no")
    assert refused.value.kind is Kind.NOTHING_HELD
    assert len(refused.value.message) < 300
    assert world.journal.denied == []


def test_a_build_that_nobody_knows_is_hydras_fault_to_tell(world):
    with pytest.raises(HydraError) as missing:
        ask(world, verdicts.deny, "404", "no")
    assert missing.value.kind is Kind.BUILD_MISSING


def test_a_denial_that_cannot_be_written_is_not_told_as_one(world):
    world.journal.fault = FULL
    with pytest.raises(JournalError):
        ask(world, verdicts.deny, NEW, "no")
    assert events.SYSTEM_DENIED.name not in world.told.names()


@pytest.mark.parametrize("what", [NEW, "1"])
def test_what_is_denied_is_allowed_again(world, what):
    world.journal.deny(Denial(NEW, "no", NOW, "agent"))
    assert ask(world, verdicts.allow, what, "fixed") == NEW
    assert world.journal.denied == []
    assert world.told.fields_of(events.DENIAL_LIFTED) == {
        "toplevel": NEW, "reason": "fixed", "by": "ada"
    }  # fmt: skip


def test_to_allow_what_nobody_holds_is_a_mistake_that_is_told(world):
    with pytest.raises(AgentError) as refused:
        ask(world, verdicts.allow, NEW, "fixed")
    assert refused.value.kind is Kind.NOTHING_HELD
    assert events.DENIAL_LIFTED.name not in world.told.names()


def test_a_person_lets_older_builds_count_again(world):
    world.journal.record(an_arrival(900, OLD))
    world.idle_note.build_id = 900
    settings = RunSettings("run-1", STORE, by="ada")
    taken = asyncio.run(verdicts.allow_downgrade(world.ports, WATCHFUL, settings, "a new Hydra"))
    assert taken.build_id == 900
    assert world.idle_note.build_id is None
    assert world.told.fields_of(events.DOWNGRADE_ALLOWED) == {
        "build_id": 900, "reason": "a new Hydra", "by": "ada"
    }  # fmt: skip
    with pytest.raises(HostError) as refused:
        asyncio.run(verdicts.allow_downgrade(world.ports, WATCHFUL, settings, "again"))
    assert refused.value.kind is Kind.NOTHING_HELD
