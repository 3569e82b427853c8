"""Activations that go wrong: what is told is what the host shows, and the next run tries again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from end_to_end.machine import assert_told, assert_unchanged


def told_place(now, before, candidate):
    if now == candidate:
        return "the candidate"
    return f"unchanged ({now})" if now == before else f"now {now}"


def assert_truthful(machine, run, kind):
    """Assert that event, summary and journal tell what the links show; return the message."""
    message = assert_told(run, kind, 1)["error.message"]
    candidate, before, after = machine.farm.second, run.before, run.after
    running = told_place(after.running, before.running, candidate)
    profile = told_place(after.profile, before.profile, candidate)
    assert f"the running system is {running}, the profile is {profile}" in message
    told = run.summary
    assert (told["running"], told["profile"]) == (after.running, after.profile)
    assert (after.booted, after.reboots) == (before.booted, "")
    row = machine.rows()[-1]
    assert (row["outcome"], row["error_kind"], row["error_message"]) == ("failed", kind, message)
    assert (row["toplevel"], row["previous"]) == (candidate, before.running)
    assert (row["exit_code"], row["action"]) == (1, told["action"])
    return message


def assert_next_run_does_it(machine):
    machine.host.mend()
    run = machine.upgrade()
    assert run.outcome == (0, "confirmed")
    assert (run.after.running, run.after.profile) == (machine.farm.second,) * 2
    assert machine.rows()[-1]["outcome"] == "confirmed"


# Injected fault, its content; kind; whether running and profile are the candidate afterwards.
CASES = {
    "refused": ("stc-exit", "1", "activation-failed", False),
    "the activation script failed": ("stc-exit", "2", "activation-script-failed", True),
    "units failed": ("stc-exit", "4", "units-failed", True),
    "a snippet failed": ("fail-activate", "", "activation-script-failed", True),
    "no boot loader": ("fail-bootloader", "", "activation-failed", False),
    "killed": ("kill-self", "", "activation-killed", False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failed_switch_is_told_truthfully_and_tried_again(offered, case):
    name, content, kind, is_running = CASES[case]
    offered.host.inject(name, content)
    run = offered.upgrade()
    message = assert_truthful(offered, run, kind)
    assert (run.after.running == offered.farm.second) is is_running
    assert run.after.profile == offered.farm.second
    assert message.startswith("nixos-rebuild switch of ")
    if is_running:  # all links are as they should be, and yet it is not done
        assert_next_run_does_it(offered)


def test_units_that_failed_hide_no_failed_activation_script(offered):
    offered.host.inject("stc-exit", "4")
    offered.host.inject("fail-activate")
    message = assert_truthful(offered, offered.upgrade(), "units-failed")
    assert "units and the activation script failed" in message


def test_a_nixos_rebuild_that_is_killed_leaves_the_activation_to_end(offered):
    gate = offered.gate_activation()
    before = offered.look()
    child = offered.start("upgrade")
    with gate.reached():
        os.kill(parent_of(offered.pid_of_activation()), signal.SIGKILL)
    run = offered.finish(child, before)
    message = assert_truthful(offered, run, "activation-killed")
    assert "signal 9" in message
    assert run.after.running == offered.farm.second
    assert_next_run_does_it(offered)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_an_activation_that_takes_too_long_is_ended(offered):
    offered.configure(activate={"deadline": "1s"})
    gate = offered.gate_activation()
    before = offered.look()
    child = offered.start("upgrade")
    with gate.reached():
        pid = offered.pid_of_activation()
        run = offered.finish(child, before)
    message = assert_truthful(offered, run, "activation-timeout")
    assert "did not end in time" in message
    assert run.after.running == before.running
    assert not offered.is_alive(pid)
    offered.configure(activate={"deadline": "30m"})
    assert_next_run_does_it(offered)


@pytest.mark.parametrize("action", ["test", "dry-activate"])
def test_what_only_a_reboot_can_start_cannot_be_tried(offered, action):
    offered.host.inject("stc-exit", "100")
    offered.configure(action=action)
    run = offered.upgrade()
    assert_truthful(offered, run, "activation-needs-reboot")
    assert_unchanged(run)


@pytest.mark.parametrize("action", ["boot", "test"])
def test_another_action_that_fails_is_told_as_itself(offered, action):
    offered.host.inject(f"stc-exit.{action}", "1")
    offered.configure(action=action)
    run = offered.upgrade()
    message = assert_truthful(offered, run, "activation-failed")
    assert f"nixos-rebuild {action} of " in message
    if action != "boot":
        assert_unchanged(run)


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
    assert_truthful(offered, run, "activation-ineffective")
    assert_unchanged(run)
    assert_next_run_does_it(offered)


def test_a_reboot_that_is_refused_is_told_and_asked_for_again(machine):
    machine.offer(machine.farm.first)
    machine.offer(machine.farm.new_kernel, job="new-kernel")
    machine.configure(host="new-kernel", reboot={"mode": "when-needed"})
    machine.host.inject("fail-reboot")
    run = machine.upgrade()
    told = assert_told(run, "reboot-failed", 1)
    assert "Access denied" in told["error.message"]
    assert run.after.profile == machine.farm.new_kernel
    assert run.summary["profile"] == machine.farm.new_kernel
    assert run.after.reboots == ""
    machine.host.mend()
    again = machine.upgrade()
    assert again.outcome == (0, "rebooting")
    assert again.after.reboots.count("\n") == 1
    assert machine.activations() == ["boot"]
