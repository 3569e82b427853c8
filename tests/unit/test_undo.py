from __future__ import annotations

from dataclasses import replace

import pytest

from agent.application import events
from agent.application.facts.foreign import find_foreign
from agent.application.ports import ActivationExit
from agent.application.upgrade import upgrade
from agent.domain.errors import ExitCode, HostError, JournalError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action, OnFailure
from agent.domain.run_record import altered
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.host import refused_by
from fakes.journal import FakeJournal
from fakes.samples import OLD, OTHER
from fakes.world import WATCHFUL, World, system

NEW = system(1)
HOLDS = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, on_failure=OnFailure.HOLD))


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


# Failed activations


SCRIPT_FAILED = "activating the configuration...\nFailed to run activate script"
FAILURES = [
    # exit code, what was said, its fault, where the blame lies
    (1, "", Kind.ACTIVATION_FAILED, Fault.SUSPECT),
    (2, "", Kind.ACTIVATION_FAILED, Fault.SUSPECT),
    (2, SCRIPT_FAILED, Kind.ACTIVATION_SCRIPT_FAILED, Fault.BROKEN),
    (11, "", Kind.ACTIVATION_FAILED, Fault.SUSPECT),
    (-9, "", Kind.ACTIVATION_KILLED, Fault.SUSPECT),
    (143, "", Kind.ACTIVATION_KILLED, Fault.SUSPECT),
    (255, "", Kind.ACTIVATION_KILLED, Fault.SUSPECT),
]


@pytest.mark.parametrize(("returncode", "tail", "kind", "fault"), FAILURES)
def test_a_failed_activation_is_undone(world, returncode, tail, kind, fault):
    world.nixos_rebuild.ends = ActivationExit(returncode, tail)
    world.nixos_rebuild.moves_before_failing = True
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.FAILED)
    assert report.error.kind is kind
    assert "the running system is the candidate" in report.error.message
    assert world.links() == (OLD, OLD, OLD)
    assert world.summary()["running"] == OLD
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.previous) == ("rolled-back", kind, OLD)
    assert (row.fault, row.reasons) == (fault, ((kind, report.error.message),))
    denied = [denial.toplevel for denial in world.journal.denials(world.clock.now())]
    assert denied == ([NEW] if fault is Fault.BROKEN else [])


def test_an_activation_that_was_refused_before_it_began_is_no_roll_back(world):
    world.nixos_rebuild.ends = ActivationExit(1, "error: the pre-switch check failed")
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.ACTIVATION_FAILED)
    assert world.systemd.activated == []
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
    assert (world.last_row().outcome, world.last_row().fault) == ("failed", "suspect")


@pytest.mark.parametrize("action", [Action.SWITCH, Action.TEST])
def test_a_system_that_only_a_reboot_can_start_is_no_roll_back_where_nothing_has_moved(
    world, action
):
    """As nixos-rebuild ends where switch-to-configuration refuses another init before it begins."""
    world.nixos_rebuild.ends = ActivationExit(100, "")
    report = world.run(replace(WATCHFUL, action=action))
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.ACTIVATION_NEEDS_REBOOT)
    assert (world.systemd.activated, "set-profile" in world.steps) == ([], False)
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
    assert (world.last_row().outcome, world.last_row().fault) == ("failed", "suspect")


REFUSALS = [
    (2, "This is not a NixOS installation!", Kind.HOST_NOT_NIXOS),
    (1, "This is not a NixOS installation!", Kind.HOST_NOT_NIXOS),
    (1, "Pre-switch check 'a' failed\nPre-switch checks failed", Kind.PRE_SWITCH_CHECK_FAILED),
    (13, "Could not open lock", Kind.ACTIVATION_REFUSED),
    (1, "Failed to start transient service unit: Access denied", Kind.ACTIVATION_REFUSED),
]


@pytest.mark.parametrize("action", [Action.SWITCH, Action.BOOT])
@pytest.mark.parametrize(("returncode", "tail", "kind"), REFUSALS)
def test_what_was_refused_before_it_began_is_never_denied(world, returncode, tail, kind, action):
    world.nixos_rebuild.ends = ActivationExit(returncode, tail)
    world.nixos_rebuild.moves_before_failing = True
    world.nixos_rebuild.activate = lambda _, path: setattr(world.host, "profile", path)
    for _ in range(4):
        report = world.run(replace(WATCHFUL, action=action))
        assert (report.outcome, report.error.kind) == (Outcome.FAILED, kind)
        assert world.links() == (OLD, OLD, OLD)
        assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
        assert events.PROFILE_GIVEN_BACK.name in world.told.names()
        assert (world.last_row().outcome, world.last_row().fault) == ("failed", "suspect")
        world.clock.move(86400)
    assert world.systemd.activated == []
    assert world.journal.denied == []


