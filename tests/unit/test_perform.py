from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.application import events
from agent.application.perform import Performance
from agent.application.ports import ActivationExit, RunRecord
from agent.application.report import Report
from agent.domain.errors import ExitCode, HostError, JournalError, Kind, NixError
from agent.domain.gates import FetchPlan
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, RebootMode, Strategy
from agent.domain.store_path import StorePath
from fakes.samples import OLD, OTHER, POLICY
from fakes.world import STORE, WATCHFUL, World, flake_of, system

NEW = system(1)
BY_PATH = replace(WATCHFUL, strategy=Strategy.STORE_PATH)
REBOOTS = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED)


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def links(world):
    return world.host.running, world.host.booted, world.host.profile


def untouched(world):
    """Whether nothing on the host has changed, and the history says that nothing was tried."""
    return (
        links(world) == (OLD, OLD, OLD)
        and not world.nixos_rebuild.activated
        and all(row.previous is None for row in world.journal.written)
    )


# The way through


def test_an_upgrade_takes_its_steps_in_order(world):
    report = world.run()
    assert report.outcome is Outcome.ACTIVATED
    assert world.steps.among(
        "plan_fetch", "probe canary", "evaluate_toplevel", "substitute", "nixos-rebuild build",
        "journal activating", "activate-flake", "switch", "journal confirmed",
    ) == [
        "plan_fetch", "probe canary", "evaluate_toplevel", "substitute",
        "nixos-rebuild build", "probe canary",
        "journal activating", "activate-flake", "switch", "journal confirmed", "journal confirmed",
    ]  # fmt: skip
    assert links(world) == (NEW, OLD, NEW)


def test_the_row_written_before_activation_names_what_runs_and_what_comes(world):
    world.run()
    first = world.journal.written[0]
    assert (first.outcome, first.previous, first.toplevel) == ("activating", OLD, NEW)
    assert (first.action, first.build_id, first.eval_id) == ("switch", 1, 1001)
    assert first.flake == flake_of(1001)
    assert first.finished_at is None


def test_the_last_row_tells_how_it_ended(world):
    world.steps.at("switch", lambda: world.clock.move(42))
    world.run()
    row = world.last_row()
    assert (row.outcome, row.decision, row.exit_code) == ("activated", "upgrade", 0)
    assert row.finished_at == world.clock.now()
    assert row.finished_at != row.started_at
    assert row.previous == OLD


def test_an_upgrade_from_an_unknown_system_is_recorded_as_one(world):
    world.host.running = None
    world.run()
    assert world.last_row().previous == "unknown"


def test_an_upgrade_tells_its_story_in_order(world):
    world.run()
    assert world.told.names() == [
        "run.started", "hydra.build_selected", "run.decided",
        "gate.passed", "gate.passed", "gate.passed", "check.finished", "gate.passed",
        "verify.started", "verify.passed", "fetch.started", "fetch.finished", "build.finished",
        "check.finished", "activation.started", "activation.finished", "run.finished",
    ]  # fmt: skip
    said = world.told.fields_of(events.ACTIVATION_FINISHED)
    assert said == {"action": "switch", "returncode": 0, "running": NEW, "profile": NEW}


def test_the_summary_tells_what_the_host_shows_and_what_was_fetched(world):
    world.run()
    said = world.summary()
    assert (said["running"], said["booted"], said["profile"]) == (NEW, OLD, NEW)
    assert (said["paths_fetched"], said["bytes_fetched"]) == (3, 300 << 20)
    assert (said["decision"], said["outcome"], said["exit_code"]) == ("upgrade", "activated", 0)
    assert said["action"] == "switch"


@pytest.mark.parametrize(
    "step", ["verify", "fetch", "build", "recheck", "activate", "gates", "observe"]
)
def test_the_summary_tells_how_long_each_step_took(world, step):
    asked = {
        "verify": "evaluate_toplevel",
        "fetch": "substitute",
        "build": "nixos-rebuild build",
        "recheck": "probe canary",
        "activate": "switch",
        "gates": "plan_fetch",
        "observe": "newest_good_build",
    }[step]
    world.steps.at(asked, lambda: world.clock.move(7))
    world.run()
    assert world.summary()["durations"][step] == 7
    assert world.summary()["durations"]["total"] >= 7


# Before anything is fetched


def test_a_flake_that_evaluates_to_another_path_ends_the_run_before_anything_is_fetched(world):
    world.nix.evaluates[flake_of(1001), "h"] = OTHER
    report = world.run()
    assert report.error.kind is Kind.PATH_MISMATCH
    assert OTHER in report.error.message
    assert report.exit_code is ExitCode.FAILED
    assert "substitute" not in world.steps
    assert untouched(world)


