from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.application import events
from agent.application.manual import verdicts
from agent.application.ports import ActivationExit
from agent.application.run import RunSettings
from agent.application.upgrade import upgrade
from agent.domain.build import Build
from agent.domain.errors import ExitCode, HostError, HydraError, JournalError, Kind
from agent.domain.facts import FreeSpace
from agent.domain.job import Select
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, RebootMode
from fakes.pending import pending_world
from fakes.runs import an_arrival, highest
from fakes.samples import JOB, OLD
from fakes.world import STORE, WATCHFUL, PowerCut, World, flake_of, system

NEW, NEWER = system(1), system(2)
BOOT = replace(WATCHFUL, action=Action.BOOT)
REBOOTS = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED)


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


@pytest.fixture
def settled(world):
    """A host that the agent has brought to NEW."""
    world.run()
    assert world.host.running == NEW
    return world


# Nothing to do


def test_a_host_on_the_newest_good_build_has_nothing_to_do(settled):
    report = settled.run()
    assert (report.decision, report.outcome) == ("done", Outcome.NOTHING_TO_DO)
    assert report.exit_code is ExitCode.DONE
    assert "switch" not in settled.steps


def test_a_run_with_nothing_to_do_adds_no_row_and_asks_no_gate(settled):
    before = list(settled.journal.written)
    settled.run()
    assert settled.journal.written == before
    assert settled.steps.among("plan_fetch", "free-space", "probe canary") == []
    assert settled.told.names() == [
        "run.started", "hydra.build_selected", "run.decided", "run.finished"
    ]  # fmt: skip


def test_a_host_is_not_taken_back_before_the_build_it_was_found_on(world):
    world.publish(2, NEWER)
    world.host.running = world.host.profile = NEWER
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    world.change(2, is_finished=False)
    report = world.run()
    assert [name for name, _ in report.reasons] == ["downgrade"]
    assert world.host.running == NEWER


def test_a_revert_that_changed_nothing_here_still_counts_as_the_newest_build(settled):
    settled.publish(2, NEWER)
    settled.publish(3, NEW)
    assert settled.run().outcome is Outcome.NOTHING_TO_DO
    settled.change(3, is_finished=False)
    assert [name for name, _ in settled.run().reasons] == ["downgrade"]


def test_a_run_with_nothing_to_do_leaves_the_note_for_the_idle_path(settled):
    settled.run()
    assert settled.idle_note.build_id == 1


def test_a_run_that_has_upgraded_leaves_no_note_for_the_idle_path(world):
    world.run()
    assert world.idle_note.build_id is None


def test_a_dry_activation_leaves_the_host_where_it_was_and_no_build_behind(world):
    dry = replace(WATCHFUL, action=Action.DRY_ACTIVATE)
    world.run(dry)
    assert world.run(dry).outcome is Outcome.NOTHING_TO_DO
    assert highest(world.journal, JOB) is None
    assert world.marks.read() == Marks(confirmed=OLD)


def test_a_note_does_not_outlive_a_run_that_finds_something_to_do(settled):
    settled.run()
    settled.publish(2, NEWER)
    settled.run()
    assert settled.idle_note.build_id is None


def test_the_note_of_an_earlier_run_is_forgotten_before_the_host_is_touched(settled):
    settled.run()
    settled.publish(2, NEWER)
    settled.nixos_rebuild.ends = ActivationExit(1, "")
    assert settled.run().outcome is Outcome.FAILED
    assert settled.idle_note.build_id is None
    assert settled.steps.among("idle-note forgotten", "switch") == ["idle-note forgotten", "switch"]


def test_where_the_note_cannot_be_forgotten_nothing_is_done(world):
    world.steps.at("idle-note forgotten", HostError(Kind.STATE_READ_ONLY, "read-only"))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.STATE_READ_ONLY)
    assert "newest_good_build" not in world.steps


