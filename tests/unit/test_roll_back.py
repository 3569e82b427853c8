from __future__ import annotations

import pytest

from agent.application import events
from agent.application.confirm.denial import held_as
from agent.application.confirm.roll_back import roll_back
from agent.application.confirm.settle import FailedSystem, settle_rolled_back
from agent.application.ports import ActivationExit
from agent.application.report import Result
from agent.domain.activation_unit import NOT_BEGUN
from agent.domain.errors import ExitCode, HostError, Kind
from agent.domain.facts import FreeSpace
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial, Fault
from agent.domain.policy import Action
from agent.domain.run_record import altered
from fakes.pending import FULL, NEW, STRANGE, carry_out_with, pending_world, row_of_upgrade
from fakes.runs import NOW, a_run
from fakes.samples import OLD, SPECIAL
from fakes.world import WATCHFUL

REASONS = (("check-failed", "service: no reply"),)
BUSY = ActivationExit(1, "Could not acquire lock")
LOADER_FULL = ActivationExit(1, "stopping\nNo space left on device\n\n")
STUCK = HostError(Kind.ROLL_BACK_FAILED, "cannot change the profile: no room")
EFFECTS = (
    *("pending to rolling-back", "journal rolling-back", "journal deny", "set-profile"),
    *("remove-generations", "switch-to-configuration switch", "switch-to-configuration test"),
    *("switch-to-configuration boot", "stop-activation", "rolling-back to rolled-back", "disarm"),
    *("journal rolled-back", "unmark rolled-back"),
)


@pytest.fixture
def world():
    return pending_world()


def go_back(world, action=Action.SWITCH, cause=Fault.BROKEN, results=None):
    async def body(run):
        done = await roll_back(run, NEW, action, cause, REASONS)
        if results is not None:
            results.append(done is not None)
        return done or Result(Outcome.NOTHING_TO_DO)

    return carry_out_with(world, body)


def short_of_boot(world):
    world.host.space = FreeSpace(store=100 << 30, boot=1 << 20)


# What it does


def test_a_roll_back_brings_back_profile_services_and_marks(world):
    results = []
    report = go_back(world, results=results)
    assert (results, report.outcome, report.reasons) == ([True], Outcome.ROLLED_BACK, REASONS)
    assert world.host.running == world.host.profile == OLD
    assert world.systemd.activated == [(Action.SWITCH, OLD)]
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.systemd.timer is None
    row = row_of_upgrade(world)
    assert (row.outcome, row.fault, row.finished_at) == ("rolled-back", "broken", world.clock.now())
    assert world.told.fields_of(events.ROLL_BACK_STARTED) == {
        "toplevel": NEW,
        "target": OLD,
        "fault": "broken",
        "reasons": [{"name": "check-failed", "reason": "service: no reply"}],
    }
    assert world.told.fields_of(events.ROLL_BACK_FINISHED) == {"toplevel": NEW, "target": OLD}


def test_each_step_is_decided_and_written_down_before_its_effect(world):
    go_back(world)
    assert world.steps.among(*EFFECTS) == [
        "pending to rolling-back",
        "journal rolling-back",
        "journal deny",
        "set-profile",
        "switch-to-configuration switch",
        "rolling-back to rolled-back",
        "disarm",
        "journal rolled-back",
        "unmark rolled-back",
        "journal rolled-back",
    ]


@pytest.mark.parametrize(("tested", "kept"), [(NEW, None), (STRANGE, STRANGE)])
def test_what_is_rolled_back_from_has_not_passed_its_test_any_more(world, tested, kept):
    world.marks.set(Mark.TESTED, tested)
    go_back(world)
    assert world.marks.read() == Marks(confirmed=OLD, tested=kept)


