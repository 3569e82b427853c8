from __future__ import annotations

from dataclasses import replace

import pytest

from agent.application import events
from agent.application.ports import ActivationExit
from agent.application.upgrade import upgrade
from agent.domain.errors import ExitCode, Kind, NixError
from agent.domain.facts import FetchPlan
from agent.domain.marks import Marks
from agent.domain.outcome import Outcome
from agent.domain.policy import Action, Strategy
from agent.domain.store_path import StorePath
from fakes.samples import OLD, OTHER
from fakes.world import CACHE, GATEWAY, WATCHFUL, World, flake_of, system

NEW = system(1)
OUTSIDE = ["probe hydra", f"probe {CACHE}", f"probe gateway {GATEWAY}"]
BY_PATH = replace(WATCHFUL, strategy=Strategy.STORE_PATH)


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


# The way through


def test_an_upgrade_takes_its_steps_in_order(world):
    report = world.run()
    assert report.outcome is Outcome.CONFIRMED
    asked = {"systems", "highest-build", "free-space", "locked_flake", "build"}
    steps = [step for step in world.steps if step not in asked]
    assert steps[steps.index("plan_fetch") :] == [
        "plan_fetch", "probe canary",
        "journal selected", "fetch_source", "evaluate_toplevel",
        "journal verified", "substitute",
        "journal fetched", "nixos-rebuild build",
        "probe service", *OUTSIDE, "probe canary",
        "journal armed", "mark pending", "arm",
        "journal activating", "activate-flake", "switch",
        "journal pending", "start confirm", "lock",
        "probe service", *OUTSIDE,
        "pending to confirmed", "unmark tested", "bless", "disarm", "idle-note forgotten",
        "journal confirmed", "journal confirmed",
    ]  # fmt: skip
    assert world.links() == (NEW, OLD, NEW)


def test_the_row_written_before_activation_names_what_runs_and_what_comes(world):
    world.run()
    (row,) = [row for row in world.journal.written if row.outcome == "activating"]
    assert (row.previous, row.toplevel, row.boot_id) == (OLD, NEW, "boot-0")
    assert (row.action, row.build_id, row.eval_id) == ("switch", 1, 1001)
    assert (row.flake, row.decision) == (flake_of(1001), "upgrade")
    assert row.finished_at is None


def test_before_the_host_is_touched_its_row_names_no_system_before_it(world):
    world.run()
    before = world.journal.written[: world.journal.phases.index("armed")]
    assert [row.outcome for row in before] == ["selected", "verified", "fetched"]
    assert [row.previous for row in before] == [None] * 3


def test_the_last_row_tells_how_it_ended(world):
    world.steps.at("switch", lambda: world.clock.move(42))
    world.run()
    row = world.last_row()
    assert (row.outcome, row.decision, row.exit_code) == ("confirmed", "upgrade", 0)
    assert row.finished_at == world.clock.now()
    assert row.finished_at != row.started_at
    assert row.previous == OLD


def test_an_upgrade_from_an_unknown_system_is_recorded_as_one(world):
    world.host.running = None
    world.run()
    assert world.last_row().previous == "unknown"


def test_an_upgrade_tells_its_story_in_order(world):
    world.run()
    assert [name for name in world.told.names() if name not in ("check.finished", "gate.passed")] == [
        "run.started", "system.adopted", "hydra.build_selected", "run.decided",
        "verify.started", "verify.passed", "fetch.started", "fetch.finished", "build.finished",
        "confirmation.baseline_taken", "deadman.armed", "activation.started", "activation.finished",
        "confirmation.handed_over", "run.finished",
    ]  # fmt: skip
    said = world.told.fields_of(events.ACTIVATION_FINISHED)
    assert said == {"action": "switch", "returncode": 0, "running": NEW, "profile": NEW}


def test_the_summary_tells_what_the_host_shows_and_what_was_fetched(world):
    world.run()
    said = world.summary()
    assert (said["running"], said["booted"], said["profile"]) == (NEW, OLD, NEW)
    assert (said["paths_fetched"], said["bytes_fetched"]) == (3, 300 << 20)
    assert (said["decision"], said["outcome"], said["exit_code"]) == ("upgrade", "confirmed", 0)
    assert said["action"] == "switch"


