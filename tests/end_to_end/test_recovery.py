"""Killed at every point of an upgrade, the next run ends in a recovered state."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from agent.demo.stage import Service
from killing import killer
from killing.recovered import assert_recovered

KILLER = Path(killer.__file__)


@pytest.fixture
def ready(machine):
    """A machine that checks a service of its own, and evaluates nothing."""
    machine.configure(strategy="store-path", verify=False)
    machine.offer(machine.farm.first)
    with Service(machine.layout) as service:
        check = {"type": "http", "name": "service", "url": f"{service.url}/", "timeout": "1s"}
        machine.configure(confirm={"checks": [check]})
        yield machine


def kill(machine, point):
    """Run `agent upgrade` and have it killed at a point."""
    machine.write_settings()
    argv = [sys.executable, str(KILLER), point, *machine.argv("upgrade")[3:]]
    child = machine.spawn(argv)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, (point, child.returncode, stdout, stderr)


@pytest.mark.parametrize("point", killer.points(killer.UPGRADE))
def test_an_upgrade_killed_at_a_point_is_recovered_from(ready, point):
    ready.offer(ready.farm.second)
    kill(ready, point)
    run = ready.upgrade()
    assert run.exit_code in (0, 75), run.stdout
    assert_recovered(ready, [ready.farm.first, ready.farm.second])
    assert ready.upgrade().exit_code in (0, 75)
    assert_recovered(ready, [ready.farm.first, ready.farm.second])


@pytest.mark.parametrize("point", killer.points(killer.ROLL_BACK))
def test_a_roll_back_killed_at_a_point_is_recovered_from(ready, point):
    ready.offer(ready.farm.broken)
    kill(ready, point)
    ready.upgrade()
    assert_recovered(ready, [ready.farm.first])
    held = ready.upgrade()
    assert (held.exit_code, held.summary["outcome"]) == (75, "held"), held.stdout
    assert held.summary["reasons"][0]["name"] in ("denied", "suspect")