def test_what_an_earlier_run_has_left_is_ended_before_a_history_that_cannot_be_written_counts():
    world = pending_world()
    world.journal.fault = JournalError(Kind.JOURNAL_TOO_NEW, "of a newer agent")
    world.service_breaks()
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.JOURNAL_TOO_NEW)
    assert world.links() == (OLD, OLD, OLD)
    assert "newest_good_build" not in world.steps


def test_a_note_that_cannot_be_written_is_a_warning(settled):
    settled.steps.at("idle-note", HostError(Kind.STATE_FULL, "full"))
    report = settled.run()
    assert (report.outcome, report.exit_code) == (Outcome.NOTHING_TO_DO, ExitCode.DONE)
    assert settled.told.fields_of(events.IDLE_NOTE_FAILED)["error.kind"] == "state-full"


def test_the_same_system_from_a_newer_build_is_nothing_to_do(settled):
    settled.publish(2, NEW)
    assert settled.run().outcome is Outcome.NOTHING_TO_DO
    assert settled.idle_note.build_id == 2


def test_the_last_contact_is_noted_even_when_nothing_is_to_do(settled):
    settled.clock.move(3600)
    settled.run()
    assert settled.journal.contact == settled.clock.now()


# The outlook


def test_a_host_with_nothing_to_do_is_told_that_the_newest_build_is_red(settled):
    settled.publish(2, NEWER)
    settled.change(2, status=1)
    assert settled.run().outcome is Outcome.NOTHING_TO_DO
    assert "hydra.newer_build_failed" in settled.told.names()


def test_a_host_with_nothing_to_do_is_told_that_its_job_is_gone(settled):
    settled.jobset.evals[2000] = flake_of(2000)
    settled.run()
    assert settled.told.fields_of(events.JOB_GONE) == {"eval_id": 2000}


def test_a_host_with_nothing_to_do_is_told_that_the_jobset_is_disabled(settled):
    settled.jobset.is_enabled = False
    settled.run()
    assert "hydra.jobset_disabled" in settled.told.names()


def test_a_host_with_nothing_to_do_is_told_that_evaluation_is_broken(settled):
    settled.jobset.error = "error: undefined variable 'pkgs'"
    settled.run()
    said = settled.told.fields_of(events.EVALUATION_BROKEN)
    assert said == {"message": "error: undefined variable 'pkgs'"}


def test_an_outlook_that_hydra_does_not_give_spoils_nothing(settled):
    def goes_away():
        settled.hydra.fault = HydraError(Kind.HYDRA_TIMEOUT, "slow")

    settled.steps.at("outlook", goes_away)
    assert settled.run().outcome is Outcome.NOTHING_TO_DO
    assert settled.told.fields_of(events.OUTLOOK_UNKNOWN)["error.kind"] == "hydra-timeout"
    assert settled.idle_note.build_id == 1


def test_no_outlook_is_asked_for_when_there_is_something_to_do(world):
    world.run()
    assert "outlook" not in world.steps


# What a newer build does


def test_a_newer_good_build_is_taken(settled):
    settled.publish(2, NEWER)
    assert settled.run().outcome is Outcome.CONFIRMED
    assert settled.host.running == NEWER


def test_a_newer_unfinished_build_is_left_alone(settled):
    settled.publish(2, NEWER)
    settled.change(2, is_finished=False, status=None)
    assert settled.run().outcome is Outcome.NOTHING_TO_DO


def test_latest_finished_waits_for_the_whole_eval(settled):
    settled.publish(2, NEWER)
    waits = Build(3, "p", "j", "other", "x86_64-linux", False, None, {}, (1002,), None)  # noqa: FBT003
    settled.hydra.add(waits)
    patient = replace(WATCHFUL, select=Select.LATEST_FINISHED)
    assert settled.run(patient).outcome is Outcome.NOTHING_TO_DO
    assert settled.run().outcome is Outcome.CONFIRMED


