"""What systemctl is asked of a unit, and what its answers mean; a stub answers in its place."""

from __future__ import annotations

import asyncio
import shlex
from datetime import timedelta

import pytest

from agent.checks.unit.probe import UnitProbe
from agent.domain.check import UnitCheck

LONG = timedelta(seconds=30)


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """Let a line of shell be systemctl; None is none at all."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    def make(script):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "systemctl"
        if script is None:
            monkeypatch.setenv("PATH", str(tmp_path))
        else:
            program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{script}\n')
            program.chmod(0o755)
        return tmp_path / "asked"

    return make


def probe(unit="web.service", timeout=LONG):
    return asyncio.run(UnitProbe().probe(UnitCheck("n", unit, timeout)))


def saying(active, sub="x", load="loaded", result="success", more=""):
    text = f"LoadState={load}\nActiveState={active}\nSubState={sub}\nResult={result}\n{more}"
    return f"printf %s {shlex.quote(text)}"


OF_A_TIMER = "Type=oneshot\nTriggeredBy=backup.path backup.timer\n"


def test_systemctl_is_asked_for_properties_and_cannot_take_a_unit_for_an_option(systemctl):
    asked = systemctl(saying("active"))
    probe("-x.service")
    assert asked.read_text().split() == [
        "show",
        "--property=LoadState,ActiveState,SubState,Result,Type,TriggeredBy",
        "--",
        "-x.service",
    ]


@pytest.mark.parametrize("state", ["active", "reloading", "refreshing"])
def test_a_unit_that_is_at_work_is_well(systemctl, state):
    systemctl(saying(state))
    result = probe()
    assert (result.is_well, result.reason) == (True, "")
    assert timedelta(0) < result.latency < LONG


@pytest.mark.parametrize("state", ["inactive", "activating", "active"])
def test_a_timers_job_that_rests_or_runs_is_well(systemctl, state):
    systemctl(saying(state, more=OF_A_TIMER))
    assert probe().is_well


@pytest.mark.parametrize(
    "said",
    [
        saying("failed", "failed", result="exit-code", more=OF_A_TIMER),
        saying("inactive", "dead", result="exit-code", more=OF_A_TIMER),
        saying("activating", "auto-restart", result="exit-code", more=OF_A_TIMER),
        saying("inactive", "dead", load="masked", more=OF_A_TIMER),
        saying("inactive", "dead", more="Type=exec\nTriggeredBy=backup.timer\n"),
        saying("inactive", "dead", more="Type=oneshot\nTriggeredBy=backup.path\n"),
        saying("inactive", "dead", more="Type=oneshot\nTriggeredBy=\n"),
    ],
)
def test_what_is_no_job_of_a_timer_in_order_is_not(systemctl, said):
    systemctl(said)
    assert (probe().is_well, probe().is_conclusive) == (False, True)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (saying("failed", "failed", result="exit-code"), "failed (failed), result exit-code"),
        (saying("inactive", "dead"), "inactive (dead)"),
        (saying("activating", "start-pre"), "activating (start-pre)"),
        (saying("inactive", "dead", load="not-found"), "there is no such unit"),
        (saying("inactive", "dead", load="masked"), "inactive (dead), masked"),
        (
            saying("inactive", "dead", load="bad-setting", result="resources"),
            "inactive (dead), result resources, bad-setting",
        ),
    ],
)
def test_a_unit_that_is_not_is_told_in_systemds_words(systemctl, said, why):
    systemctl(said)
    result = probe()
    assert (result.is_well, result.reason, result.is_conclusive) == (False, why, True)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "echo 'Failed to connect to bus: No such file' >&2; exit 1",
            "Failed to connect to bus: No such file",
        ),
        ("exit 3", "exit code 3"),
        ("exit 0", "systemctl shows no state"),
        (
            "echo ActiveState=; echo LoadState=loaded; echo SubState=dead",
            "systemctl shows no state",
        ),
        ("echo ActiveState=failed", "systemctl shows no state"),
        ("echo ActiveStates=active", "systemctl shows no state"),
        (None, "cannot run systemctl: No such file or directory"),
    ],
)
def test_a_systemd_that_cannot_be_asked_proves_nothing_of_the_unit(systemctl, said, why):
    systemctl(said)
    result = probe()
    assert (result.is_well, result.is_conclusive) == (False, False)
    assert result.reason == f"systemd could not be asked: {why}"


def test_a_systemd_that_hangs_proves_nothing_of_the_unit(systemctl):
    systemctl("exec sleep 1000")
    result = probe(timeout=timedelta(seconds=0.2))
    assert (result.is_well, result.is_conclusive) == (False, False)
    assert result.reason == "systemd could not be asked: no answer within 0.2 s"