def test_a_flake_that_cannot_be_evaluated_ends_the_run_before_anything_is_fetched(world):
    del world.nix.evaluates[flake_of(1001), "h"]
    assert world.run().error.kind is Kind.EVALUATION_FAILED
    assert "substitute" not in world.steps
    assert untouched(world)


def test_without_verification_every_run_warns_and_nothing_is_evaluated(world):
    careless = replace(WATCHFUL, verify=False)
    world.nixos_rebuild.ends = ActivationExit(4, "")
    for _ in range(2):
        world.run(careless)
        assert "verify.skipped" in world.told.names()
        assert "evaluate_toplevel" not in world.steps
        assert "switch" in world.steps


# Fetching and building


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Kind.SIGNATURE_UNTRUSTED, ExitCode.FAILED),
        (Kind.STORE_FULL, ExitCode.FAILED),
        (Kind.CACHE_UNREACHABLE, ExitCode.UNREACHABLE),
    ],
)
def test_a_closure_that_cannot_be_fetched_leaves_the_host_alone(world, kind, code):
    world.steps.at("substitute", NixError(kind, "no"))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, kind)
    assert report.exit_code is code
    assert "nixos-rebuild build" not in world.steps
    assert untouched(world)


def test_a_path_that_leaves_the_cache_while_it_is_fetched_is_waited_for(world):
    world.steps.at("substitute", world.nix.cached.clear)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert report.reasons[0][0] == "path-not-cached"
    assert untouched(world)


def test_a_host_that_may_build_needs_no_cache(world):
    world.nix.cached.clear()
    world.nix.local_builds = True
    report = world.run(replace(WATCHFUL, local_builds=True))
    assert report.outcome is Outcome.ACTIVATED
    assert "fetch.finished" not in world.told.names()
    assert world.summary()["paths_fetched"] == 0


def test_a_host_that_may_build_still_refuses_a_bad_signature(world):
    world.nix.unsigned = frozenset({NEW})
    report = world.run(replace(WATCHFUL, local_builds=True))
    assert report.error.kind is Kind.SIGNATURE_UNTRUSTED
    assert untouched(world)


def test_a_build_of_another_path_ends_the_run(world):
    world.nixos_rebuild.builds[flake_of(1001), "h"] = OTHER
    report = world.run()
    assert report.error.kind is Kind.PATH_MISMATCH
    assert "nixos-rebuild builds" in report.error.message
    assert untouched(world)


def test_without_verification_a_build_of_another_path_is_activated_with_a_warning(world):
    world.nixos_rebuild.builds[flake_of(1001), "h"] = OTHER
    report = world.run(replace(WATCHFUL, verify=False))
    assert report.outcome is Outcome.ACTIVATED
    assert world.told.fields_of(events.BUILD_DIFFERS) == {"toplevel": NEW, "built": OTHER}
    assert world.last_row().toplevel == OTHER
    assert world.host.running == OTHER


def test_a_failed_build_leaves_the_host_alone(world):
    del world.nixos_rebuild.builds[flake_of(1001), "h"]
    assert world.run().error.kind is Kind.BUILD_ERROR
    assert untouched(world)


# Health, just before


def test_a_canary_that_dies_during_the_build_holds_the_upgrade(world):
    world.steps.at("nixos-rebuild build", world.canary_dies)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert (report.decision, report.reasons) == ("hold", (("health", "canary: no reply"),))
    assert world.told.fields_of(events.GATE_HELD) == {
        "gate": "health",
        "reason": "canary: no reply",
    }
    assert untouched(world)
    assert world.last_row().outcome == "held"


def test_what_was_held_by_the_canary_is_taken_once_it_is_back(world):
    world.steps.at("nixos-rebuild build", world.canary_dies)
    world.run()
    world.steps.calm()
    world.canary_recovers()
    assert world.run().outcome is Outcome.ACTIVATED


# The store path strategy


def test_by_store_path_nothing_is_evaluated_or_built(world):
    report = world.run(BY_PATH)
    assert report.outcome is Outcome.ACTIVATED
    assert report.candidate.flake is None
    assert world.steps.among(
        "locked_flake", "evaluate_toplevel", "nixos-rebuild build", "activate-flake",
        "substitute", "switch",
    ) == ["substitute", "switch"]  # fmt: skip


def test_by_store_path_another_hosts_system_is_refused_before_activation(world):
    world.host.contents[NEW].hostname = "mail"
    report = world.run(BY_PATH)
    assert report.error.kind is Kind.HOST_MISMATCH
    assert "for the host mail, this host is h" in report.error.message
    assert untouched(world)