def test_a_test_that_was_refused_leaves_nothing_to_give_back(world):
    world.nixos_rebuild.ends = ActivationExit(2, "This is not a NixOS installation!")
    report = world.run(replace(WATCHFUL, action=Action.TEST))
    assert report.error.kind is Kind.HOST_NOT_NIXOS
    assert "set-profile" not in world.steps
    assert (world.marks.read(), world.links()) == (Marks(confirmed=OLD), (OLD, OLD, OLD))


def test_a_profile_that_cannot_be_given_back_does_not_hide_why_it_was_refused(world):
    world.profile.fault = HostError(Kind.ROLL_BACK_FAILED, "no room")
    world.nixos_rebuild.ends = ActivationExit(1, "Pre-switch checks failed")
    world.nixos_rebuild.moves_before_failing = True
    world.nixos_rebuild.activate = lambda _, path: setattr(world.host, "profile", path)
    report = world.run()
    assert report.error.kind is Kind.PRE_SWITCH_CHECK_FAILED
    assert world.marks.read().pending == NEW  # the next run tries again


def test_a_test_that_broke_off_among_the_services_is_undone_though_no_link_has_moved(world):
    said = "stopping the following units: a.service\nUnable to list users with logind: x"
    world.nixos_rebuild.ends = ActivationExit(1, said)
    assert world.run(replace(WATCHFUL, action=Action.TEST)).outcome is Outcome.ROLLED_BACK
    assert world.systemd.activated == [(Action.TEST, OLD)]


def test_what_failed_for_a_reason_that_may_pass_is_tried_again_later_and_later(world):
    world.nixos_rebuild.ends = ActivationExit(1, "")
    world.run()
    for minutes in (10, 20):
        assert [name for name, _ in world.run().reasons] == ["suspect"]
        world.clock.move(60 * minutes)
        assert world.run().error.kind is Kind.ACTIVATION_FAILED
    world.nixos_rebuild.ends = ActivationExit(0, "")
    world.clock.move(60 * 40)
    assert world.run().outcome is Outcome.CONFIRMED


def test_what_has_to_be_rolled_back_from_twice_is_denied_whatever_the_cause(world):
    world.nixos_rebuild.ends = ActivationExit(-9, "")
    world.nixos_rebuild.moves_before_failing = True
    world.run()
    world.clock.move(600)
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.last_row().fault == "broken"
    world.clock.move(86400)
    assert [name for name, _ in world.run().reasons] == ["denied"]


@pytest.mark.parametrize(
    ("code", "tail", "back"),
    [
        (1, "Failed to install bootloader", Action.BOOT),
        (1, "stopping the following units: a.service", Action.SWITCH),
        (1, "activating the configuration...", Action.SWITCH),
        # With any other code nobody knows how far it came, whatever it has not said.
        (2, "", Action.SWITCH),
        (-9, "Failed to install bootloader", Action.SWITCH),
    ],
)
def test_the_services_are_left_alone_where_the_switch_had_not_come_to_them(world, code, tail, back):
    world.nixos_rebuild.ends = ActivationExit(code, tail)
    world.nixos_rebuild.moves_before_failing = True
    world.nixos_rebuild.activate = lambda _, path: world.host.activate(Action.BOOT, path)
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.systemd.activated == [(back, OLD)]
    assert world.links() == (OLD, OLD, OLD)


def test_a_failed_test_is_undone_without_the_profile(world):
    world.nixos_rebuild.ends = ActivationExit(2, "")
    world.nixos_rebuild.moves_before_failing = True
    assert world.run(replace(WATCHFUL, action=Action.TEST)).outcome is Outcome.ROLLED_BACK
    assert world.systemd.activated == [(Action.TEST, OLD)]
    assert "set-profile" not in world.steps


def test_a_failed_dry_activation_leaves_nothing_to_undo(world):
    world.nixos_rebuild.ends = ActivationExit(1, "")
    report = world.run(replace(WATCHFUL, action=Action.DRY_ACTIVATE))
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.ACTIVATION_FAILED)
    assert world.systemd.activated == []
    assert world.marks.read() == Marks(confirmed=OLD)


# Units that failed in the switch