def test_the_system_of_a_build_that_was_taken_back_is_not_downgraded_from(settled):
    settled.publish(2, NEWER)
    settled.run()
    settled.change(2, is_finished=False)
    report = settled.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert [name for name, _ in report.reasons] == ["downgrade"]
    assert settled.host.running == NEWER


# Someone else's system


def test_a_system_that_a_person_brought_is_left_alone_for_a_time_and_then_replaced(settled):
    person = system(77)
    settled.somebody_switches(person)
    report = settled.run()
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert [name for name, _ in report.reasons] == ["foreign-system"]
    assert settled.host.running == person
    settled.clock.move(WATCHFUL.foreign_hold.total_seconds())
    assert settled.run().outcome is Outcome.CONFIRMED
    assert settled.last_row().previous == person


def test_a_person_may_have_it_replaced_at_once(settled):
    settled.somebody_switches(system(77))
    gates = frozenset({"foreign-system"})
    report = settled.carry_out(upgrade, ignored_gates=gates, ignored_because="enough", by="eve")
    assert report.outcome is Outcome.CONFIRMED
    assert settled.told.fields_of(events.GATE_IGNORED)["given_reason"] == "enough"


def test_the_first_run_adopts_the_system_that_it_finds(world):
    world.canary_dies()
    world.run()
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.told.fields_of(events.SYSTEM_ADOPTED) == {"toplevel": OLD}
    world.run()
    assert "system.adopted" not in world.told.names()


def test_a_candidate_that_a_person_brought_here_is_adopted(settled):
    settled.publish(2, NEWER)
    settled.somebody_switches(NEWER)
    assert settled.run().outcome is Outcome.NOTHING_TO_DO
    assert settled.marks.read().confirmed == NEWER
    assert settled.told.fields_of(events.SYSTEM_ADOPTED) == {"toplevel": NEWER}


@pytest.mark.parametrize("profile", [OLD, None])
def test_a_candidate_that_merely_runs_is_not_adopted(world, profile):
    world.run(replace(WATCHFUL, action=Action.TEST))
    world.host.profile = profile
    assert world.run(replace(WATCHFUL, action=Action.TEST)).outcome is Outcome.NOTHING_TO_DO
    assert world.marks.read() == Marks(confirmed=OLD, tested=NEW)


# Confirmation


def test_an_upgrade_is_confirmed_by_the_new_systems_agent(world):
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.CONFIRMED, ExitCode.DONE)
    assert world.marks.read() == Marks(confirmed=NEW)
    assert "confirmation.judged" in world.told_by_new.names()
    assert "confirmation.judged" not in world.told.names()
    assert (world.systemd.timer, world.confirmations) == (None, 1)


def test_an_upgrade_that_proves_broken_is_undone_and_not_tried_again_but_a_newer_build_is(world):
    world.steps.at("switch", world.service_breaks)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.FAILED)
    assert report.error.kind is Kind.ROLLED_BACK
    assert (world.host.running, world.host.profile) == (OLD, OLD)
    assert world.marks.read() == Marks(confirmed=OLD)
    assert (world.last_row().outcome, world.last_row().fault) == ("rolled-back", "broken")
    world.all_is_well()
    world.steps.calm()
    report = world.run()
    assert [name for name, _ in report.reasons] == ["denied"]
    assert report.exit_code is ExitCode.HELD
    world.publish(2, NEWER)
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.host.running == NEWER


def test_a_check_that_came_with_the_new_system_cannot_prove_it_broken(world):
    (service,) = WATCHFUL.confirm.checks
    new = replace(service, name="new", host="new.example")
    world.new_policy = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, checks=(service, new)))
    world.prober.reasons["new.example"] = "no reply"
    report = world.run()
    assert report.outcome is Outcome.PENDING
    assert [name for name, _ in report.reasons] == ["check-new"]
    assert world.host.running == NEW


