"""SIGTERM and SIGINT in the middle of a run: a summary, the signal's exit code, no child left."""

from __future__ import annotations

import os
import shutil
import signal
import threading

import pytest

from agent.demo.loopback import HangUp
from end_to_end.machine import assert_reported, assert_unchanged

SIGNALS = {signal.SIGTERM: ("terminated", 143), signal.SIGINT: ("interrupted", 130)}
both_signals = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
signals = pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)],
    ids=lambda number: number.name,
)

REPORTING_NIX = """#!/bin/sh
case " $* " in *" {word} "*) echo $$ > "{pipe}" ;; esac
exec "{nix}" "$@"
"""


def nix_that_reports_its_pid(machine, word):
    """Put a nix on the PATH that tells its process before it runs with a word among its arguments.

    Return the pipe by which it tells.
    """
    pipe = machine.layout.root / "tmp/pid"
    os.mkfifo(pipe)
    directory = machine.layout.root / "tmp/reporting"
    directory.mkdir()
    script = directory / "nix"
    script.write_text(REPORTING_NIX.format(word=word, pipe=pipe, nix=shutil.which("nix")))
    script.chmod(0o755)
    machine.environment["PATH"] = f"{directory}:{machine.host.environment()['PATH']}"
    return pipe


def assert_ended(machine, run, number, outcome="failed"):
    kind, code = SIGNALS[number]
    assert run.exit_code == code
    assert run.summary["error.kind"] == kind
    assert_reported(run, kind, code)
    row = machine.rows()[-1]
    assert (row["outcome"], row["error_kind"], row["exit_code"]) == (outcome, kind, code)
    return row


@signals
def test_in_the_middle_of_an_evaluation(offered, number):
    offered.offer(offered.farm.second, flake=offered.farm.farm.reference(endless(offered)))
    pipe = nix_that_reports_its_pid(offered, "--raw")
    before = offered.look()
    child = offered.start("upgrade")
    pid = int(pipe.read_text())
    assert offered.is_alive(pid)
    child.send_signal(number)
    run = offered.finish(child, before)
    assert_ended(offered, run, number)
    assert_unchanged(run)
    assert not offered.is_alive(pid)
    assert run.named("verify.started") != []
    assert run.named("verify.passed") == []


def endless(machine):
    """Commit a flake whose evaluation takes for ever: a regular expression that backtracks."""
    farm = machine.farm.farm
    usual = (farm.hosts / "flake.nix").read_text()
    flake = """{
      inputs.base.url = "@base@";
      outputs = { self, base }: {
        nixosConfigurations."web-1".config.system.build.toplevel.outPath =
          toString (builtins.match "(a*)*b" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
      };
    }"""
    base = next(line for line in usual.splitlines() if "inputs.base.url" in line).split('"')[1]
    (farm.hosts / "flake.nix").write_text(flake.replace("@base@", base))
    try:
        return farm.commit_all("hosts", "Evaluate for ever")
    finally:
        (farm.hosts / "flake.nix").write_text(usual)


@signals
def test_in_the_middle_of_a_fetch(offered, number):
    asked = threading.Event()

    def never(_request):
        asked.set()
        offered.hydra.stopping.wait()
        raise HangUp

    offered.on(f"/{nar_of(offered)}", never)
    pipe = nix_that_reports_its_pid(offered, "--out-link")
    before = offered.look()
    child = offered.start("upgrade")
    pid = int(pipe.read_text())
    assert asked.wait(30)
    child.send_signal(number)
    run = offered.finish(child, before)
    assert_ended(offered, run, number)
    assert_unchanged(run)
    assert not offered.is_alive(pid)
    assert run.named("fetch.finished") == []


def nar_of(machine):
    """Where the cache has the second system itself."""
    hash_part = machine.farm.second.rpartition("/")[2][:32]
    lines = (machine.layout.cache / f"{hash_part}.narinfo").read_text().splitlines()
    return next(line for line in lines if line.startswith("URL:")).split()[1]


@signals
def test_in_the_middle_of_an_activation(offered, number):
    gate = offered.gate_activation()
    before = offered.look()
    child = offered.start("upgrade")
    with gate.reached():
        pid = offered.pid_of_activation()
        child.send_signal(number)
        run = offered.finish(child, before)
    row = assert_ended(offered, run, number, outcome="activating")
    assert not offered.is_alive(pid)
    # The profile moves before the activation, and the summary hides nothing of it.
    assert (run.after.running, run.after.profile) == (offered.farm.first, offered.farm.second)
    assert run.summary["running"] == run.after.running
    assert run.summary["profile"] == run.after.profile
    assert (row["previous"], row["toplevel"]) == (offered.farm.first, offered.farm.second)
    message = run.summary["error.message"]
    assert f"the running system is {offered.farm.first}" in message
    assert f"the profile is {offered.farm.second}" in message
    # The next run begins with undoing it, and holds nothing against the candidate.
    again = offered.upgrade()
    assert again.outcome == (0, "confirmed")
    assert [told["step"] for told in again.named("recovery.step")] == ["restore"]
    assert [row["outcome"] for row in offered.rows()] == ["rolled-back", "confirmed"]


@both_signals
def test_while_hydra_is_asked(machine, number):
    asked = threading.Event()

    def never(_request):
        asked.set()
        machine.hydra.stopping.wait()
        raise HangUp

    machine.on("/job/nix-config/main/web-1/latest", never)
    before = machine.look()
    child = machine.start("upgrade")
    assert asked.wait(30)
    child.send_signal(number)
    run = machine.finish(child, before)
    assert_ended(machine, run, number)
    assert_unchanged(run)


def test_a_status_that_is_interrupted_is_told_in_one_line(machine):
    asked = threading.Event()

    def never(_request):
        asked.set()
        machine.hydra.stopping.wait()
        raise HangUp

    machine.on("/job/nix-config/main/web-1/latest", never)
    before = machine.look()
    child = machine.start("status")
    assert asked.wait(30)
    child.send_signal(signal.SIGINT)
    run = machine.finish(child, before)
    assert (run.exit_code, run.stdout) == (130, "")
    assert run.stderr.endswith("[interrupted]\n")
    assert run.stderr.count("\n") == 1
