"""Commands in this very process, on a host that has nothing but directories, without a Hydra."""

from __future__ import annotations

import json
import os

import pytest

from agent.cli.main import run

FIRST = "0" * 32 + "-nixos-1"


@pytest.fixture
def agent(tmp_path, capsys, monkeypatch):
    """Run a command; gives exit code, standard output and standard error."""
    monkeypatch.setenv("PATH", "/nonexistent")  # the machine's own systemd is not asked
    paths = {name: tmp_path / name for name in ("state", "marks", "store", "run")}
    for directory in paths.values():
        directory.mkdir()
    (paths["store"] / FIRST).mkdir()
    links = {"current_system": "current", "booted_system": "booted", "profile": "system"}
    for link in links.values():
        (paths["run"] / link).symlink_to(paths["store"] / FIRST)
    lines = [f'{key} = "{paths["run"] / link}"' for key, link in links.items()]
    lines += [f'{name}_dir = "{path}"' for name, path in paths.items() if name != "run"]
    config = tmp_path / "config.toml"
    config.write_text(
        'host = "h"\n[hydra]\ninstance = "http://127.0.0.1:1"\nproject = "p"\njobset = "j"\n'
        'timeout = "50ms"\ndeadline = "50ms"\n[paths]\n' + "\n".join(lines) + "\n"
    )

    def play(command, *arguments):
        code = run([command, "--config", str(config), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    play.first = str(paths["store"] / FIRST)
    return play


def test_what_a_person_denies_is_in_the_history_until_it_is_allowed(agent):
    assert agent("history") == (0, "nothing has happened here yet\n", "")
    code, out, _ = agent("deny", agent.first, "--reason", "why", "--for", "3d")
    assert (code, out.startswith(f"{agent.first} is denied until 2")) == (0, True)
    code, out, _ = agent("history", "--json")
    (denial,) = json.loads(out)["denials"]
    assert (code, denial["toplevel"], denial["reason"]) == (0, agent.first, "why")
    assert agent("allow", agent.first) == (0, f"{agent.first} is allowed again\n", "")
    code, out, err = agent("allow", agent.first)
    assert (code, out, err.endswith("[nothing-held]\n")) == (1, "", True)


def test_without_a_hydra_an_upgrade_is_a_fault_and_nothing_changes(agent):
    code, out, err = agent("upgrade", "--json")
    last = json.loads(out.splitlines()[-1])
    assert (code, err) == (69, "")
    assert (last["event"], last["outcome"], last["exit_code"]) == ("run.finished", "failed", 69)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_without_a_hydra_the_status_tells_of_the_host_all_the_same(agent, arguments):
    code, out, _ = agent("status", *arguments)
    assert code == 69
    assert agent.first in out


def test_the_status_of_a_home_says_so(agent, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_TARGET", "home-manager")
    code, out, err = agent("status")
    assert (code, out.split()[:2]) == (69, ["home", "h"]), err
    assert "booted" not in out
    _, out, _ = agent("status", "--json")
    told = json.loads(out)
    assert (told["target"], told["home"]) == ("home-manager", "h")
    assert {"host", "booted", "loader_fallback", "reboot"}.isdisjoint(told)


def test_the_status_of_a_host_says_so(agent):
    _, out, _ = agent("status", "--json")
    told = json.loads(out)
    assert (told["target"], told["host"]) == ("nixos", "h")
    assert {"booted", "loader_fallback", "reboot"} <= set(told)


def test_a_canary_that_refuses_is_told(agent):
    code, out, _ = agent("check", "--canary", "http://127.0.0.1:1/", "--json")
    assert code == 1
    assert "connection refused" in out


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        ("confirm", (), (0, "nothing-to-do")),
        ("confirm", ("--force",), (0, "nothing-to-do")),
        ("rollback", ("--reason", "why"), (1, "failed")),
    ],
)
def test_where_nothing_is_pending_nothing_is_done(agent, command, arguments, told):
    code, out, _ = agent(command, "--json", *arguments)
    assert (code, json.loads(out.splitlines()[-1])["outcome"]) == told


def test_a_dead_man_of_an_upgrade_that_is_over_does_nothing(agent):
    code, _, err = agent("dead-man", "--run-id", "x", "--toplevel", agent.first)
    assert (code, err) == (0, "")


def test_a_dead_man_of_no_system_is_a_wrong_command_line(agent):
    code, _, err = agent("dead-man", "--run-id", "x", "--toplevel", "/etc/passwd")
    assert code == 64
    assert "is not a store path in" in err


def test_settings_without_a_file_are_not_said_to_be_a_valid_one(tmp_path, capsys, monkeypatch):
    from agent.config import load

    for name in list(os.environ):
        if name.upper().startswith("NIXOS_HYDRA_AGENT_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(load, "DEFAULT_FILE", tmp_path / "config.toml")
    assert run(["config", "check", "--flake-update"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"there is no {tmp_path}/config.toml")
    assert "valid" not in said.err
    assert run(["config", "check"]) == 78
    assert "which does not exist" in capsys.readouterr().err
    (tmp_path / "config.toml").write_text("verify = false\n")
    assert run(["config", "check", "--flake-update"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/config.toml: the settings are valid\n"