def test_a_check_that_the_new_system_has_no_more_does_not_count(world):
    world.new_policy = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, checks=()))
    world.steps.at("switch", world.service_breaks)
    assert world.run().outcome is Outcome.CONFIRMED


@pytest.fixture
def pending(world):
    """A host on NEW, which cannot be judged since Hydra gives no answer."""
    world.steps.at("switch", world.hydra_is_gone)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert [name for name, _ in report.reasons] == ["hydra-unreachable"]
    world.steps.calm()
    return world


def test_an_upgrade_that_cannot_be_judged_stays_pending_and_the_next_run_holds(pending):
    assert pending.host.running == NEW
    assert pending.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert pending.systemd.timer.toplevel == NEW
    pending.publish(2, NEWER)
    report = pending.run()
    assert (report.decision, report.outcome) == ("hold", Outcome.PENDING)
    assert (report.exit_code, pending.host.running) == (ExitCode.HELD, NEW)
    assert "newest_good_build" not in pending.steps


def test_once_the_earlier_upgrade_is_confirmed_a_run_goes_on_with_its_own_work(pending):
    pending.all_is_well()
    pending.publish(2, NEWER)
    report = pending.run()
    assert (report.decision, report.outcome) == ("upgrade", Outcome.CONFIRMED)
    assert pending.marks.read() == Marks(confirmed=NEWER)
    first, second = pending.journal.rows[-2:]
    assert (first.toplevel, first.outcome) == (NEW, "confirmed")
    assert (second.toplevel, second.outcome) == (NEWER, "confirmed")


def test_once_the_earlier_upgrade_is_rolled_back_a_run_goes_on_with_its_own_work(pending):
    pending.all_is_well()
    pending.service_breaks()
    report = pending.run()
    assert (report.decision, report.outcome, report.error) == ("hold", Outcome.HELD, None)
    assert [name for name, _ in report.reasons] == ["denied"]
    assert pending.marks.read() == Marks(confirmed=OLD)
    assert pending.host.running == OLD


def test_what_a_run_did_about_an_earlier_upgrade_counts_into_its_times(pending):
    pending.all_is_well()
    pending.run()
    assert pending.summary()["outcome"] == "nothing-to-do"
    durations = pending.summary()["durations"]
    assert durations["total"] >= 30
    assert {"recover", "confirm", "observe"} <= set(durations)


def test_an_earlier_activation_that_is_still_at_work_is_waited_for(world):
    world.steps.at("switch", PowerCut())
    with pytest.raises(PowerCut):
        world.run()
    world.steps.calm()
    world.systemd.is_running = True
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert [name for name, _ in report.reasons] == ["activation-busy"]
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert world.journal.under_way().outcome == "activating"


def test_a_host_that_someone_else_upgrades_again_and_again_is_left_to_them(world):
    def upgrades_again():
        world.marks.set(Mark.PENDING, NEW)
        world.host.activate(Action.SWITCH, NEW)

    world.marks.set(Mark.CONFIRMED, OLD)
    world.steps.at("lock", upgrades_again)
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.HELD, Kind.ACTIVATION_BUSY)
    assert world.steps.count("start confirm") == 3
    assert "newest_good_build" not in world.steps


# Gates


def test_a_dead_canary_holds_the_upgrade_before_anything_is_evaluated(world):
    world.canary_dies()
    report = world.run()
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert report.exit_code is ExitCode.HELD
    assert report.reasons == (("health", "canary: no reply"),)
    assert world.steps.among("evaluate_toplevel", "substitute", "switch") == []
    row = world.last_row()
    assert (row.outcome, row.decision, row.previous) == ("held", "hold", None)
    assert row.reasons == report.reasons


def test_nothing_is_asked_after_the_first_gate_that_holds(world):
    world.host.space = FreeSpace(store=100 << 30, boot=1)
    report = world.run()
    assert [name for name, _ in report.reasons] == ["boot-space"]
    assert world.steps.among("plan_fetch", "probe canary") == []