@pytest.mark.parametrize(
    ("action", "running", "profile"),
    [(Action.SWITCH, OLD, OLD), (Action.BOOT, STRANGE, OLD), (Action.TEST, OLD, STRANGE)],
)
def test_what_the_action_has_not_touched_is_not_touched_when_it_is_undone(action, running, profile):
    world = pending_world(previous=STRANGE)  # it was here before, and may have been left
    world.host.activate(Action.SWITCH, STRANGE)
    go_back(world, action)
    assert (world.host.running, world.host.profile) == (running, profile)
    assert world.systemd.activated == [(action, OLD)]


def test_running_a_specialisation_of_the_confirmed_system_is_running_it(world):
    world.host.specialise(OLD, "quiet", SPECIAL, "k1")
    world.systemd.switches = lambda _action, _path: setattr(world.host, "running", SPECIAL)
    assert go_back(world).outcome is Outcome.ROLLED_BACK


# Denied, suspect, or nobody's fault


@pytest.mark.parametrize(
    ("cause", "roll_backs", "fault"),
    [
        (Fault.BROKEN, 0, "broken"),
        (Fault.SUSPECT, 0, "suspect"),
        (Fault.SUSPECT, 1, "broken"),
        (None, 0, None),
        (None, 1, None),
    ],
)
def test_what_is_rolled_back_from_is_held_by_its_cause_and_what_came_before(
    world, cause, roll_backs, fault
):
    for number in range(roll_backs):
        world.journal.rows.insert(
            0, a_run(90 + number, outcome="rolled-back", fault="suspect", toplevel=NEW)
        )
    go_back(world, cause=cause)
    assert row_of_upgrade(world).fault == fault
    assert [told.toplevel for told in world.journal.denied] == ([NEW] if fault == "broken" else [])


def test_the_denial_says_why_who_and_which_build(world):
    go_back(world)
    assert world.journal.denied == [
        Denial(NEW, "service: no reply", world.clock.now(), "agent", build_id=1)
    ]
    assert world.told.fields_of(events.SYSTEM_DENIED)["toplevel"] == NEW


def test_a_denial_that_a_person_has_given_meanwhile_stays_as_it_is(world):
    theirs = Denial(NEW, "it eats the data", NOW, "ada")
    world.journal.deny(theirs)
    go_back(world)
    assert world.journal.denied == [theirs]


# Nothing to go back to, or not ours to decide


@pytest.mark.parametrize("confirmed", [None, NEW])
def test_without_another_confirmed_system_nothing_is_changed(world, confirmed):
    world.marks.links[Mark.CONFIRMED] = confirmed
    report = go_back(world)
    assert report.error.kind is Kind.NO_CONFIRMED_SYSTEM
    assert world.steps.among(*EFFECTS) == []
    assert world.marks.read() == Marks(confirmed=confirmed, pending=NEW)


def test_what_is_not_pending_any_more_is_not_rolled_back_from(world):
    results = []
    world.marks.links = {Mark.CONFIRMED: NEW}  # confirmed by the other one, in this moment
    report = go_back(world, results=results)
    assert (results, report.error) == ([False], None)
    assert world.steps.among(*EFFECTS) == []
    assert events.CLAIM_LOST.name in world.told.names()


def test_who_loses_the_claim_changes_nothing(world):
    def rival():
        world.marks.links = {Mark.CONFIRMED: NEW}

    results = []
    world.marks.before_move = rival
    go_back(world, results=results)
    assert results == [False]
    assert events.CLAIM_LOST.name in world.told.names()
    assert world.steps.among(*EFFECTS) == ["pending to rolling-back"]
    assert world.journal.denied == []


def test_a_roll_back_that_was_cut_short_is_done_from_its_beginning(world):
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert world.marks.read() == Marks(confirmed=OLD)


# Other activations


def test_an_activation_that_hangs_is_stopped_first(world):
    world.systemd.works_on(NEW)
    go_back(world)
    assert world.steps.among("stop-activation", "set-profile") == ["stop-activation", "set-profile"]
    assert events.ACTIVATION_STOPPED.name in world.told.names()


