"""What ends the idle path on a host that has changed, or is about to."""

from __future__ import annotations

import pytest

from end_to_end.machine import assert_unchanged, settle

pytestmark = pytest.mark.long


@pytest.fixture(name="settled")
def _settled(machine):
    """A machine whose next run is an idle one."""
    settle(machine)
    return machine


def test_a_newer_build_is_taken(settled):
    settled.offer(settled.farm.first)
    run = settled.upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == settled.farm.first


def test_a_link_that_someone_moved_is_noticed(settled):
    path = settled.layout.profile
    path.unlink()
    path.symlink_to(settled.farm.first)
    run = settled.upgrade()
    assert run.outcome == (75, "held")
    assert [reason["name"] for reason in run.summary["reasons"]] == ["foreign-system"]
    assert_unchanged(run)
    passed = settled.upgrade("--ignore-gate", "foreign-system", "--reason", "that was me")
    assert passed.outcome == (0, "confirmed")
    assert (passed.after.running, passed.after.profile) == (settled.farm.second,) * 2


def test_a_failure_after_a_quiet_time_ends_it(machine):
    machine.configure(strategy="store-path", verify=False)
    settle(machine)
    machine.host.inject("stc-exit.switch", "1")
    machine.offer(machine.farm.broken)
    failed = machine.upgrade()
    assert failed.outcome == (1, "failed")
    # The links are where they were, and yet there is something to tell.
    assert failed.after.running == failed.before.running
    machine.host.repair()
    run = machine.upgrade()
    assert run.outcome == (75, "held")
    assert [reason["name"] for reason in run.summary["reasons"]] == ["suspect"]


def test_other_arguments_are_other_settings(settled):
    settled.configure(reboot={"mode": "never"})
    run = settled.upgrade("--action", "boot")
    assert run.summary["event"] == "run.finished"
    assert settled.upgrade("--dry-run").outcome == (0, "dry-run")


def test_a_failed_run_leaves_no_note(offered):
    offered.host.inject("stc-exit", "2")
    assert offered.upgrade().exit_code == 1
    assert not (offered.layout.state_dir / "idle.json").exists()
