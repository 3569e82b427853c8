from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.application import events
from agent.domain.errors import ExitCode, HostError, HydraError, JournalError, Kind
from agent.domain.marks import Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import RebootMode
from fakes.samples import OLD
from fakes.world import WATCHFUL, PowerCut, World, system

NEW = system(1)
ALWAYS = replace(WATCHFUL, reboot_mode=RebootMode.ALWAYS)
FULL = JournalError(Kind.STATE_FULL, "no room")
BUG = RuntimeError("a port with a fault")
STEPS = [
    "lock", "journal prepare", "idle-note forgotten", "systems", "mark confirmed",
    "newest_good_build", "build", "locked_flake", "journal contact", "highest-build", "free-space",
    "plan_fetch", "journal selected", "fetch_source", "evaluate_toplevel", "journal verified", "substitute",
    "journal fetched", "nixos-rebuild build", "journal armed", "mark pending", "arm",
    "journal activating", "activate-flake", "boot", "pending to staged", "disarm",
    "journal staged", "switch-to-configuration boot", "boot-once", "journal rebooting", "reboot",
]  # fmt: skip
"""Every step of an upgrade with a reboot."""


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def cancel():
    """Ask the run to end, as a signal does."""
    asyncio.current_task().cancel()


def test_the_steps_of_an_upgrade_with_a_reboot_are_known(world):
    assert world.run(ALWAYS).outcome is Outcome.REBOOTING
    steps = [step for step in world.steps if not step.startswith("probe ")]
    assert list(dict.fromkeys(steps)) == STEPS


# Faults


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Kind.HYDRA_REFUSED, ExitCode.UNREACHABLE),
        (Kind.HYDRA_UNAUTHORISED, ExitCode.UNAUTHORISED),
        (Kind.HYDRA_NOT_JSON, ExitCode.BAD_ANSWER),
        (Kind.JOB_MISSING, ExitCode.NOT_FOUND),
        (Kind.JOB_NOT_EVALUATED, ExitCode.NOT_FOUND),
    ],
)
def test_a_fault_of_hydra_ends_the_run_with_its_own_code_and_changes_nothing(world, kind, code):
    world.hydra.fault = HydraError(kind, "sorry", hint="look there")
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, code)
    said = {"error.kind": kind, "error.message": "sorry", "error.hint": "look there"}
    assert world.told.fields_of(events.RUN_FAILED) == said
    assert said.items() <= world.summary().items()
    assert world.summary()["running"] == OLD
    assert world.summary()["decision"] is None
    assert world.host.running == OLD


def test_a_build_that_is_being_built_again_is_waited_for(world):
    def is_restarted():
        world.change(1, is_finished=False)

    world.steps.at("build", is_restarted)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert (report.decision, report.reasons[0][0]) == ("hold", "build-unfinished")
    assert world.last_row().outcome == "held"


def test_a_job_that_waits_for_its_first_good_build_is_waited_for(world):
    world.hydra.fault = HydraError(Kind.JOB_NOT_BUILT_YET, "queued")
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert report.reasons == (("job-not-built-yet", "queued"),)


def test_a_host_whose_links_cannot_be_read_is_a_failure(world):
    world.steps.at("systems", HostError(Kind.HOST_UNREADABLE, "a loop"))
    assert world.run().error.kind is Kind.HOST_UNREADABLE
    assert "running" not in world.summary()


def test_a_fault_while_a_gate_is_asked_ends_the_run(world):
    world.steps.at("free-space", HostError(Kind.HOST_UNREADABLE, "no such directory"))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.HOST_UNREADABLE)


# Another agent, and the history


def test_while_another_agent_is_at_work_the_run_is_held_and_not_recorded(world):
    world.lock.is_taken_by_another()
    report = world.run()
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert report.exit_code is ExitCode.HELD
    assert report.reasons == (("locked", "another agent is running: process 42"),)
    assert world.steps == ["lock"]


def test_a_lock_that_cannot_be_made_is_a_failure_and_not_recorded(world):
    world.steps.at("lock", HostError(Kind.STATE_READ_ONLY, "read-only"))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.STATE_READ_ONLY)
    assert world.steps == ["lock"]