def test_a_hold_that_lasts_is_one_row_that_counts(world):
    world.canary_dies()
    for _ in range(3):
        world.run()
    assert len(world.journal.rows) == 1
    assert world.last_row().repeats == 2


def test_a_path_that_is_not_cached_yet_is_waited_for(world):
    world.nix.cached.clear()
    report = world.run()
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert report.exit_code is ExitCode.HELD
    assert world.told.fields_of(events.RUN_HELD)["error.kind"] == "path-not-cached"
    assert "run.failed" not in world.told.names()
    assert world.last_row().outcome == "held"


# Waiting for a reboot


def test_a_staged_system_awaits_its_reboot(world):
    assert world.run(BOOT).outcome is Outcome.STAGED
    report = world.run(BOOT)
    assert (report.decision, report.outcome) == ("await-reboot", Outcome.AWAITS_REBOOT)
    assert report.exit_code is ExitCode.DONE
    reason = "the running system is not the profile's"
    assert report.reasons == (("reboot", reason),)
    assert world.told.fields_of(events.REBOOT_NEEDED) == {"reason": reason}
    assert world.steps.among("boot", "reboot", "idle-note") == []
    assert world.last_row().outcome == "awaits-reboot"


def test_a_staged_system_is_rebooted_into_once_that_is_allowed(world):
    world.run(BOOT)
    report = world.run(replace(BOOT, reboot_mode=RebootMode.WHEN_NEEDED))
    assert (report.decision, report.outcome) == ("reboot", Outcome.REBOOTING)
    assert world.steps.among("journal rebooting", "reboot", "boot") == [
        "journal rebooting", "reboot", "journal rebooting"
    ]  # fmt: skip
    assert world.told.fields_of(events.REBOOT_REQUESTED)["reason"] == report.reasons[0][1]
    row = world.last_row()
    assert (row.outcome, row.previous, row.decision) == ("rebooting", OLD, "reboot")


def test_health_is_asked_before_a_reboot_too(world):
    world.run(BOOT)
    world.canary_dies()
    report = world.run(replace(BOOT, reboot_mode=RebootMode.WHEN_NEEDED))
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert report.reasons == (("health", "canary: no reply"),)
    assert "reboot" not in world.steps


def test_a_reboot_from_an_unknown_system_is_recorded_as_one(world):
    world.run(BOOT)
    world.host.running = None
    world.run(replace(BOOT, reboot_mode=RebootMode.WHEN_NEEDED))
    assert world.last_row().previous == "unknown"


def test_a_reboot_that_did_not_help_is_held_and_not_done_again(world):
    world.publish(1, NEW, kernel="k2")
    world.run(REBOOTS)
    world.host.boot()
    world.host.running = world.host.booted = OLD  # the loader chose an older entry
    report = world.run(REBOOTS)
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert [name for name, _ in report.reasons] == ["reboot-ineffective"]
    assert report.exit_code is ExitCode.HELD
    assert world.host.reboots == 1


def test_a_host_whose_profile_was_set_back_is_not_rebooted_into_the_same_again(world):
    world.publish(1, NEW, kernel="k2")
    world.run(REBOOTS)
    world.host.boot()
    world.host.running = world.host.booted = world.host.profile = OLD
    report = world.run(REBOOTS)
    assert [name for name, _ in report.reasons] == ["reboot-ineffective"]
    assert world.host.reboots == 1


def test_a_reboot_that_never_happened_is_asked_for_again(world):
    world.publish(1, NEW, kernel="k2")
    world.run(REBOOTS)
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING
    assert world.host.reboots == 2


def test_without_verification_another_path_than_hydras_is_activated_and_rebooted_into_once(world):
    policy = replace(REBOOTS, verify=False, reboot_mode=RebootMode.ALWAYS)
    world.builds_instead(1, system(9))
    world.run(policy)
    assert world.host.profile == system(9)
    world.host.boot()
    assert world.run(policy).outcome is Outcome.NOTHING_TO_DO
    assert world.host.reboots == 1