def changes_units(world, *failing, knows=True):
    """Let the switch change `a.service`, end with 4 and leave units failed behind."""

    def fails():
        world.systemd.failed = frozenset(failing) if knows else None

    world.host.contents[NEW].units["a.service"] = "new"
    world.nixos_rebuild.ends = ActivationExit(4, "")
    world.nixos_rebuild.moves_before_failing = True
    world.steps.at("switch", fails)


def test_a_unit_that_this_switch_has_changed_and_that_fails_in_it_is_the_end_of_it(world):
    changes_units(world, "a.service", "b.service")
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.UNITS_FAILED)
    assert "units failed: a.service;" in report.error.message
    assert world.last_row().fault == "broken"


@pytest.mark.parametrize(
    ("failed_before", "failing", "ignored"),
    [
        ((), ("b.service",), ()),
        ((), (CONFIRM_UNIT,), ()),  # it waits for the lock, or for the switch to end
        (("a.service",), ("a.service",), ()),
        ((), ("a.service",), ("a.*",)),
    ],
)
def test_a_unit_that_fails_through_no_fault_of_the_switch_is_left_to_the_confirmation(
    world, failed_before, failing, ignored
):
    world.systemd.failed = frozenset(failed_before)
    world.host.contents[NEW].units[CONFIRM_UNIT] = "new"
    changes_units(world, *failing)
    policy = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, ignored_units=ignored))
    assert world.run(policy).outcome is Outcome.CONFIRMED


def test_a_job_that_its_timer_has_started_is_no_failed_switch(world):
    changes_units(world, "a.service")
    world.systemd.by_timers = frozenset({"a.service"})
    report = world.run()
    assert report.outcome is Outcome.CONFIRMED
    assert world.host.running == NEW


def test_where_nobody_knows_what_has_started_a_unit_it_is_not_proven_broken(world):
    changes_units(world, "a.service")
    world.systemd.by_timers = None
    world.run()
    assert world.last_row().fault == "suspect"
    assert world.journal.denied == []


def test_where_nobody_knows_which_units_failed_the_exit_code_is_taken_at_its_word(world):
    changes_units(world, knows=False)
    assert world.run().error.kind is Kind.UNITS_FAILED
    assert (world.last_row().fault, world.journal.denied) == ("suspect", [])


def test_where_nobody_knew_which_units_had_failed_before_it_is_taken_at_its_word_too(world):
    world.systemd.failed = None
    changes_units(world)
    assert world.run().error.kind is Kind.UNITS_FAILED


def test_from_an_unknown_system_nobody_knows_which_units_the_switch_has_changed(world):
    world.marks.set(Mark.CONFIRMED, OLD)
    world.host.running = None
    changes_units(world)
    assert world.run().error.kind is Kind.UNITS_FAILED


# A roll-back that the settings, or someone else, decide about


def test_a_system_that_runs_may_have_migrated_its_data_and_is_left_to_a_person(world):
    world.nixos_rebuild.ends = ActivationExit(2, SCRIPT_FAILED)
    world.nixos_rebuild.moves_before_failing = True
    report = world.run(HOLDS)
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.ACTIVATION_SCRIPT_FAILED)
    assert world.links() == (NEW, OLD, NEW)
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert world.told.fields_of(events.CONFIRMATION_BROKEN)["rolls_back"] is False
    assert (world.last_row().outcome, world.last_row().fault) == ("pending", "broken")


def test_a_system_that_does_not_run_has_migrated_nothing(world):
    world.nixos_rebuild.ends = ActivationExit(1, "")
    world.nixos_rebuild.moves_before_failing = True
    world.nixos_rebuild.activate = lambda _, path: world.host.activate(Action.BOOT, path)
    assert world.run(HOLDS).outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)


def test_an_activation_that_failed_and_was_confirmed_by_someone_else_is_not_undone(world):
    def is_confirmed():
        world.marks.links[Mark.CONFIRMED] = world.marks.links.pop(Mark.PENDING)
        FakeJournal.record(world.journal, altered(world.last_row(), outcome="confirmed"))

    world.nixos_rebuild.ends = ActivationExit(2, "")
    world.nixos_rebuild.moves_before_failing = True
    world.steps.at("pending to rolling-back", is_confirmed)
    report = world.run()
    assert (report.exit_code, world.systemd.activated) == (ExitCode.FAILED, [])
    assert events.CLAIM_LOST.name in world.told.names()
    assert world.last_row().outcome == "confirmed"
    assert world.links() == (NEW, OLD, NEW)


# Someone else's activation