def goes_on_for(world, seconds, then=lambda: None):
    """Let another hand's activation be at work for a while."""
    world.systemd.works_on(STRANGE, "f" * 32)

    def on_sleep():
        if world.systemd.is_running and world.clock.seconds >= seconds:
            world.systemd.is_running = False
            then()

    world.clock.on_sleep = on_sleep


def test_an_activation_of_someone_else_is_waited_for_and_not_stopped(world):
    goes_on_for(world, 60)
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert (world.systemd.stops, world.clock.seconds) == (0, 60)
    assert world.host.running == world.host.profile == OLD


def test_one_of_the_same_system_that_the_row_does_not_know_is_someone_elses():
    world = pending_world(invocation="a" * 32)
    world.systemd.works_on(NEW, "b" * 32)
    report = go_back(world)
    assert (report.exit_code, world.systemd.stops) == (ExitCode.HELD, 0)


def test_an_activation_of_someone_else_that_does_not_end_is_come_back_to(world):
    goes_on_for(world, 10**6)
    report = go_back(world)
    assert (report.exit_code, report.error.kind) == (ExitCode.HELD, Kind.ACTIVATION_BUSY)
    assert (world.systemd.stops, world.systemd.activated) == (0, [])
    assert world.clock.seconds == WATCHFUL.activate_deadline.total_seconds()
    assert world.marks.read() == Marks(confirmed=OLD, rolling_back=NEW)
    assert world.host.profile == NEW, "nor is a profile moved below another hand's activation"


@pytest.mark.parametrize("is_booted", [False, True])
def test_what_a_person_has_switched_to_meanwhile_stays(world, is_booted):
    if is_booted:
        world.host.booted = NEW
    goes_on_for(world, 60, lambda: world.somebody_switches(STRANGE))
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.host.profile) == (STRANGE, STRANGE)
    assert (world.systemd.activated, world.host.reboots) == ([], 0)
    assert world.told.fields_of(events.ROLL_BACK_LEFT) == {
        "toplevel": NEW,
        "running": STRANGE,
        "profile": STRANGE,
    }
    assert world.marks.read() == Marks(confirmed=OLD)
    assert [denial.toplevel for denial in world.journal.denied] == [NEW]


def test_what_a_person_tries_stays_and_the_next_boot_is_of_the_confirmed_system(world):
    goes_on_for(world, 60, lambda: world.host.activate(Action.TEST, STRANGE))
    go_back(world)
    assert (world.host.running, world.host.profile) == (STRANGE, OLD)
    assert world.systemd.activated == [(Action.BOOT, OLD)]


def test_that_systemd_says_nothing_of_activations_keeps_no_roll_back(world):
    world.systemd.is_silent = True
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert (world.host.running, world.systemd.stops) == (OLD, 0)


def test_the_row_holds_the_id_of_the_activation_that_goes_back():
    world = pending_world(invocation="a" * 32)
    written = []
    world.steps.at(
        "switch-to-configuration switch",
        lambda: (written.append(row_of_upgrade(world)), world.systemd.works_on(OLD, "b" * 32)),
    )
    go_back(world)
    assert written[0].invocation == "a" * 32, "a person's of the same system is not ours"
    assert row_of_upgrade(world).invocation == "b" * 32


@pytest.mark.parametrize("busy", [1, 2])
def test_an_activation_that_comes_in_between_is_waited_for_and_the_own_one_begun_again(world, busy):
    world.systemd.exits = [BUSY] * busy
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert world.systemd.stops == 0
    assert world.systemd.activated == [(Action.SWITCH, OLD)] * (busy + 1)


def test_what_came_in_the_place_of_the_own_one_is_not_stopped_though_it_is_of_the_same_system(
    world,
):
    world.systemd.exits = [BUSY]
    world.steps.at("switch-to-configuration switch", lambda: world.systemd.works_on(OLD, "b" * 32))
    report = go_back(world)
    assert (report.exit_code, world.systemd.stops) == (ExitCode.HELD, 0)
    assert row_of_upgrade(world).invocation == NOT_BEGUN