# What is recorded


def test_a_failure_is_recorded_with_what_was_known_by_then(world):
    world.change(1, system="aarch64-linux")
    report = world.run()
    assert report.error.kind is Kind.BUILD_OTHER_SYSTEM
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.exit_code) == ("failed", "build-other-system", 65)
    assert (row.decision, row.build_id, row.previous) == ("hold", None, None)
    assert row.error_message == report.error.message


def test_the_candidate_is_bound_to_every_later_event(world):
    world.run()
    assert world.told.bound == {"build_id": 1}


def test_the_run_says_at_its_beginning_what_it_is_to_do(world):
    world.run(BOOT)
    said = world.told.fields_of(events.RUN_STARTED)
    assert said == {"action": "boot", "strategy": "flake", "dry_run": False}


def test_the_selected_build_is_told_with_the_time_it_was_finished(world):
    world.run()
    said = world.told.fields_of(events.BUILD_SELECTED)
    assert said["finished_at"] == "2026-11-21T04:40:00+00:00"
    assert (said["build_id"], said["toplevel"]) == (1, NEW)


# A number that was far too high


FAR_TOO_HIGH = 9007199254740993


@pytest.fixture(params=[FAR_TOO_HIGH, 2147483647, 900])
def misled(request, world):
    """A host that has once taken a build of far too high a number; Hydra is at build 2 now."""
    world.publish(request.param, system(5))
    assert world.run().outcome is Outcome.CONFIRMED
    del world.hydra.builds[request.param]
    world.publish(2, system(2))
    return world


def test_a_number_that_was_far_too_high_holds_and_is_named(misled):
    report = misled.run()
    ((gate, reason),) = report.reasons
    taken = misled.journal.newest_taken(JOB)
    assert gate == "downgrade"
    assert f"older than build {taken.build_id}, which this host has taken" in reason
    assert system(5) in reason


def test_what_a_person_takes_past_the_gate_is_the_new_measure(misled):
    asked = {"ignored_gates": frozenset({"downgrade"}), "ignored_because": "a new Hydra"}
    assert misled.carry_out(upgrade, **asked).outcome is Outcome.CONFIRMED
    assert highest(misled.journal, JOB) == 2
    misled.publish(3, system(3))
    assert misled.run().outcome is Outcome.CONFIRMED
    del misled.hydra.builds[3]
    assert [name for name, _ in misled.run().reasons] == ["downgrade"]


def test_what_a_person_tries_past_the_gate_and_breaks_is_no_measure(misled):
    before = highest(misled.journal, JOB)
    misled.steps.at("switch", misled.service_breaks)
    asked = {"ignored_gates": frozenset({"downgrade"}), "ignored_because": "a new Hydra"}
    assert misled.carry_out(upgrade, **asked).outcome is Outcome.ROLLED_BACK
    assert highest(misled.journal, JOB) == before


def test_a_gate_that_was_open_anyhow_sets_no_measure(world):
    world.journal.record(an_arrival(1, OLD, run_id="earlier"))
    asked = {"ignored_gates": frozenset({"downgrade"}), "ignored_because": "to be sure"}
    assert world.carry_out(upgrade, **asked).outcome is Outcome.CONFIRMED
    assert not world.last_row().sets_measure


def test_once_the_measure_is_forgotten_the_host_goes_on(misled):
    settings = RunSettings("by-hand", STORE, by="ann")
    asyncio.run(verdicts.allow_downgrade(misled.ports, WATCHFUL, settings, "a new Hydra"))
    assert misled.run().outcome is Outcome.CONFIRMED
    assert highest(misled.journal, JOB) == 2


def test_what_a_killed_build_has_left_is_swept_by_the_next_run():
    world = World()
    world.publish(1, OLD)
    world.nixos_rebuild.leavings = 1

    world.run()

    assert world.nixos_rebuild.leavings == 0
