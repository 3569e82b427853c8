"""Sample systems, a job and a policy."""

from __future__ import annotations

from datetime import timedelta

from agent.domain.candidate import Candidate
from agent.domain.job import Job, Select
from agent.domain.policy import (
    Action,
    ConfirmPolicy,
    OnFailure,
    Policy,
    RebootMode,
    Strategy,
)
from agent.domain.reboot import RebootPolicy
from agent.domain.store_path import StorePath
from agent.domain.window import Schedule

OLD, NEW, SPECIAL, OTHER = (StorePath(f"/nix/store/{c * 32}-nixos") for c in "abcd")
JOB = Job("https://hydra.example.org", "p", "j", "h")
POLICY = Policy(
    host="h",
    job=JOB,
    select=Select.LATEST,
    action=Action.SWITCH,
    strategy=Strategy.FLAKE,
    verify=True,
    reboot_mode=RebootMode.NEVER,
    reboot=RebootPolicy(
        schedule=Schedule(),
        inhibitor_limit=timedelta(days=1),
        user_notice=timedelta(minutes=10),
        tries_boot=True,
    ),
    upgrade_schedule=Schedule(),
    local_builds=False,
    store_reserve=1 << 30,
    boot_reserve=64 << 20,
    checks=(),
    health_deadline=timedelta(seconds=30),
    confirm=ConfirmPolicy(
        checks=(),
        settle=timedelta(seconds=30),
        deadline=timedelta(minutes=10),
        patience=timedelta(days=1),
        on_failure=OnFailure.ROLL_BACK,
        asks_hydra=True,
        asks_gateway=True,
        ignored_units=(),
        collects_garbage=False,
    ),
    foreign_hold=timedelta(days=1),
    clock_patience=timedelta(days=1),
    hydra_patience=timedelta(days=3),
    activate_deadline=timedelta(minutes=30),
    substituters=(),
)


def a_candidate(toplevel: StorePath = NEW, build_id: int = 0) -> Candidate:
    """Return a system that the job offers; no sample row is of build 0."""
    return Candidate(JOB, build_id, toplevel, "x86_64-linux", None)
