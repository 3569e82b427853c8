"""Settings that cannot be used, and words that are no command line."""

from __future__ import annotations

import json
import os

import pytest

from end_to_end.machine import assert_fault, assert_unchanged

CHECK = {"type": "icmp", "host": "gateway"}

TABLES = {
    "unknown": (
        {
            "acton": "switch",
            "hydra": {"instances": "x"},
            "health": {"checks": [{**CHECK, "hots": "x"}]},
        },
        ["acton", "hydra.instances", "health.checks[0].hots"],
    ),
    "of a wrong type": (
        {"verify": "perhaps", "hydra": {"timeout": [], "project": 7}},
        ["verify", "hydra.timeout", "hydra.project"],
    ),
    "without sense": (
        {
            "action": "reboot",
            "disk": {"store_reserve": "much", "boot_reserve": -1},
            "flags": ["--rollback"],
            "health": {"checks": [{"type": "telepathy"}]},
            "hydra": {"jobset": "..", "instance": "https://me:hunter2@hydra.example.org"},
        },
        [
            *("action", "disk.store_reserve", "disk.boot_reserve", "flags[0]", "health.checks[0]"),
            *("hydra.jobset", "hydra.instance"),
        ],
    ),
    "a reboot that would undo it": (
        {"action": "test", "reboot": {"mode": "when-needed"}},
        ["reboot"],
    ),
    "builds without a flake": (
        {"strategy": "store-path", "fetch": {"local_builds": True}},
        ["fetch"],
    ),
    "a request longer than all of them": (
        {"hydra": {"timeout": "2m", "deadline": "1m"}},
        ["hydra.deadline"],
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_settings_that_cannot_be_used_are_told_with_their_keys(machine, case):
    tables, keys = TABLES[case]
    machine.configure(**tables)
    told = assert_fault(machine.upgrade(), "config-invalid", 78)
    checked = machine.run("config check")
    assert (checked.exit_code, checked.stdout) == (78, "")
    title, *lines = checked.stderr.splitlines()
    assert title.startswith("agent: the settings ")
    assert title.endswith(" cannot be used:")
    for key in keys:
        assert any(line.startswith((f"  {key}:", f"  {key}.")) for line in lines), key
    assert len(lines) == len(keys)
    for line in lines:
        assert line.strip() in told["error.message"]
    assert "hunter2" not in told["error.message"] + checked.stderr
    assert machine.questions() == []
    assert not (machine.layout.state_dir / "agent.lock").exists()


VARIABLES = {
    "unknown": ("NIXOS_HYDRA_AGENT_ACTON", "switch", "ACTON"),
    "no list": ("NIXOS_HYDRA_AGENT_FLAGS", "-L", "flags"),
}


@pytest.mark.parametrize("case", VARIABLES)
def test_variables_that_cannot_be_used_are_told_by_name(machine, case):
    name, value, key = VARIABLES[case]
    told = assert_fault(machine.upgrade(**{name: value}), "config-invalid", 78)
    assert key in told["error.message"]


def missing(file):
    file.unlink(missing_ok=True)


def gibberish(file):
    file.write_text("host = web-1\n")


FILES = {
    "missing": (missing, "config-missing"),
    "not TOML": (gibberish, "config-syntax"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_none(machine, tmp_path, case):
    arrange, kind = FILES[case]
    machine.config = tmp_path / "config.toml"
    arrange(machine.config)
    machine.write_settings = lambda: None
    told = assert_fault(machine.upgrade(), kind, 78)
    assert str(machine.config) in told["error.message"]
    checked = machine.run("config check")
    assert (checked.exit_code, checked.stdout) == (78, "")
    assert checked.stderr == f"agent: {told['error.message']} [{kind}]\n"


def test_a_file_that_may_not_be_read(machine):
    machine.write_settings()
    machine.config.chmod(0)
    machine.write_settings = lambda: None
    told = assert_fault(machine.upgrade(wrapped_in=without_privileges()), "config-unreadable", 78)
    assert "Permission denied" in told["error.message"]


def without_privileges():
    """Root may read what nobody may: let it go without what lets it."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


def test_settings_that_can_be_used_are_told_so(machine):
    checked = machine.run("config check")
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert str(machine.config) in checked.stdout


def test_variables_go_before_the_file_and_arguments_before_both(offered):
    offered.configure(action="boot")
    run = offered.upgrade("--action", "dry-activate", NIXOS_HYDRA_AGENT_ACTION="test")
    assert run.summary["action"] == "dry-activate"
    shown = offered.run("config show", NIXOS_HYDRA_AGENT_ACTION="test")
    assert json.loads(shown.stdout)["action"] == "test"


WORDS = {
    "no such option": ("upgrade", "--nonesuch"),
    "no such action": ("upgrade", "--action", "reboot"),
}


@pytest.mark.parametrize("case", WORDS)
def test_words_that_are_no_command_line(machine, case):
    run = machine.run(*WORDS[case])
    assert (run.exit_code, run.stdout) == (64, "")
    assert "Error:" in run.stderr
    assert_unchanged(run)
    assert machine.questions() == []
