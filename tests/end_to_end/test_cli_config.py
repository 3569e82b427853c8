from __future__ import annotations

import asyncio
import json
import os

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.hydra.client import HydraClient
from agent.cli.main import run
from agent.domain.errors import HydraError, Kind
from agent.domain.job import Job, Select
from end_to_end.command_line import HYDRA, agent
from fakes.events import RememberedEvents


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("NIXOS_HYDRA_AGENT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('host = "web-1"\n' + HYDRA)
    return file


def test_valid_settings_are_told_so(capsys, config):
    assert run(["config", "check", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{config}: the settings are valid\n"


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"http_proxy": "socks4://127.0.0.1:1"}, 78),
        ({"all_proxy": "nonsense"}, 0),
        ({"ALL_PROXY": "http://[::1"}, 78),
        ({"ALL_PROXY": "http://[::1", "no_proxy": "hydra.example.org"}, 0),
        ({"all_proxy": "socks5h://127.0.0.1:1"}, 0),
        ({"all_proxy": "http://p", "NO_PROXY": "[::1],fd00::/8,10.0.0.0/8,x:1"}, 0),
        ({"https_proxy": "nonsense://p"}, 0),
    ],
)
def test_valid_settings_do_not_fail_by_a_proxy_later(capsys, config, monkeypatch, variables, code):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config.write_text(config.read_text().replace("127.0.0.1:1", "hydra.example.org"))
    assert run(["config", "check", "--config", str(config)]) == code
    client = HydraClient(
        "http://hydra.example.org",
        timeout=0.01,
        deadline=0.01,
        sink=RememberedEvents(),
        clock=SystemClock(),
    )
    with pytest.raises(HydraError) as caught:
        asyncio.run(client.newest_good_build(Job("", "p", "j", "a"), Select.LATEST))
    assert (caught.value.kind is Kind.CONFIG_INVALID) == (code == 78)
    if code:
        assert f"hydra.instance: {next(iter(variables))}: " in capsys.readouterr().err


def test_updates_of_a_flake_need_no_hydra(capsys, config):
    config.write_text('[flake_update]\nremote = "codeberg"\n[notify]\nntfy_topic = "t"\n')
    assert run(["config", "check", "--config", str(config)]) == 78
    assert "hydra" in capsys.readouterr().err
    assert run(["config", "check", "--flake-update", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{config}: the settings are valid\n"


@pytest.mark.parametrize(
    "table",
    [
        '[notify]\nntfy_topic = "t"\n',
        '[notify]\nurls_file = "/run/secrets/urls"\n',
        '[notify]\nntfy_server = "https://ntfy.example.org"\n',
        '[notify]\ntimeout = "5s"\n',
    ],
)
def test_a_host_that_would_notify_nobody_is_warned(capsys, config, table):
    config.write_text(HYDRA + table)
    assert run(["config", "check", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{config}: the settings are valid\n"
    assert said.err == (
        "warning: notify: only `agent flake-update run` sends notifications; this host's own"
        " upgrades notify nobody\n"
    )


def test_a_host_is_warned_of_a_variable_as_of_the_file(capsys, config, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_NOTIFY__NTFY_TOPIC", "t")
    assert run(["config", "check", "--config", str(config)]) == 0
    assert "warning: notify: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("[notify]\n", []),
        ('[notify]\nntfy_server = "https://ntfy.sh"\n', []),
        ('[notify]\nntfy_topic = "t"\n', ["--flake-update"]),
        ('[notify]\nntfy_topic = "t"\n[flake_update]\nremote = "codeberg"\n', []),
    ],
)
def test_settings_of_which_nothing_goes_unused_have_no_warning(capsys, config, table, options):
    config.write_text(HYDRA + table)
    assert run(["config", "check", *options, "--config", str(config)]) == 0
    assert capsys.readouterr().err == ""


def test_an_ntfy_server_with_a_path_is_refused(capsys, config):
    config.write_text(HYDRA + '[notify]\nntfy_server = "https://example.org/ntfy"\n')
    assert run(["config", "check", "--config", str(config)]) == 78
    assert "notify.ntfy_server: an ntfy server is a URL without a path" in capsys.readouterr().err


def test_the_file_may_be_named_by_a_variable(capsys, config, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_CONFIG", str(config))
    assert run(["config", "check"]) == 0
    assert str(config) in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "show"])
def test_every_problem_is_one_line_with_its_key(capsys, config, command):
    config.write_text('bogus = 1\naction = "test"\n' + HYDRA + '[reboot]\nmode = "always"\n')
    assert run(["config", command, "--config", str(config)]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    first, *problems = said.err.splitlines()
    assert first == f"agent: the settings from {config} cannot be used:"
    assert [line.split(":")[0].strip() for line in problems] == ["reboot", "bogus"]


@pytest.mark.parametrize(
    ("content", "kind"), [(None, "config-missing"), (b"\xff", "config-syntax")]
)
def test_a_file_that_is_none_is_told_in_one_line(capsys, config, content, kind):
    config.unlink()
    if content is not None:
        config.write_bytes(content)
    assert run(["config", "check", "--config", str(config)]) == 78
    said = capsys.readouterr().err
    assert str(config) in said
    assert said.endswith(f"[{kind}]\n")
    assert said.count("\n") == 1


def test_a_directory_is_told_in_one_line(capsys, tmp_path):
    assert run(["config", "check", "--config", str(tmp_path)]) == 78
    assert capsys.readouterr().err.endswith("[config-unreadable]\n")


def test_merged_settings_are_shown_in_the_words_of_the_file(capsys, config, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_HYDRA__TIMEOUT", "7")
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_FLAGS", '["--option", "access-tokens", "x=hunter2"]')
    assert run(["config", "show", "--config", str(config)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["hydra"]["timeout"] == "7s"
    assert shown["disk"]["store_reserve"] == "1GiB"
    assert shown["flags"] == ["--option", "access-tokens", "***"]
    assert shown["host"] == "web-1"


def test_the_schema_is_shown_without_any_settings(capsys, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_CONFIG", "/nonexistent")
    assert run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "nixos-hydra-agent"


def test_the_log_format_of_the_file_arrives(config, tmp_path):
    """The one key that reaches neither the policy nor an adapter."""
    config.write_text(
        'host = "web-1"\n' + HYDRA
        + f'deadline = "1s"\ntimeout = "1s"\n[paths]\nstate_dir = "{tmp_path}/state"\n'
        + f'store_dir = "{tmp_path}"\n'
    )  # fmt: skip
    as_json = agent("upgrade", "--config", str(config))
    as_text = agent("upgrade", "--config", str(config), NIXOS_HYDRA_AGENT_LOG__FORMAT="console")
    assert as_json.returncode == as_text.returncode == 69
    assert json.loads(as_json.stdout.splitlines()[-1])["event"] == "run.finished"
    assert "run.finished" in as_text.stdout
    assert "{" not in as_text.stdout.splitlines()[-1][:1]