def test_by_store_path_two_systems_without_a_host_name_are_not_the_same_host(world):
    for found in world.host.contents.values():
        found.hostname = None
    assert world.run(BY_PATH).error.kind is Kind.HOST_MISMATCH


def test_by_store_path_a_system_without_a_host_name_is_refused(world):
    world.host.contents[NEW].hostname = None
    assert world.run(BY_PATH).error.kind is Kind.HOST_MISMATCH


def test_by_store_path_without_a_running_system_there_is_nothing_to_compare_with(world):
    world.host.running = None
    assert world.run(BY_PATH).error.kind is Kind.HOST_MISMATCH
    assert not world.nixos_rebuild.activated


def test_by_store_path_without_verification_a_host_may_change_its_name(world):
    world.host.contents[NEW].hostname = "mail"
    assert world.run(replace(BY_PATH, verify=False)).outcome is Outcome.ACTIVATED


# Actions


@pytest.mark.parametrize(
    ("action", "outcome", "there"),
    [
        (Action.SWITCH, Outcome.ACTIVATED, (NEW, OLD, NEW)),
        (Action.BOOT, Outcome.STAGED, (OLD, OLD, NEW)),
        (Action.TEST, Outcome.ACTIVATED, (NEW, OLD, OLD)),
        (Action.DRY_ACTIVATE, Outcome.DRY_ACTIVATED, (OLD, OLD, OLD)),
    ],
)
@pytest.mark.parametrize("policy", [WATCHFUL, BY_PATH])
def test_each_action_moves_its_own_links(world, policy, action, outcome, there):
    report = world.run(replace(policy, action=action))
    assert (report.outcome, report.exit_code) == (outcome, ExitCode.DONE)
    assert links(world) == there
    assert world.last_row().outcome == outcome


@pytest.mark.parametrize(
    ("returncode", "kind"),
    [
        (1, Kind.ACTIVATION_FAILED),
        (2, Kind.ACTIVATION_SCRIPT_FAILED),
        (4, Kind.UNITS_FAILED),
        (-9, Kind.ACTIVATION_KILLED),
        (143, Kind.ACTIVATION_KILLED),
    ],
)
def test_a_failed_activation_is_a_failure_that_tells_where_the_host_is(world, returncode, kind):
    world.nixos_rebuild.ends = ActivationExit(returncode, "")
    world.nixos_rebuild.moves_before_failing = True
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
    assert report.error.kind is kind
    assert "the running system is the candidate" in report.error.message
    assert world.summary()["running"] == NEW
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.previous) == ("failed", kind, OLD)


def test_an_activation_that_takes_too_long_is_a_failure(world):
    world.nixos_rebuild.ends = ActivationExit(-15, "", timed_out=True)
    assert world.run().error.kind is Kind.ACTIVATION_TIMEOUT


def test_an_activation_that_lies_about_its_success_is_found_out(world):
    world.nixos_rebuild.activate = lambda *_: None
    assert world.run().error.kind is Kind.ACTIVATION_INEFFECTIVE


def test_a_failed_activation_is_tried_again_although_the_links_have_moved(world):
    world.nixos_rebuild.ends = ActivationExit(4, "")
    world.nixos_rebuild.moves_before_failing = True
    world.run()
    world.nixos_rebuild.ends = ActivationExit(0, "")
    report = world.run()
    assert (report.decision, report.outcome) == ("upgrade", Outcome.ACTIVATED)
    assert world.run().outcome is Outcome.NOTHING_TO_DO


def test_a_switch_that_only_a_reboot_completes_is_staged(world):
    world.nixos_rebuild.ends = ActivationExit(100, "")
    world.nixos_rebuild.activate = lambda _, path: world.host.activate(Action.BOOT, path)
    world.nixos_rebuild.moves_before_failing = True
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.STAGED, ExitCode.DONE)
    assert world.run().outcome is Outcome.AWAITS_REBOOT


def test_a_test_that_needs_a_reboot_is_a_failure(world):
    world.nixos_rebuild.ends = ActivationExit(100, "")
    report = world.run(replace(WATCHFUL, action=Action.TEST))
    assert report.error.kind is Kind.ACTIVATION_NEEDS_REBOOT


def test_a_missing_nixos_rebuild_is_a_failure(world):
    missing = NixError(Kind.NIXOS_REBUILD_MISSING, "no nixos-rebuild")
    world.steps.at("activate-flake", missing)
    assert world.run().error.kind is Kind.NIXOS_REBUILD_MISSING


def test_a_specialisation_of_the_candidate_counts_as_the_candidate(world):
    special = system(2)
    world.host.specialise(NEW, "gaming", special, "k1")
    world.nixos_rebuild.activate = lambda _, path: (
        world.host.activate(Action.BOOT, path),
        world.host.activate(Action.TEST, special),
    )
    assert world.run().outcome is Outcome.ACTIVATED
    assert world.host.running == special


