from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config.load import load_update_settings
from agent.domain.errors import ConfigError, ExitCode, Kind

FORGE = """
[forge]
kind = "forgejo"
url = "https://forge.example.org"
repository = "team/nixos"
token_file = "/run/credentials/token"
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("NIXOS_FLAKE_UPDATE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def load(tmp_path):
    def loaded(text, **overrides):
        file = tmp_path / "flake-update.toml"
        file.write_text(text)
        return load_update_settings(file, overrides=overrides)

    return loaded


@pytest.fixture
def problems(load):
    def found(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.kind is Kind.CONFIG_INVALID
        assert caught.value.exit_code is ExitCode.BAD_CONFIG
        return dict(caught.value.problems)

    return found


def test_nothing_need_be_set(load):
    settings = load("")
    update = settings.flake_update
    assert (update.remote, update.base, update.branch) == ("origin", "main", "flake-update-{date}")
    assert (update.include, update.exclude) == ((".*",), (".*-minimal",))
    assert settings.forge.kind is None
    assert settings.notify.ntfy_topic is None


def test_everything_can_be_set(load):
    settings = load(
        FORGE
        + """
labels = ["automation", "flake.lock"]
assignees = ["alice"]
auto_merge = "squash"
timeout = "5s"
[flake_update]
repository = "/home/a/src"
inputs = ["nixpkgs", "a/b"]
include = ["aomi", "rhea"]
verify = "hydra"
signing_format = "ssh"
signing_key = "/run/credentials/key"
[hydra]
instance = "https://hydra.example.org"
project = "p"
jobset = "update"
deadline = "2h"
[notify]
ntfy_server = "http://ntfy.example.org/"
ntfy_topic = "nix-updates"
urls_file = "/run/credentials/urls"
"""
    )
    assert settings.forge.labels == ("automation", "flake.lock")
    assert settings.forge.timeout == timedelta(seconds=5)
    assert settings.flake_update.repository == Path("/home/a/src")
    assert settings.hydra.deadline == timedelta(hours=2)
    assert settings.notify.ntfy_server == "http://ntfy.example.org"


def test_the_environment_goes_before_the_file_and_the_command_line_before_both(load, monkeypatch):
    monkeypatch.setenv("NIXOS_FLAKE_UPDATE_FLAKE_UPDATE__BASE", "next")
    text = '[flake_update]\nbase = "main"\nremote = "a"\n'
    assert load(text).flake_update.base == "next"
    assert load(text, flake_update={"base": "last"}).flake_update.base == "last"


@pytest.mark.parametrize("key", ["url", "repository", "token_file"])
def test_a_forge_needs_its_keys(problems, key):
    text = "\n".join(line for line in FORGE.splitlines() if not line.startswith(key))
    assert problems(text) == {f"forge.{key}": "is required with forge.kind = 'forgejo'"}


def test_github_needs_no_url(load):
    text = FORGE.replace("forgejo", "github").replace('url = "https://forge.example.org"', "")
    assert load(text).forge.url is None


@pytest.mark.parametrize("key", ["instance", "project", "jobset"])
def test_a_proof_by_hydra_needs_a_jobset(problems, key):
    keys = {"instance": "http://h", "project": "p", "jobset": "j"}
    told = "\n".join(f'{name} = "{value}"' for name, value in keys.items() if name != key)
    found = problems(f'[flake_update]\nverify = "hydra"\n[hydra]\n{told}\n')
    assert found == {"hydra": f"{key} is required with flake_update.verify = 'hydra'"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flake_update.base", '"--upload-pack=x"'),
        ("flake_update.branch", '"a..b"'),
        ("flake_update.branch", '"a b"'),
        ("flake_update.branch", '""'),
        ("flake_update.branch", '"{day}"'),
        ("flake_update.branch", '"a.lock"'),
        ("flake_update.remote", '"-x"'),
        ("flake_update.inputs", '["--flag"]'),
        ("flake_update.include", '["("]'),
        ("flake_update.repository", '"relative"'),
        ("flake_update.author_name", '"a <b>"'),
        ("flake_update.signing_key", '"ABCD"'),
        ("flake_update.verify", '"never"'),
        ("forge.repository", '"https://x/y/z"'),
        ("forge.url", '"https://user:pw@forge"'),
        ("forge.labels", '["a,b"]'),
        ("forge.assignees", '["@alice"]'),
        ("forge.auto_merge", "true"),
        ("forge.kind", '"gitlab"'),
        ("notify.ntfy_server", '"https://h/path"'),
        ("notify.ntfy_server", '"ntfy://h"'),
        ("notify.ntfy_topic", '"a/b"'),
        ("notify.timeout", "0"),
        ("unknown.key", "1"),
        ("notify.unknown", "1"),
    ],
)
def test_impossible_values_are_told_by_their_key(problems, key, value):
    section, name = key.split(".")
    (found,) = problems(f"[{section}]\n{name} = {value}\n")
    assert found.partition("[")[0] in (key, section)


def test_unknown_variables_are_told(problems, monkeypatch):
    monkeypatch.setenv("NIXOS_FLAKE_UPDATE_FORGE__KIN", "x")
    monkeypatch.setenv("NIXOS_FLAKE_UPDATE_NONSENSE", "x")
    assert list(problems("")) == ["NIXOS_FLAKE_UPDATE_NONSENSE", "forge.kin"]