def test_one_that_always_comes_in_between_is_left_to_the_next_run(world):
    world.systemd.exits = [BUSY] * 6
    report = go_back(world)
    assert report.error.kind is Kind.ROLL_BACK_FAILED
    assert world.systemd.activated == [(Action.SWITCH, OLD)] * 3 + [(Action.TEST, OLD)] * 3


# When it does not succeed


def test_where_the_boot_loader_cannot_be_written_the_services_are_had_back(world):
    world.systemd.exits = [LOADER_FULL]
    world.host.loader_default = NEW
    report = go_back(world)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.systemd.activated == [(Action.SWITCH, OLD), (Action.TEST, OLD)]
    assert world.host.running == world.host.profile == OLD
    assert world.told.fields_of(events.ROLL_BACK_INCOMPLETE) == {
        "target": OLD, "boot_default": NEW, "returncode": 0
    }  # fmt: skip


def test_an_exit_code_that_is_not_zero_is_told_though_all_is_back(world):
    world.systemd.exits = [ActivationExit(4, "units failed")]
    world.systemd.moves_before_failing = True
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert world.told.fields_of(events.ROLL_BACK_INCOMPLETE)["returncode"] == 4


@pytest.mark.parametrize(
    ("action", "default", "is_logged"),
    [
        (Action.SWITCH, NEW, True),
        (Action.SWITCH, OLD, False),
        (Action.SWITCH, None, False),
        (Action.TEST, NEW, False),
    ],
)
def test_the_boot_loaders_default_is_read_back(world, action, default, is_logged):
    world.host.loader.default = lambda: default
    go_back(world, action)
    assert (events.ROLL_BACK_INCOMPLETE.name in world.told.names()) is is_logged


@pytest.mark.parametrize("action", [Action.SWITCH, Action.BOOT, Action.TEST])
def test_what_does_not_come_back_is_an_error_and_stays_to_be_finished(world, action):
    world.systemd.exits = [LOADER_FULL] * 2
    world.systemd.switches = lambda _action, _path: None
    world.profile.set = _does_nothing
    report = go_back(world, action)
    assert report.error.kind is Kind.ROLL_BACK_FAILED
    assert report.error.message == (
        f"{action} to the confirmed {OLD} ended with 1 (No space left on device); the running"
        f" system is {NEW}, the profile is {world.host.profile}"
    )
    assert report.error.hint == "the next run tries again; `agent status` shows where the host is"
    assert world.marks.read() == Marks(confirmed=OLD, rolling_back=NEW)
    assert world.systemd.timer is not None
    assert row_of_upgrade(world).outcome == "rolling-back"


async def _does_nothing(_path):
    pass


def test_a_system_that_cannot_even_be_started_is_an_error_and_stays_to_be_finished(world):
    world.systemd.activate_fault = HostError(Kind.ROLL_BACK_FAILED, "no such file")
    assert go_back(world).error.kind is Kind.ROLL_BACK_FAILED
    assert world.marks.read().rolling_back == NEW


def test_where_the_profile_cannot_be_changed_the_services_are_had_back(world):
    world.profile.fault = STUCK
    report = go_back(world)
    assert report.error is STUCK
    assert (world.host.running, world.host.profile) == (OLD, NEW)
    assert world.marks.read() == Marks(confirmed=OLD, rolling_back=NEW)


def test_where_only_the_profile_is_to_be_changed_and_cannot_no_service_is_touched(world):
    world.profile.fault = STUCK
    assert go_back(world, Action.BOOT).error is STUCK
    assert world.systemd.activated == []


@pytest.mark.parametrize(
    ("step", "is_profile_back"),
    [
        ("set-profile", False),
        ("switch-to-configuration boot", True),
        ("rolling-back to rebooting-back", True),
        ("unmark tested", True),
    ],
)
def test_no_fault_on_the_way_leaves_a_booted_system_running(world, step, is_profile_back):
    world.host.booted = NEW
    world.marks.set(Mark.TESTED, NEW)
    world.steps.at(step, STUCK)
    if step == "unmark tested":
        world.host.is_container = True
    go_back(world)
    assert (world.host.running, world.host.reboots) == (OLD, 0)
    assert (world.host.profile == OLD) is is_profile_back