def test_a_history_that_cannot_be_written_ends_the_run_before_hydra_is_asked(world):
    world.steps.at("journal prepare", FULL)
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.STATE_FULL)
    assert "newest_good_build" not in world.steps
    assert world.journal.written == []


def test_a_contact_that_cannot_be_noted_is_a_failure_of_the_history(world):
    world.steps.at("journal contact", FULL)
    assert world.run().error.kind is Kind.STATE_FULL
    assert world.journal.written == []


def test_a_hold_that_cannot_be_recorded_is_a_failure(world):
    world.canary_dies()
    world.steps.at("journal held", FULL)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
    assert world.summary()["error.kind"] == "state-full"


def test_a_confirmation_that_cannot_be_recorded_stands_and_is_recorded_later(world):
    world.steps.at("journal confirmed", FULL)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.CONFIRMED, ExitCode.DONE)
    assert world.told_by_new.fields_of(events.RECORD_FAILED)["error.kind"] == "state-full"
    assert world.marks.read() == Marks(confirmed=NEW)
    assert world.last_row().outcome == "pending"
    world.steps.calm()
    assert world.run().outcome is Outcome.NOTHING_TO_DO
    assert world.last_row().outcome == "confirmed"


def test_a_failure_that_cannot_be_recorded_keeps_its_own_cause(world):
    world.hydra.fault = HydraError(Kind.HYDRA_REFUSED, "refused")
    world.steps.at("journal failed", FULL)
    report = world.run()
    assert (report.error.kind, report.exit_code) == (Kind.HYDRA_REFUSED, ExitCode.UNREACHABLE)
    assert world.summary()["error.kind"] == "hydra-refused"
    assert world.told.names().count("run.failed") == 1
    assert world.told.fields_of(events.RECORD_FAILED)["error.kind"] == "state-full"


# Bugs


@pytest.mark.parametrize("step", STEPS)
def test_a_bug_in_a_port_ends_in_a_traceback_and_one_summary(world, step):
    def breaks_once():
        world.steps.calm()
        raise BUG

    world.steps.at(step, breaks_once)
    report = world.run(ALWAYS)
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.BUG)
    assert world.summary()["error.kind"] == "bug"
    assert world.told.names().count("run.crashed") == 1
    assert "a port with a fault" in world.told.fields_of(events.BUG_FOUND)["exception"]
    assert "Traceback" in world.told.fields_of(events.BUG_FOUND)["exception"]


def test_a_bug_during_activation_is_recorded_and_leaves_its_phase_to_the_next_run(world):
    world.steps.at("switch", BUG)
    world.run()
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.exit_code) == ("activating", "bug", 70)
    assert row.previous == OLD
    assert row.error_message == "RuntimeError: a port with a fault"
    world.steps.calm()
    world.run()
    assert world.journal.rows[0].outcome == "rolled-back"


def test_a_bug_while_the_last_row_is_written_still_ends_in_a_summary(world):
    world.canary_dies()
    world.steps.at("journal held", BUG)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.BUG)
    assert world.told.names().count("run.crashed") == 1


def test_a_bug_while_the_host_is_looked_at_once_more_still_ends_in_a_summary(world):
    def breaks_from_now_on():
        world.steps.at("systems", BUG)

    world.steps.at("switch", breaks_from_now_on)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.BUG)
    assert (world.last_row().outcome, world.last_row().error_kind) == ("activating", "bug")


def test_a_bug_while_an_interrupted_host_is_looked_at_still_ends_in_a_summary(world):
    def breaks_from_now_on():
        world.steps.at("systems", BUG)
        cancel()

    world.steps.at("switch", breaks_from_now_on)
    with pytest.raises(asyncio.CancelledError):
        world.run()
    assert "run.crashed" in world.told.names()
    assert world.last_row().previous == OLD


