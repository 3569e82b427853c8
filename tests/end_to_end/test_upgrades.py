"""Upgrades that go well: every action and strategy, reboots, and rehearsals."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.gate import Stage
from agent.domain.gates import asked_at
from built_systems import DOTTED
from end_to_end.machine import assert_unchanged


def systems(snapshot):
    return snapshot.running, snapshot.booted, snapshot.profile, snapshot.boot_default


def follow(machine, host, toplevel):
    """Let Hydra have the first system and a newer one of another attribute of the flake."""
    machine.offer(machine.farm.first, job=host)
    machine.offer(toplevel, job=host)
    machine.configure(host=host)


# Action: running, booted, profile and the loader's default afterwards (True is the new system).
ACTIONS = {
    "switch": ("confirmed", (True, False, True, True)),
    "boot": ("staged", (False, False, True, True)),
    "test": ("confirmed", (True, False, False, False)),
    "dry-activate": ("dry-activated", (False, False, False, False)),
}


@pytest.mark.parametrize(
    ("action", "strategy"),
    [
        ("switch", "flake"),
        ("boot", "store-path"),
        pytest.param("test", "flake", marks=pytest.mark.long),
        pytest.param("dry-activate", "flake", marks=pytest.mark.long),
    ],
)
def test_an_action_moves_what_it_should_and_nothing_else(offered, action, strategy):
    outcome, moved = ACTIONS[action]
    offered.configure(action=action, strategy=strategy)
    run = offered.upgrade()
    assert run.outcome == (0, outcome)
    found = systems(run.after)
    assert tuple(system == offered.farm.second for system in found) == moved
    assert set(found) <= {offered.farm.first, offered.farm.second}
    assert run.after.reboots == ""
    assert (run.summary["action"], run.summary["build_id"]) == (action, 2)
    assert (run.summary["running"], run.summary["profile"]) == (found[0], found[2])
    assert (run.summary["paths_fetched"], run.summary["bytes_fetched"] > 400 * 1024) == (2, True)
    assert offered.activations() == [action]
    (row,) = offered.rows()
    assert (row["outcome"], row["exit_code"], row["error_kind"]) == (outcome, 0, None)
    assert (run.named("verify.passed") != []) is (strategy == "flake")
    assert any("/eval/" in path for _, path in offered.questions()) is (strategy == "flake")


def test_what_is_done_is_done_once(offered):
    offered.configure(action="dry-activate")
    assert offered.upgrade().exit_code == 0
    again = offered.upgrade()
    assert again.outcome == (0, "nothing-to-do")
    assert_unchanged(again)
    assert offered.activations() == ["dry-activate"]
    assert len(offered.rows()) == 1


@pytest.mark.long
def test_a_host_with_dots_in_its_name(machine):
    follow(machine, DOTTED, machine.farm.dotted)
    for build in list(machine.world.builds.values()):
        build.job = f'"{DOTTED}"'
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == machine.farm.dotted


@pytest.mark.long
def test_a_host_may_build_what_no_cache_has_when_it_is_allowed_to(machine):
    follow(machine, "unpublished", machine.farm.unpublished)
    machine.configure(fetch={"local_builds": True})
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == machine.farm.unpublished


# Reboots


def test_a_new_kernel_is_staged_and_rebooted_into_when_that_is_allowed(machine):
    follow(machine, "new-kernel", machine.farm.new_kernel)
    machine.configure(reboot={"mode": "when-needed"})
    run = machine.upgrade()
    assert run.outcome == (0, "rebooting")
    assert run.after.reboots.splitlines() == ["--no-block reboot"]
    # Its own, and the confirmed system's, which is to be the loader's default until it is confirmed.
    assert machine.activations() == ["boot", "boot"]
    assert "kernel" in run.summary["reasons"][0]["reason"]
    assert systems(run.after)[:2] == (machine.farm.first,) * 2
    machine.host.power_cycle()
    after = machine.upgrade()
    assert after.outcome == (0, "nothing-to-do")
    assert set(systems(after.after)) == {machine.farm.new_kernel}
    assert after.after.reboots.count("\n") == 1


@pytest.mark.long
def test_no_reboot_where_none_is_needed(offered):
    offered.configure(reboot={"mode": "when-needed"})
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.reboots == ""


@pytest.mark.long
def test_a_new_kernel_waits_for_someone_elses_reboot_when_none_is_allowed(machine):
    follow(machine, "new-kernel", machine.farm.new_kernel)
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == machine.farm.new_kernel
    (needed,) = run.named("reboot.needed")
    assert "kernel" in needed["reason"]
    waiting = machine.upgrade()
    assert waiting.outcome == (0, "awaits-reboot")
    assert waiting.after.reboots == ""
    machine.host.power_cycle()
    assert machine.upgrade().outcome == (0, "nothing-to-do")


def test_what_the_running_init_cannot_start_is_staged(machine):
    follow(machine, "new-init", machine.farm.new_init)
    run = machine.upgrade()
    assert run.outcome == (0, "staged")
    first, new = machine.farm.first, machine.farm.new_init
    assert systems(run.after) == (first, first, new, new)
    waiting = machine.upgrade()
    assert waiting.outcome == (0, "awaits-reboot")
    assert waiting.summary["decision"] == "await-reboot"
    assert machine.activations() == ["switch"]
    machine.host.power_cycle()
    assert machine.upgrade().outcome == (0, "nothing-to-do")


@pytest.mark.long
def test_what_the_running_init_cannot_start_is_rebooted_into_when_that_is_allowed(machine):
    follow(machine, "new-init", machine.farm.new_init)
    machine.configure(reboot={"mode": "when-needed"})
    assert machine.upgrade().outcome == (0, "staged")
    assert machine.upgrade().outcome == (0, "rebooting")
    assert machine.look().reboots.count("\n") == 1
    machine.host.power_cycle()
    assert machine.upgrade().outcome == (0, "nothing-to-do")


def test_an_action_boot_waits_for_the_next_boot(offered):
    offered.configure(action="boot")
    assert offered.upgrade().outcome == (0, "staged")
    assert offered.upgrade().outcome == (0, "awaits-reboot")
    offered.host.power_cycle()
    done = offered.upgrade()
    assert done.outcome == (0, "nothing-to-do")
    assert set(systems(done.after)) == {offered.farm.second}


# Rehearsals

GATES = [gate.name for gate in asked_at(Stage.CHOOSE) if gate.name != "host-upgrade"]


def test_a_dry_run_tells_every_gate_and_changes_nothing(offered):
    offered.layout.state_dir.rmdir()
    run = offered.upgrade("--dry-run")
    assert run.outcome == (0, "dry-run")
    assert run.summary["decision"] == "upgrade"
    assert [(told["gate"], told["open"]) for told in run.summary["gates"]] == [
        (gate, True) for gate in GATES
    ]
    assert run.named("verify.passed") != []
    assert run.named("fetch.started") == []
    assert_untouched(offered, run)


def assert_untouched(machine, run):
    assert_unchanged(run)
    assert not machine.layout.state_dir.exists()
    assert not Path(machine.farm.second).exists()
    assert machine.activations() == []
    assert list(machine.layout.marks_dir.iterdir()) == []
    machine.layout.state_dir.mkdir()
