from __future__ import annotations

from dataclasses import replace

import pytest

from agent.application import events
from agent.domain.errors import ExitCode, HostError, HydraError, Kind, NixError
from agent.domain.facts import FreeSpace
from agent.domain.gate import Stage
from agent.domain.gates import asked_at
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.policy import Action, RebootMode, Strategy
from fakes.samples import OLD, OTHER
from fakes.world import WATCHFUL, PowerCut, World, flake_of, system

NEW = system(1)
ASKED = {gate.name for gate in asked_at(Stage.CHOOSE)} - {"host-upgrade"}
CHANGES = {
    "lock", "substitute", "nixos-rebuild build", "activate-flake", "reboot", "idle-note",
    "idle-note forgotten", "arm", "disarm", "start confirm", "stop-activation", "set-profile",
    "remove-generations", "journal deny",
    *Action, *(f"journal {what}" for what in (*Outcome, "prepare", "contact")),
    *(f"switch-to-configuration {action}" for action in Action),
    *(f"{verb} {mark}" for verb in ("mark", "unmark") for mark in Mark),
    *(f"{mark} to {other}" for mark in Mark for other in Mark),
}  # fmt: skip
"""Every step that changes something, if only the history."""


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def gates(report):
    return {judgement.gate: judgement.is_open for judgement in report.gates}


def test_a_dry_run_asks_every_gate_and_verifies_but_changes_nothing(world):
    report = world.run(dry_run=True)
    assert (report.decision, report.outcome) == ("upgrade", Outcome.DRY_RUN)
    assert report.exit_code is ExitCode.DONE
    assert gates(report) == dict.fromkeys(ASKED, True)
    assert "verify.passed" in world.told.names()
    assert not CHANGES & set(world.steps)
    assert world.host.profile == OLD


def test_a_dry_run_asks_on_after_a_gate_that_holds_and_verifies_all_the_same(world):
    world.host.space = FreeSpace(store=1, boot=1)
    world.canary_dies()
    report = world.run(dry_run=True)
    closed = {"boot-space", "store-space", "health"}
    assert gates(report) == {gate: gate not in closed for gate in ASKED}
    assert (report.decision, report.outcome) == ("hold", Outcome.DRY_RUN)
    assert [name for name, _ in report.reasons] == ["boot-space", "store-space", "health"]
    assert "verify.passed" in world.told.names()
    assert not CHANGES & set(world.steps)


def test_the_summary_of_a_dry_run_tells_the_gates(world):
    world.canary_dies()
    world.run(dry_run=True)
    assert world.summary()["gates"][-1] == {
        "gate": "health", "open": False, "reason": "canary: no reply"
    }  # fmt: skip


def test_a_gate_that_cannot_be_asked_in_a_dry_run_is_closed_with_its_fault(world):
    world.steps.at("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route"))
    report = world.run(dry_run=True)
    assert gates(report)["store-space"] is False
    assert report.reasons == (("cache-unreachable", "no route"),)


def test_a_dry_run_finds_a_path_mismatch(world):
    world.nix.evaluates[flake_of(1001), "h"] = OTHER
    report = world.run(dry_run=True)
    assert (report.outcome, report.error.kind) == (Outcome.FAILED, Kind.PATH_MISMATCH)
    assert len(report.gates) == len(ASKED)
    assert not CHANGES & set(world.steps)


def test_a_dry_run_tells_what_is_denied(world):
    world.journal.deny(Denial(NEW, "it broke sshd", world.clock.now(), "eve"))
    report = world.run(dry_run=True)
    assert (report.decision, [name for name, _ in report.reasons]) == ("hold", ["denied"])


def test_a_dry_run_leaves_what_was_cut_short_as_it_is(world):
    world.steps.at("start confirm", PowerCut())
    with pytest.raises(PowerCut):
        world.run()
    world.steps.calm()
    marks = dict(world.marks.links)
    world.run(dry_run=True)
    assert not CHANGES & set(world.steps)
    assert world.marks.links == marks


def test_a_dry_run_by_store_path_evaluates_nothing(world):
    world.run(replace(WATCHFUL, strategy=Strategy.STORE_PATH), dry_run=True)
    assert world.steps.among("locked_flake", "evaluate_toplevel") == []


def test_a_dry_run_needs_no_lock(world):
    world.lock.is_taken_by_another()
    assert world.run(dry_run=True).outcome is Outcome.DRY_RUN


def test_a_dry_run_on_a_finished_host_leaves_no_note_and_asks_no_outlook(world):
    world.run()
    report = world.run(dry_run=True)
    assert (report.decision, report.reasons) == ("done", ())
    assert world.steps.among("idle-note", "outlook", "evaluate_toplevel") == []


def test_a_dry_run_tells_of_a_reboot_that_was_in_vain(world):
    reboots = replace(WATCHFUL, reboot_mode=RebootMode.ALWAYS)
    world.run(reboots)
    world.host.boot_id = "boot-1"
    report = world.run(reboots, dry_run=True)
    assert report.decision == "hold"
    assert [name for name, _ in report.reasons] == ["reboot-ineffective"]


def test_a_dry_run_tells_of_a_reboot_that_is_awaited(world):
    world.run(replace(WATCHFUL, action=Action.BOOT))
    report = world.run(replace(WATCHFUL, action=Action.BOOT), dry_run=True)
    assert (report.decision, report.outcome) == ("await-reboot", Outcome.DRY_RUN)
    reason = "the running system is not the profile's"
    assert world.told.fields_of(events.DECISION_MADE)["reason"] == reason


def test_a_dry_run_tells_that_health_would_hold_a_reboot(world):
    world.run(replace(WATCHFUL, action=Action.BOOT))
    world.canary_dies()
    world.host.space = FreeSpace(store=1, boot=1)
    allowed = replace(WATCHFUL, action=Action.BOOT, reboot_mode=RebootMode.WHEN_NEEDED)
    report = world.run(allowed, dry_run=True)
    assert report.decision == "hold"
    assert report.reasons == (("health", "canary: no reply"),)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("newest_good_build", HydraError(Kind.HYDRA_REFUSED, "refused")),
        ("systems", HostError(Kind.HOST_UNREADABLE, "a loop")),
    ],
)
def test_a_fault_in_a_dry_run_is_not_recorded(world, step, fault):
    world.steps.at(step, fault)
    report = world.run(dry_run=True)
    assert (report.outcome, report.error) == (Outcome.FAILED, fault)
    assert not CHANGES & set(world.steps)


def test_a_dry_run_tells_what_postpones_a_reboot(world):
    world.run(replace(WATCHFUL, action=Action.BOOT))
    world.logind.logged_in = ("ann",)
    allowed = replace(WATCHFUL, action=Action.BOOT, reboot_mode=RebootMode.WHEN_NEEDED)
    report = world.run(allowed, dry_run=True)
    assert report.decision == "await-reboot"
    assert [name for name, _ in report.reasons] == ["reboot", "users"]
    assert world.logind.told == []
    world.logind.logged_in = ()
    assert world.run(allowed, dry_run=True).decision == "reboot"