def test_beside_someone_elses_activation_nothing_is_begun(world):
    world.systemd.is_running = True
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert report.error.kind is Kind.ACTIVATION_BUSY
    assert world.steps.among("journal armed", "mark pending", "arm", "switch") == []
    assert world.is_untouched()


LOST = [
    (1, "Unit x was already loaded"),
    (1, "Could not acquire lock"),
    (11, "Could not acquire lock"),
]


def loses(world, returncode=11, tail="Could not acquire lock"):
    """Let the agent's activation be refused, after its nixos-rebuild has moved the profile."""
    world.nixos_rebuild.ends = ActivationExit(returncode, tail)
    world.nixos_rebuild.moves_before_failing = True
    world.nixos_rebuild.activate = lambda _, path: setattr(world.host, "profile", path)


def assert_held(world, report):
    """Assert that another hand was first, and that nobody is to blame for that."""
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
    assert (world.systemd.activated, world.systemd.stops) == ([], 0)
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.fault) == ("held", "activation-busy", None)


@pytest.mark.parametrize(("returncode", "tail"), LOST)
def test_a_lost_race_gives_the_profile_back_and_leaves_the_rest_to_the_winner(
    world, returncode, tail
):
    loses(world, returncode, tail)
    world.nixos_rebuild.activate = lambda _, path: world.host.activate(Action.BOOT, path)
    world.steps.at("switch", lambda: world.somebody_switches(OTHER))
    report = world.run()
    assert_held(world, report)
    assert world.links() == (OTHER, OLD, OTHER)


@pytest.mark.parametrize("action", [Action.SWITCH, Action.TEST, Action.BOOT])
def test_a_lost_race_is_held_once_the_winner_has_done_what_it_does(world, action):
    world.host.contents[OTHER] = world.host.contents[OLD]

    def begins():
        world.systemd.is_running = True
        if action.moves_profile:
            world.host.profile = OTHER

    def ends():
        if world.clock.seconds > 20 and world.systemd.is_running:
            world.systemd.is_running = False
            world.host.switch_to(action, OTHER)

    loses(world)
    world.steps.at("switch", begins)
    world.clock.on_sleep = ends
    report = world.run()
    assert_held(world, report)
    assert events.RIVAL_AWAITED.name in world.told.names()
    running = OLD if action is Action.BOOT else OTHER
    profile = OTHER if action.moves_profile else OLD
    assert world.links() == (running, OLD, profile)
    assert world.host.loader.default() == (OTHER if action.moves_profile else OLD)
    assert [name for name, _ in world.run().reasons] == ["foreign-system"]


def test_a_boot_default_that_the_winner_has_set_past_the_profile_is_foreign_too(world):
    loses(world)
    world.steps.at("switch", lambda: world.host.switch_to(Action.BOOT, OTHER))
    assert_held(world, world.run())
    assert world.links() == (OLD, OLD, OLD)
    ((name, reason),) = world.run().reasons
    assert name == "foreign-system"
    assert f"the boot default is {OTHER}" in reason
    assert world.host.loader.default() == OTHER


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_boot_default_that_the_agent_has_left_is_not_foreign(world, is_readable):
    world.run()
    assert world.marks.read().confirmed == NEW
    world.host.loader.installed = OLD if is_readable else OTHER
    if not is_readable:
        world.journal.read_fault = JournalError(Kind.STATE_IO_ERROR, "no history")
    assert find_foreign(world.ports) is None


def test_a_winner_that_brings_the_very_candidate_keeps_its_profile(world):
    loses(world)
    world.steps.at("switch", lambda: world.host.switch_to(Action.SWITCH, NEW))
    report = world.run()
    assert_held(world, report)
    assert world.links() == (NEW, OLD, NEW)


def test_of_a_winner_that_does_not_end_the_next_run_sees_what_has_come(world):
    loses(world)
    world.steps.at("switch", lambda: setattr(world.systemd, "is_running", True))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.HELD, Kind.ACTIVATION_BUSY)
    assert world.clock.seconds == WATCHFUL.activate_deadline.total_seconds()
    assert world.marks.read().pending == NEW
    assert (world.last_row().outcome, world.systemd.stops) == ("activating", 0)
    world.systemd.is_running = False
    world.host.switch_to(Action.TEST, OTHER)
    world.steps.calm()
    assert [name for name, _ in world.run().reasons] == ["foreign-system"]
    assert world.links() == (OTHER, OLD, OLD)
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_generation_that_a_person_has_left_long_ago_does_not_come_back(world):
    left = system(8)
    world.host.profile = left
    world.host.generation = 1  # as `nixos-rebuild --rollback` does
    loses(world)
    world.run()
    assert world.host.profile == OLD