# A full disk


def test_a_history_that_cannot_be_written_keeps_no_host_broken(world):
    world.journal.fault = FULL
    report = go_back(world)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.host.running == world.host.profile == OLD
    assert world.marks.read() == Marks(confirmed=OLD, rolled_back=NEW)
    assert events.SYSTEM_DENIED.name not in world.told.names()
    assert world.told.names().count(events.RECORD_FAILED.name) >= 4  # both phases, each denial


def test_a_history_that_cannot_be_read_keeps_no_host_broken(world):
    async def body(run):
        world.journal.read_fault = FULL
        return await roll_back(run, NEW, Action.SWITCH, Fault.BROKEN, REASONS)

    assert carry_out_with(world, body).outcome is Outcome.ROLLED_BACK
    assert events.RECORD_FAILED.name in world.told.names()


def test_a_denial_that_could_not_be_written_is_written_with_the_end(world):
    room_comes = lambda: setattr(world.journal, "fault", None)  # noqa: E731
    world.journal.fault = FULL
    world.steps.at("rolling-back to rolled-back", room_comes)
    go_back(world)
    assert [denial.toplevel for denial in world.journal.denied] == [NEW]
    assert row_of_upgrade(world).outcome == "rolled-back"
    assert world.marks.read() == Marks(confirmed=OLD)


def test_the_mark_stays_until_both_the_end_and_the_denial_are_written(world):
    world.marks.move(Mark.PENDING, NEW, Mark.ROLLED_BACK)
    results = []

    def full():
        raise FULL

    async def body(run):
        run.record = altered(run.record, fault=Fault.BROKEN, reasons=REASONS)
        world.steps.at("journal deny", full)
        results.append(await settle_rolled_back(run, FailedSystem(NEW, OLD)))
        assert world.marks.read().rolled_back == NEW
        world.steps.calm()
        results.append(await settle_rolled_back(run, FailedSystem(NEW, OLD)))

    carry_out_with(world, body)
    assert results == [False, True]
    assert world.marks.read() == Marks(confirmed=OLD)


def test_how_a_path_will_be_held_is_told_before_it_is(world):
    world.journal.rows.insert(0, a_run(90, outcome="rolled-back", fault="suspect", toplevel=NEW))
    found = []

    async def body(run):
        found.extend([held_as(run, NEW, Fault.SUSPECT), held_as(run, STRANGE, Fault.SUSPECT)])

    carry_out_with(world, body)
    assert found == [Fault.BROKEN, Fault.SUSPECT]


# Room on the boot partition


def test_the_failed_generation_is_removed_where_the_boot_partition_needs_the_room(world):
    short_of_boot(world)
    go_back(world)
    assert NEW not in world.host.generations.values()
    assert world.steps.among("remove-generations", "switch-to-configuration switch") == [
        "remove-generations", "switch-to-configuration switch"
    ]  # fmt: skip
    assert world.told.fields_of(events.GENERATIONS_REMOVED)["count"] == 1


@pytest.mark.parametrize("boot", [None, 64 << 20])
def test_where_there_is_room_the_failed_generation_stays_for_a_person_to_look_at(world, boot):
    world.host.space = FreeSpace(store=100 << 30, boot=boot)
    go_back(world)
    assert NEW in world.host.generations.values()


def test_nothing_is_told_where_no_generation_had_to_go(world):
    short_of_boot(world)
    world.host.generations.clear()
    world.host.profile = OLD
    go_back(world)
    assert events.GENERATIONS_REMOVED.name not in world.told.names()


@pytest.mark.parametrize("step", ["free-space", "remove-generations"])
def test_room_that_cannot_be_made_is_no_reason_to_stay_on_a_broken_system(world, step):
    short_of_boot(world)
    world.steps.at(step, STUCK)
    assert go_back(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD
