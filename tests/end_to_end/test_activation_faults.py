"""Activations that go wrong: they are undone, told as they are, and held against the candidate."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from end_to_end.machine import assert_reported, assert_unchanged


def assert_undone(machine, run, kind, held_by):
    """Assert that the host is what it was, and that all tell the same; return the message.

    The fault tells what the host showed between the activation and its undoing.
    """
    candidate, before, after = machine.farm.second, run.before, run.after
    outcome = run.summary["outcome"]
    message = assert_reported(run, kind, 1, outcome=outcome)["error.message"]
    assert "the running system is " in message
    assert (after.running, after.profile) == (before.running, before.profile)
    assert (after.booted, after.reboots) == (before.booted, "")
    told = run.summary
    assert (told["running"], told["profile"]) == (after.running, after.profile)
    row = machine.rows()[-1]
    assert (row["outcome"], row["error_kind"], row["error_message"]) == (outcome, kind, message)
    assert (row["toplevel"], row["previous"]) == (candidate, before.running)
    assert (row["exit_code"], row["action"]) == (1, told["action"])
    machine.host.repair()
    held = machine.upgrade()
    assert held.outcome == (75, "held")
    assert [reason["name"] for reason in held.summary["reasons"]] == [held_by]
    assert_unchanged(held)
    return message


def assert_allowed_it_is_done(machine):
    """Assert that a person can have it tried again at once, and that it goes through."""
    assert machine.run("allow", machine.farm.second).exit_code == 0
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert (run.after.running, run.after.profile) == (machine.farm.second,) * 2
    assert run.after.boot_default == machine.farm.second
    assert machine.rows()[-1]["outcome"] == "confirmed"


# Injected fault, its content; kind; whether the system itself is to blame.
CASES = {
    "the activation script failed": ("stc-exit", "2", "activation-script-failed", "denied"),
    "no boot loader": ("fail-bootloader", "", "activation-failed", "suspect"),
    "killed": ("kill-self", "", "activation-killed", "suspect"),
}


@pytest.mark.parametrize(
    "case",
    [
        "the activation script failed",
        pytest.param("no boot loader", marks=pytest.mark.long),
        pytest.param("killed", marks=pytest.mark.long),
    ],
)
def test_a_failed_switch_is_rolled_back_from_and_told_truthfully(offered, case):
    name, content, kind, held_by = CASES[case]
    offered.host.inject(name, content)
    run = offered.upgrade()
    assert run.summary["outcome"] == "rolled-back"
    assert assert_undone(offered, run, kind, held_by).startswith("switch to ")
    assert offered.rows()[-2]["fault"] == ("broken" if held_by == "denied" else "suspect")
    assert_allowed_it_is_done(offered)


@pytest.mark.long
def test_a_switch_that_was_refused_before_it_began_is_taken_back_and_the_cause_is_quoted(offered):
    offered.host.inject("stc-exit", "1")
    run = offered.upgrade()
    assert run.summary["outcome"] == "failed"
    message = assert_undone(offered, run, "pre-switch-check-failed", "suspect")
    assert "the pre-switch check 'injected' refused it" in message
    assert "(last words: Pre-switch check 'injected' failed)" in message
    assert offered.rows()[-2]["fault"] == "suspect"
    assert offered.activations() == ["switch"]
    assert_allowed_it_is_done(offered)


@pytest.mark.long
def test_a_host_without_the_mark_of_nixos_is_to_blame_and_not_the_system(offered):
    mark = offered.layout.root / "etc/NIXOS"
    mark.unlink()
    run = offered.upgrade()
    mark.touch()
    message = assert_undone(offered, run, "host-not-nixos", "suspect")
    assert "This is not a NixOS installation!" in message
    assert_allowed_it_is_done(offered)


@pytest.mark.long
def test_units_that_fail_and_that_the_switch_has_not_broken_do_not_matter(offered):
    offered.host.inject("stc-exit", "4")
    run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == run.after.profile == offered.farm.second


def test_a_nixos_rebuild_that_is_killed_leaves_the_activation_to_end(offered):
    gate = offered.gate_activation()
    before = offered.look()
    child = offered.start("upgrade")
    with gate.reached():
        os.kill(parent_of(offered.pid_of_activation()), signal.SIGKILL)
    run = offered.finish(child, before)
    assert "signal 9" in assert_undone(offered, run, "activation-killed", "suspect")
    assert_allowed_it_is_done(offered)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.long
def test_an_activation_that_takes_too_long_is_ended(offered):
    offered.configure(activate={"deadline": "1s"})
    gate = offered.gate_activation()
    before = offered.look()
    child = offered.start("upgrade")
    with gate.reached():
        pid = offered.pid_of_activation()
        run = offered.finish(child, before)
    assert not offered.is_alive(pid)
    offered.configure(activate={"deadline": "30m"})
    assert "did not finish in time" in assert_undone(offered, run, "activation-timeout", "suspect")
    assert_allowed_it_is_done(offered)


@pytest.mark.long
def test_what_only_a_reboot_can_start_cannot_be_tried(offered):
    offered.host.inject("stc-exit", "100")
    offered.configure(action="test")
    run = offered.upgrade()
    assert_reported(run, "activation-needs-reboot", 1)
    assert_unchanged(run)


@pytest.mark.long
def test_another_action_that_fails_is_told_as_itself(offered):
    offered.host.inject("stc-exit.boot", "1")
    offered.configure(action="boot")
    run = offered.upgrade()
    assert run.summary["outcome"] == "failed"
    message = assert_undone(offered, run, "pre-switch-check-failed", "suspect")
    assert "boot to " in message


@pytest.mark.long
def test_success_that_the_host_does_not_show_is_none(offered):
    # A boot loader that was updated, and a switch that says it went well and did nothing.
    script = offered.layout.root / "bin/nixos-rebuild"
    usual = script.read_text()
    try:
        script.write_text('#!/bin/sh\ncase $1 in build) exec sh "$0.usual" "$@" ;; esac\n')
        script.with_name("nixos-rebuild.usual").write_text(usual)
        run = offered.upgrade()
    finally:
        script.write_text(usual)
        script.with_name("nixos-rebuild.usual").unlink()
    assert_undone(offered, run, "activation-ineffective", "suspect")
    assert_allowed_it_is_done(offered)


@pytest.mark.long
def test_a_reboot_that_is_refused_is_told_and_asked_for_again(machine):
    machine.offer(machine.farm.first)
    machine.offer(machine.farm.new_kernel, job="new-kernel")
    machine.configure(host="new-kernel", reboot={"mode": "when-needed"})
    machine.host.inject("fail-reboot")
    run = machine.upgrade()
    told = assert_reported(run, "reboot-failed", 1)
    assert "Access denied" in told["error.message"]
    assert run.after.profile == machine.farm.new_kernel
    assert run.summary["profile"] == machine.farm.new_kernel
    assert run.after.reboots == ""
    machine.host.repair()
    again = machine.upgrade()
    assert again.outcome == (0, "rebooting")
    assert again.after.reboots.count("\n") == 1
    # The new system's own, and the confirmed one's, to be the default until the other is confirmed.
    assert machine.activations() == ["boot"] * 2