def test_where_the_loader_is_unknown_the_generation_before_may_be_the_winners(world):
    world.host.loader.installed = None
    loses(world)
    world.steps.at("switch", lambda: setattr(world.host, "profile", OTHER))
    world.run()
    assert world.host.profile == OTHER


def test_a_system_that_a_person_has_switched_to_meanwhile_is_not_rolled_back_over(world):
    world.nixos_rebuild.ends = ActivationExit(-15, "", timed_out=True)
    world.steps.at("switch", lambda: world.somebody_switches(OTHER))
    report = world.run()
    assert_held(world, report)
    assert world.links() == (OTHER, OLD, OTHER)

    world = World()
    world.publish(1, NEW)
    world.nixos_rebuild.ends = ActivationExit(4, "")
    world.steps.at("switch", lambda: world.somebody_switches(OTHER))
    assert world.run().error.kind is Kind.UNITS_FAILED
    assert world.links() == (OTHER, OLD, OTHER)
    assert (world.last_row().outcome, world.last_row().fault) == ("failed", None)


# The agent was first, and another hand's nixos-rebuild has lost


def moves_the_profile(world, *, boots=False):
    """Let a person's nixos-rebuild move the profile in the midst of the agent's activation.

    It is refused then; or, with `boots`, a `boot` that comes to its end right afterwards.
    """
    world.host.contents[OTHER] = world.host.contents[OLD]

    def activate(action, path):
        world.host.activate(action, path)
        world.host.profile = OTHER
        if boots:
            world.host.switch_to(Action.BOOT, OTHER)

    world.nixos_rebuild.activate = activate


def test_the_profile_that_a_loser_has_moved_is_the_candidates_again(world):
    moves_the_profile(world)
    report = world.run()
    assert report.outcome is Outcome.CONFIRMED
    assert world.links() == (NEW, OLD, NEW)
    assert world.told.fields_of(events.PROFILE_GIVEN_BACK)["profile"] == NEW
    assert world.marks.read() == Marks(confirmed=NEW)


def test_what_a_loser_has_moved_is_seen_where_it_is_the_old_profile_too(world):
    moves_the_profile(world)
    usual = world.nixos_rebuild.activate

    def activate(action, path):
        usual(action, path)
        world.host.profile = OLD

    world.nixos_rebuild.activate = activate
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.links() == (NEW, OLD, NEW)


def test_a_candidate_is_staged_though_a_loser_has_moved_the_profile(world):
    moves_the_profile(world)
    report = world.run(replace(WATCHFUL, action=Action.BOOT))
    assert report.outcome is Outcome.STAGED
    assert (world.host.profile, world.host.loader.default()) == (NEW, NEW)


def test_a_finished_boot_of_a_persons_stays_and_blames_nobody(world):
    moves_the_profile(world, boots=True)
    report = world.run()
    assert report.outcome is Outcome.CONFIRMED
    assert world.links() == (NEW, OLD, OTHER)
    assert world.host.loader.default() == OTHER
    assert world.marks.read() == Marks(confirmed=OLD, tested=NEW)
    assert [name for name, _ in world.run().reasons] == ["foreign-system"]
    assert world.last_row().fault is None


def test_a_finished_boot_of_a_persons_takes_the_place_of_what_the_agent_has_staged(world):
    moves_the_profile(world, boots=True)
    report = world.run(replace(WATCHFUL, action=Action.BOOT))
    assert_held(world, report)
    assert (world.host.profile, world.host.loader.default()) == (OTHER, OTHER)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_profile_stays_where_it_is_not_proven_to_be_a_losers(world, is_silent):
    moves_the_profile(world)
    if is_silent:
        world.steps.at("switch", lambda: setattr(world.systemd, "lost_answers", 1))
    else:
        world.steps.at("switch", lambda: setattr(world.host.loader, "installed", None))
        usual = world.nixos_rebuild.activate

        def activate(action, path):
            usual(action, path)
            world.host.loader.installed = None

        world.nixos_rebuild.activate = activate
    report = world.run()
    assert report.outcome is Outcome.CONFIRMED
    assert world.links() == (NEW, OLD, OTHER)


def test_a_broken_system_goes_and_a_persons_finished_boot_stays(world):
    moves_the_profile(world, boots=True)
    world.steps.at("switch", world.service_breaks)
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OTHER)
    assert world.host.loader.default() == OTHER
    assert world.systemd.activated == [(Action.TEST, OLD)]


def test_a_loser_does_not_keep_a_roll_back_from_its_end(world):
    def loses():
        world.host.profile = OTHER

    world.nixos_rebuild.ends = ActivationExit(-9, "")
    world.nixos_rebuild.moves_before_failing = True
    world.steps.at("switch-to-configuration switch", loses)
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.links() == (OLD, OLD, OLD)
    assert world.systemd.activated == [(Action.SWITCH, OLD)]


def test_a_lost_race_leaves_a_profile_that_was_the_candidate_already(world):
    world.host.profile = OTHER
    world.host.profile = NEW
    world.nixos_rebuild.ends = ActivationExit(1, "Unit x was already loaded")
    gates = frozenset({"foreign-system"})
    report = world.carry_out(upgrade, ignored_gates=gates)
    assert report.error.kind is Kind.ACTIVATION_BUSY
    assert (world.host.profile, world.marks.read().pending) == (NEW, None)


# Activations that outlive their time


def test_an_activation_that_takes_too_long_is_awaited_and_then_judged_by_what_it_did(world):
    def goes_on():
        world.systemd.is_running = True

    def ends():
        if world.clock.seconds > 20:
            world.systemd.is_running = False
            world.host.activate(Action.SWITCH, NEW)

    world.nixos_rebuild.ends = ActivationExit(-15, "", timed_out=True)
    world.steps.at("switch", goes_on)
    world.clock.on_sleep = ends
    report = world.run()
    assert report.outcome is Outcome.CONFIRMED
    assert "activation.awaited" in world.told.names()
    assert "stop-activation" not in world.steps


def test_an_activation_that_hangs_is_stopped_and_undone(world):
    def goes_on():
        world.systemd.works_on(NEW)
        world.host.profile = NEW

    world.nixos_rebuild.ends = ActivationExit(-15, "", timed_out=True)
    world.steps.at("switch", goes_on)
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.ACTIVATION_TIMEOUT)
    assert world.told.names().count("activation.stopped") == 1
    assert world.links() == (OLD, OLD, OLD)
    assert world.last_row().fault == "suspect"
    assert world.clock.seconds == WATCHFUL.confirm.deadline.total_seconds()


def test_an_activation_that_takes_too_long_and_has_ended_by_then_is_not_waited_for(world):
    world.nixos_rebuild.ends = ActivationExit(-15, "", timed_out=True)
    assert world.run().error.kind is Kind.ACTIVATION_TIMEOUT
    assert "activation.awaited" not in world.told.names()


def test_an_activation_that_lies_about_its_success_is_found_out(world):
    world.nixos_rebuild.activate = lambda *_: None
    assert world.run().error.kind is Kind.ACTIVATION_INEFFECTIVE


# What cannot be written


def once(fault):
    """Let something fail when it happens first."""
    faults = [fault]

    def happen():
        if faults:
            raise faults.pop()

    return happen


NO_ROOM = JournalError(Kind.STATE_FULL, "no room")


def test_what_is_held_against_a_refused_system_is_written_with_the_end_of_the_run(world):
    world.nixos_rebuild.ends = ActivationExit(1, "error: the pre-switch check failed")
    world.steps.at("journal failed", once(NO_ROOM))
    world.run()
    row = world.last_row()
    assert (row.outcome, row.fault, row.previous) == (Outcome.FAILED, Fault.SUSPECT, OLD)


def test_a_system_that_only_a_reboot_can_start_has_touched_nothing_in_the_history_either(world):
    world.nixos_rebuild.refuses = lambda *_: refused_by("switchInhibitors")
    world.steps.at("journal failed", once(NO_ROOM))
    world.run(replace(WATCHFUL, action=Action.BOOT))
    row = world.last_row()
    assert (row.outcome, row.fault, row.previous) == (Outcome.HELD, None, None)


def test_a_system_whose_activation_failed_is_not_confirmed_though_that_could_not_be_written(world):
    world.nixos_rebuild.ends = ActivationExit(2, SCRIPT_FAILED)
    world.nixos_rebuild.moves_before_failing = True
    world.steps.at("journal pending", once(NO_ROOM))
    assert world.run(HOLDS).outcome is Outcome.FAILED
    assert (world.last_row().outcome, world.last_row().fault) == (Outcome.PENDING, Fault.BROKEN)
    assert world.run(HOLDS).outcome is not Outcome.CONFIRMED
