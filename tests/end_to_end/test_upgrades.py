"""Upgrades that go well: every action and strategy, reboots, and rehearsals."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.gate import Stage
from agent.domain.gates import asked_at
from built_systems import DOTTED, HOST
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
    [*((action, "flake") for action in ACTIONS), ("switch", "store-path"), ("boot", "store-path")],
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


def test_a_host_with_dots_in_its_name(machine):
    follow(machine, DOTTED, machine.farm.dotted)
    for build in list(machine.world.builds.values()):
        build.job = f'"{DOTTED}"'
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == machine.farm.dotted


def test_without_verification_what_was_built_is_what_is_activated_and_told(offered):
    offered.configure(verify=False)
    offered.host.inject("wrong-path", DOTTED)
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    (warned,) = run.named("verify.skipped")
    assert warned["level"] == "warning"
    (differed,) = run.named("build.differed")
    assert (differed["toplevel"], differed["built"]) == (offered.farm.second, offered.farm.dotted)
    assert run.after.running == offered.farm.dotted
    assert offered.rows()[-1]["toplevel"] == offered.farm.dotted


def test_a_host_may_build_what_no_cache_has_when_it_is_allowed_to(machine):
    follow(machine, "unpublished", machine.farm.unpublished)
    machine.configure(fetch={"local_builds": True})
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == machine.farm.unpublished


def test_a_host_that_runs_the_newest_build_already_has_nothing_to_do(machine):
    machine.offer(machine.farm.first)
    run = machine.upgrade()
    assert run.outcome == (0, "nothing-to-do")
    assert_unchanged(run)
    assert [row["outcome"] for row in machine.rows()] == ["nothing-to-do"]
    assert machine.activations() == []


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


def test_a_reboot_that_changed_nothing_is_not_repeated(machine):
    follow(machine, "new-kernel", machine.farm.new_kernel)
    machine.configure(reboot={"mode": "when-needed"})
    assert machine.upgrade().outcome == (0, "rebooting")
    (machine.layout.boot / "efivars/LoaderEntryOneShot").unlink()  # somebody picks an older entry
    machine.host.power_cycle()
    again = machine.upgrade()
    assert again.outcome == (75, "held")
    assert [told["name"] for told in again.summary["reasons"]] == ["reboot-ineffective"]
    assert again.after.reboots.count("\n") == 1


def test_a_reboot_that_never_happened_is_asked_for_again(machine):
    follow(machine, "new-kernel", machine.farm.new_kernel)
    machine.configure(reboot={"mode": "when-needed"})
    assert machine.upgrade().outcome == (0, "rebooting")
    again = machine.upgrade()
    assert again.outcome == (0, "rebooting")
    assert again.after.reboots.count("\n") == 2


def test_no_reboot_where_none_is_needed(offered):
    offered.configure(reboot={"mode": "when-needed"})
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.reboots == ""


def test_a_new_kernel_waits_for_somebody_elses_reboot_when_none_is_allowed(machine):
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


def test_a_dry_run_tells_every_gate_that_would_hold(offered):
    offered.layout.state_dir.rmdir()
    check = {"type": "http", "name": "neighbour", "url": "http://127.0.0.1:9/"}
    offered.configure(
        disk={"store_reserve": "1000TiB", "boot_reserve": "1000TiB"}, health={"checks": [check]}
    )
    run = offered.upgrade("--dry-run")
    assert run.outcome == (0, "dry-run")
    assert run.summary["decision"] == "hold"
    held = [told["name"] for told in run.summary["reasons"]]
    assert held == ["boot-space", "store-space", "health"]
    assert_untouched(offered, run)


def assert_untouched(machine, run):
    assert_unchanged(run)
    assert not machine.layout.state_dir.exists()
    assert not Path(machine.farm.second).exists()
    assert machine.activations() == []
    assert list(machine.layout.marks_dir.iterdir()) == []
    machine.layout.state_dir.mkdir()


def test_a_dry_run_finds_what_a_run_would_refuse(offered):
    offered.configure(host=DOTTED, hydra={"job": HOST})
    run = offered.upgrade("--dry-run")
    assert (run.exit_code, run.summary["error.kind"]) == (1, "path-mismatch")
    assert_unchanged(run)
    assert offered.rows() == []