def test_a_history_that_cannot_be_read_after_an_activation_does_not_undo_it(world):
    def is_lost():
        world.journal.read_fault = JournalError(Kind.STATE_IO_ERROR, "gone")

    world.steps.at("switch", is_lost)
    world.run()
    assert world.host.running == NEW
    assert world.marks.read().confirmed == NEW


# Cancellation


@pytest.mark.parametrize(
    ("kind", "code"),
    [(Kind.INTERRUPTED, ExitCode.INTERRUPTED), (Kind.TERMINATED, ExitCode.TERMINATED)],
)
def test_a_run_that_is_asked_to_end_records_how_far_it_got_and_ends(world, kind, code):
    world.steps.at("switch", cancel)
    with pytest.raises(asyncio.CancelledError):
        world.run(ended_by=lambda: kind)
    assert world.summary()["exit_code"] == code
    assert world.summary()["outcome"] == "failed"
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.exit_code) == ("activating", kind, code)
    assert (row.previous, row.toplevel) == (OLD, NEW)
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert world.systemd.timer is not None


@pytest.mark.parametrize("kind", [Kind.INTERRUPTED, Kind.TERMINATED])
def test_what_was_cut_short_because_someone_asked_is_undone_and_done_again_at_once(world, kind):
    world.steps.at("switch", cancel)
    with pytest.raises(asyncio.CancelledError):
        world.run(ended_by=lambda: kind)
    world.steps.calm()
    report = world.run()
    assert (report.decision, report.outcome) == ("upgrade", Outcome.CONFIRMED)
    assert [row.outcome for row in world.journal.rows] == ["rolled-back", "confirmed"]
    assert world.journal.rows[0].fault is None


def test_what_was_cut_short_for_another_reason_is_undone_and_suspect(world):
    world.steps.at("switch", PowerCut())
    with pytest.raises(PowerCut):
        world.run()
    world.steps.calm()
    report = world.run()
    assert [name for name, _ in report.reasons] == ["suspect"]
    assert (world.journal.rows[0].outcome, world.journal.rows[0].fault) == (
        "rolled-back",
        "suspect",
    )
    assert world.links() == (OLD, OLD, OLD)


def test_a_run_that_is_asked_to_end_while_it_waits_for_the_confirmation_leaves_it_to_the_others(
    world,
):
    world.steps.at("start confirm", cancel)
    world.systemd.programs.clear()
    with pytest.raises(asyncio.CancelledError):
        world.run()
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert (world.last_row().outcome, world.links()) == ("pending", (NEW, OLD, NEW))
    assert world.systemd.timer is not None


def test_the_summary_of_a_run_that_was_cut_short_tells_where_the_host_is(world):
    def moves_on_and_is_cancelled():
        world.host.profile = NEW
        cancel()

    world.steps.at("switch", moves_on_and_is_cancelled)
    with pytest.raises(asyncio.CancelledError):
        world.run()
    assert (world.summary()["running"], world.summary()["profile"]) == (OLD, NEW)


def test_links_that_cannot_be_read_at_the_end_do_not_hide_the_cause(world):
    def fails_from_now_on():
        world.steps.at("systems", HostError(Kind.HOST_UNREADABLE, "gone"))
        cancel()

    world.steps.at("switch", fails_from_now_on)
    with pytest.raises(asyncio.CancelledError):
        world.run()
    assert world.summary()["error.kind"] == "terminated"
    assert "running" not in world.summary()


def test_a_run_that_its_own_reboot_ends_leaves_no_failed_activation_behind(world):
    world.publish(1, NEW, kernel="k2")
    world.steps.at("reboot", cancel)
    report = world.run(ALWAYS)
    assert (report.outcome, report.exit_code) == (Outcome.REBOOTING, ExitCode.DONE)
    assert world.last_row().outcome == "rebooting"
    world.host.boot()
    world.steps.calm()
    assert world.run(ALWAYS).outcome is Outcome.NOTHING_TO_DO
    assert "boot" not in world.steps


def test_a_run_that_is_cut_short_before_it_did_anything_is_recorded_too(world):
    world.steps.at("newest_good_build", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        world.run()
    row = world.last_row()
    assert (row.outcome, row.previous) == ("failed", None)
