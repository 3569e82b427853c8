"""Whether the clock is synchronised, from what the kernel and chronyd say."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.adapters.process import Runner
from agent.adapters.systemd.time_sync import is_synchronised
from fakes.events import RememberedEvents, SteppedClock

# As `chronyc -c tracking` writes it (chrony 4, client.c).
FIELDS = {
    "reference id": "C0000201",
    "name": "192.0.2.1",
    "stratum": "3",
    "reference time": None,
    "system time": "0.000012345",
    "last offset": "-0.000004",
    "rms offset": "0.0001",
    "frequency": "-12.345",
    "residual": "0.000",
    "skew": "0.020",
    "root delay": "0.012",
    "root dispersion": "0.001",
    "update interval": "64.5",
    "leap status": "Normal",
}


def tracking(age=30.0, **changed):
    given = {**FIELDS, "reference time": f"{time.time() - age:.9f}"}
    given |= {name.replace("_", " "): value for name, value in changed.items()}
    return ",".join(str(value) for value in given.values()) + "\n"


@pytest.fixture
def machine(tmp_path):
    """A PATH with the programs that a test puts there, and a function that asks."""

    class Machine:
        def answers(self, program, stdout, exit_code=0):
            (tmp_path / f"{program}.out").write_text(stdout)
            file = tmp_path / program
            file.write_text(f"#!/bin/sh\ncat {tmp_path}/{program}.out\nexit {exit_code}\n")
            file.chmod(0o755)

        def ask(self):
            environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
            runner = Runner(RememberedEvents(), SteppedClock(), environment)
            return asyncio.run(is_synchronised(runner))

    machine = Machine()
    machine.answers("timedatectl", "no\n")
    machine.answers("chronyc", "506 Cannot talk to daemon\n", exit_code=1)
    return machine


@pytest.mark.parametrize(("said", "answer"), [("yes\n", True), ("no\n", False), ("", None)])
def test_without_chronyd_the_kernel_is_taken_at_its_word(machine, said, answer):
    machine.answers("timedatectl", said)
    assert machine.ask() is answer


def test_a_kernel_that_cannot_be_asked_says_nothing(machine):
    machine.answers("timedatectl", "yes\n", exit_code=1)
    assert machine.ask() is None


@pytest.mark.parametrize("said", ["no\n", ""])
def test_chronyd_keeps_the_time_without_telling_the_kernel(machine, said):
    machine.answers("timedatectl", said)
    machine.answers("chronyc", tracking())
    assert machine.ask() is True


@pytest.mark.parametrize(
    ("age", "changed"),
    [
        (30, {"leap_status": "Not synchronised"}),
        (30, {"leap_status": "Invalid"}),
        (30, {"leap_status": ""}),
        (4000, {}),
        (86400, {"update_interval": "1030.0"}),
        (-60, {}),
        (30, {"system_time": "17.0"}),
        (30, {"system_time": "-3600.0"}),
        (0, {"reference_id": "7F7F0101", "name": "", "stratum": "10"}),
        (30, {"reference_id": "4D414E55"}),
        (30, {"reference_time": "0.000000000", "reference_id": "00000000"}),
        (30, {"reference_id": "00000000"}),
        (30, {"stratum": "0"}),
        (30, {"stratum": "16"}),
        (200_000, {"update_interval": "1e12"}),
    ],
)
def test_what_chronyd_does_not_track_or_not_any_more_proves_nothing(machine, age, changed):
    machine.answers("chronyc", tracking(age, **changed))
    assert machine.ask() is False


def test_a_reference_of_rare_updates_is_recent_for_longer(machine):
    machine.answers("chronyc", tracking(4000, update_interval="1030.0"))
    assert machine.ask() is True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage\n",
        f"506 Cannot talk to daemon\n{tracking()}",
        tracking(stratum="two"),
        tracking(system_time="much"),
        tracking(system_time="nan"),
        tracking(reference_time="inf"),
        tracking().strip() + ",more\n",
    ],
)
def test_what_cannot_be_read_is_unknown(machine, text):
    machine.answers("chronyc", text)
    assert machine.ask() is None


def test_the_flag_of_the_kernel_outlives_what_chronyd_has_lost(machine):
    machine.answers("timedatectl", "yes\n")
    machine.answers("chronyc", tracking(leap_status="Not synchronised"))
    assert machine.ask() is False
    machine.answers("chronyc", tracking(age=90_000))
    assert machine.ask() is False


def test_a_chronyd_that_cannot_be_read_leaves_the_kernel_its_word(machine):
    machine.answers("timedatectl", "yes\n")
    machine.answers("chronyc", "a new format\n")
    assert machine.ask() is True