@pytest.mark.parametrize(
    "step",
    ["recover", "observe", "gates", "verify", "fetch", "build", "recheck", "baseline", "activate"],
)
def test_the_summary_tells_how_long_each_step_took(world, step):
    asked = {
        "verify": "evaluate_toplevel",
        "fetch": "substitute",
        "build": "nixos-rebuild build",
        "recheck": "probe canary",
        "baseline": "probe service",
        "recover": "mark confirmed",
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
    assert world.is_untouched()


def test_a_flake_that_cannot_be_evaluated_ends_the_run_before_anything_is_fetched(world):
    del world.nix.evaluates[flake_of(1001), "h"]
    assert world.run().error.kind is Kind.EVALUATION_FAILED
    assert "substitute" not in world.steps
    assert world.is_untouched()


def test_without_verification_every_run_warns_and_nothing_is_evaluated(world):
    careless = replace(WATCHFUL, verify=False)
    world.nixos_rebuild.ends = ActivationExit(1, "")
    for _ in range(2):
        world.clock.move(600)
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
    assert world.is_untouched()


def test_a_path_that_leaves_the_cache_while_it_is_fetched_is_waited_for(world):
    world.steps.at("substitute", world.nix.cached.clear)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert report.reasons[0][0] == "path-not-cached"
    assert world.is_untouched()


def test_a_host_that_may_build_needs_no_cache(world):
    world.nix.cached.clear()
    world.nix.local_builds = True
    report = world.run(replace(WATCHFUL, local_builds=True))
    assert report.outcome is Outcome.CONFIRMED
    assert "fetch.finished" not in world.told.names()
    assert world.summary()["paths_fetched"] == 0


def test_a_host_that_may_build_still_refuses_a_bad_signature(world):
    world.nix.unsigned = frozenset({NEW})
    report = world.run(replace(WATCHFUL, local_builds=True))
    assert report.error.kind is Kind.SIGNATURE_UNTRUSTED
    assert world.is_untouched()


def test_a_build_of_another_path_ends_the_run(world):
    world.builds_instead(1, OTHER)
    report = world.run()
    assert report.error.kind is Kind.PATH_MISMATCH
    assert "is built as" in report.error.message
    assert world.is_untouched()


def test_without_verification_a_build_of_another_path_is_activated_with_a_warning(world):
    world.builds_instead(1, OTHER)
    report = world.run(replace(WATCHFUL, verify=False))
    assert report.outcome is Outcome.CONFIRMED
    assert world.told.fields_of(events.BUILD_DIFFERS) == {"toplevel": NEW, "built": OTHER}
    assert world.last_row().toplevel == OTHER
    assert world.host.running == OTHER


def test_what_is_denied_is_not_activated_in_place_of_another_path_either(world):
    world.builds_instead(1, OTHER)
    careless = replace(WATCHFUL, verify=False)
    world.steps.at("switch", world.service_breaks)
    assert world.run(careless).outcome is Outcome.ROLLED_BACK
    world.all_is_well()
    report = world.run(careless)
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert [name for name, _ in report.reasons] == ["denied"]
    assert OTHER in report.reasons[0][1]
    assert "switch" not in world.steps


def test_what_is_suspect_is_not_activated_in_place_of_another_path_either(world):
    world.builds_instead(1, OTHER)
    careless = replace(WATCHFUL, verify=False)
    world.nixos_rebuild.ends = ActivationExit(1, "")
    world.run(careless)
    assert [name for name, _ in world.run(careless).reasons] == ["suspect"]
    world.clock.move(600)
    assert world.run(careless).error.kind is Kind.ACTIVATION_FAILED


def test_a_failed_build_leaves_the_host_alone(world):
    del world.nixos_rebuild.builds[flake_of(1001), "h"]
    assert world.run().error.kind is Kind.BUILD_ERROR
    assert world.is_untouched()


# Health, just before


def test_a_canary_that_dies_during_the_build_holds_the_upgrade(world):
    world.steps.at("nixos-rebuild build", world.canary_dies)
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert (report.decision, report.reasons) == ("hold", (("health", "canary: no reply"),))
    assert world.summary()["action"] == "switch"
    assert world.told.fields_of(events.GATE_HELD) == {
        "gate": "health",
        "reason": "canary: no reply",
    }
    assert world.is_untouched()
    assert world.last_row().outcome == "held"


def test_what_was_held_by_the_canary_is_taken_once_it_is_back(world):
    world.steps.at("nixos-rebuild build", world.canary_dies)
    world.run()
    world.steps.calm()
    world.canary_recovers()
    assert world.run().outcome is Outcome.CONFIRMED


# The store path strategy


def test_by_store_path_nothing_is_evaluated_or_built(world):
    report = world.run(BY_PATH)
    assert report.outcome is Outcome.CONFIRMED
    assert report.candidate.flake is None
    assert world.steps.among(
        "locked_flake", "evaluate_toplevel", "nixos-rebuild build", "activate-flake",
        "substitute", "switch",
    ) == ["substitute", "switch"]  # fmt: skip


def test_by_store_path_another_hosts_system_is_refused_before_activation(world):
    world.host.contents[NEW].hostname = "mail"
    report = world.run(BY_PATH)
    assert report.error.kind is Kind.HOST_MISMATCH
    assert "is for mail, and this is h" in report.error.message
    assert world.is_untouched()


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
    assert world.run(replace(BY_PATH, verify=False)).outcome is Outcome.CONFIRMED


# Actions


@pytest.mark.parametrize(
    ("action", "outcome", "there"),
    [
        (Action.SWITCH, Outcome.CONFIRMED, (NEW, OLD, NEW)),
        (Action.BOOT, Outcome.STAGED, (OLD, OLD, NEW)),
        (Action.TEST, Outcome.CONFIRMED, (NEW, OLD, OLD)),
        (Action.DRY_ACTIVATE, Outcome.DRY_ACTIVATED, (OLD, OLD, OLD)),
    ],
)
@pytest.mark.parametrize("policy", [WATCHFUL, BY_PATH])
def test_each_action_moves_its_own_links(world, policy, action, outcome, there):
    report = world.run(replace(policy, action=action))
    assert (report.outcome, report.exit_code) == (outcome, ExitCode.DONE)
    assert world.links() == there
    assert world.last_row().outcome == outcome


def test_a_switch_that_only_a_reboot_completes_is_staged(world):
    world.nixos_rebuild.ends = ActivationExit(100, "")
    world.nixos_rebuild.activate = lambda _, path: world.host.activate(Action.BOOT, path)
    world.nixos_rebuild.moves_before_failing = True
    report = world.run()
    assert (report.outcome, report.exit_code) == (Outcome.STAGED, ExitCode.DONE)
    assert (world.marks.read().staged, world.marks.read().pending) == (NEW, None)
    assert world.systemd.timer is None
    assert world.run().outcome is Outcome.AWAITS_REBOOT


def test_a_test_that_needs_a_reboot_is_a_failure(world):
    world.nixos_rebuild.ends = ActivationExit(100, "")
    report = world.run(replace(WATCHFUL, action=Action.TEST))
    assert report.error.kind is Kind.ACTIVATION_NEEDS_REBOOT


def test_a_missing_nixos_rebuild_is_a_failure(world):
    missing = NixError(Kind.NIXOS_REBUILD_MISSING, "no nixos-rebuild")
    world.steps.at("activate-flake", missing)
    assert world.run().error.kind is Kind.NIXOS_REBUILD_MISSING
    assert (world.marks.read(), world.systemd.timer) == (Marks(confirmed=OLD), None)
    assert (world.last_row().outcome, world.last_row().fault) == ("failed", None)


def test_a_specialisation_of_the_candidate_counts_as_the_candidate(world):
    special = system(2)
    world.host.specialise(NEW, "gaming", special, "k1")
    world.nixos_rebuild.activate = lambda _, path: (
        world.host.activate(Action.BOOT, path),
        world.host.activate(Action.TEST, special),
    )
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.host.running == special


# The agent of the candidate


def test_a_candidate_without_the_agent_is_held(world):
    world.host.contents[NEW].units.clear()
    report = world.run()
    assert (report.decision, report.outcome) == ("hold", Outcome.HELD)
    assert [name for name, _ in report.reasons] == ["agent-removed"]
    assert world.is_untouched()


def test_a_candidate_without_the_agent_is_confirmed_by_this_one_where_a_person_wants_it(world):
    world.host.contents[NEW].units.clear()
    report = world.carry_out(upgrade, ignored_gates=frozenset({"agent-removed"}), by="eve")
    assert report.outcome is Outcome.CONFIRMED
    assert "confirmation.judged" in world.told.names()
    assert "start confirm" not in world.steps
    assert world.marks.read() == Marks(confirmed=NEW)


def test_a_host_that_never_had_the_unit_confirms_by_itself(world):
    for found in world.host.contents.values():
        found.units.clear()
    assert world.run().outcome is Outcome.CONFIRMED
    assert "start confirm" not in world.steps


def test_the_plan_to_fetch_does_not_change_what_is_fetched(world):
    world.nix.cached[NEW] = FetchPlan(0, 0, 0)
    world.nix.valid.add(StorePath(NEW))
    world.run()
    assert world.summary()["bytes_fetched"] == 0