# Reboots


def test_a_switch_to_another_kernel_becomes_boot_and_a_reboot_when_it_may(world):
    world.publish(1, NEW, kernel="k2")
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.REBOOTING, ExitCode.DONE)
    assert report.reasons == (("reboot", "kernel differ"),)
    assert world.steps.among("boot", "switch", "reboot", "journal staged", "journal rebooting") == [
        "boot", "journal staged", "journal rebooting", "reboot", "journal rebooting",
    ]  # fmt: skip
    assert world.summary()["action"] == "boot"
    assert world.last_row().outcome == "rebooting"


def test_after_the_reboot_nothing_is_left_to_do(world):
    world.publish(1, NEW, kernel="k2")
    world.run(REBOOTS)
    world.host.boot()
    assert world.run(REBOOTS).outcome is Outcome.NOTHING_TO_DO


def test_a_switch_to_another_kernel_that_may_not_reboot_says_that_one_is_needed(world):
    world.publish(1, NEW, kernel="k2")
    assert world.run().outcome is Outcome.ACTIVATED
    assert world.told.fields_of(events.REBOOT_NEEDED) == {"reason": "kernel differ"}
    assert "reboot" not in world.steps


def test_a_container_is_never_rebooted(world):
    world.host.is_container = True
    world.publish(1, NEW, kernel="k2")
    assert world.run(replace(REBOOTS, reboot_mode=RebootMode.ALWAYS)).outcome is Outcome.ACTIVATED
    assert "reboot" not in world.steps


def test_the_reboot_need_of_a_booted_specialisation_is_that_of_its_counterpart(world):
    special = {OLD: system(8), NEW: system(9)}
    for path, variant in special.items():
        world.host.specialise(path, "gaming", variant, "k2")
    world.host.booted = special[OLD]
    assert world.run(REBOOTS).outcome is Outcome.ACTIVATED
    assert "reboot" not in world.steps


def test_where_the_booted_system_is_unknown_no_need_for_a_reboot_is_shown(world):
    world.host.booted = None
    world.publish(1, NEW, kernel="k2")
    assert world.run(REBOOTS).outcome is Outcome.ACTIVATED


def test_no_reboot_follows_a_failed_activation(world):
    world.publish(1, NEW, kernel="k2")
    world.nixos_rebuild.ends = ActivationExit(1, "")
    assert world.run(REBOOTS).outcome is Outcome.FAILED
    assert "reboot" not in world.steps


def test_a_refused_reboot_is_a_failure_and_only_the_reboot_is_tried_again(world):
    world.publish(1, NEW, kernel="k2")
    world.steps.at("reboot", HostError(Kind.REBOOT_FAILED, "an inhibitor"))
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
    row = world.last_row()
    assert (row.outcome, row.error_kind, row.exit_code) == ("staged", "reboot-failed", 1)
    world.steps.calm()
    report = world.run(REBOOTS)
    assert (report.decision, report.outcome) == ("reboot", Outcome.REBOOTING)
    assert "boot" not in world.steps


# The journal in the middle


def test_nothing_is_activated_that_could_not_be_recorded_first(world):
    world.steps.at("journal activating", JournalError(Kind.STATE_FULL, "full"))
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.STATE_FULL)
    assert untouched(world)


def test_no_reboot_is_asked_for_that_could_not_be_recorded_first(world):
    world.publish(1, NEW, kernel="k2")
    world.steps.at("journal rebooting", JournalError(Kind.STATE_FULL, "full"))
    assert world.run(REBOOTS).error.kind is Kind.STATE_FULL
    assert "reboot" not in world.steps


def test_an_activation_whose_end_could_not_be_recorded_is_done_again(world):
    world.steps.at("journal confirmed", JournalError(Kind.STATE_FULL, "full"))
    assert world.run().outcome is Outcome.FAILED
    assert world.last_row().outcome == "activating"
    world.steps.calm()
    assert world.run().decision == "upgrade"


# The request


def test_a_request_that_makes_no_sense_is_refused_before_anything_is_done(world):
    row = RunRecord("r", world.clock.now(), "h", "j", "failed")
    performance = Performance(world.ports, POLICY, Report(), row)
    with pytest.raises(ValueError, match="store path"):
        asyncio.run(performance.upgrade('{"toplevel": "/etc/passwd"}', STORE))
    assert not world.steps


def test_the_plan_to_fetch_does_not_change_what_is_fetched(world):
    world.nix.cached[NEW] = FetchPlan(0, 0, 0)
    world.nix.valid.add(StorePath(NEW))
    world.run()
    assert world.summary()["bytes_fetched"] == 0
