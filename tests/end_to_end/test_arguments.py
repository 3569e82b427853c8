"""What the arguments of the programs show that a run starts: anybody on a host can read them."""

from __future__ import annotations

import json
import shutil

import pytest

PROGRAMS = (
    *("nix", "nix-build", "nix-env", "nix-instantiate", "nix-store", "nixos-rebuild", "git", "ssh"),
    *("systemctl", "systemd-run", "bootctl", "busctl", "loginctl", "timedatectl", "wall"),
)
SECRET = "hunter2"
TOKENS = ["--option", "access-tokens", f"by-flag.example={SECRET}-of-a-flag"]
PROXY = f"http://user:{SECRET}-of-a-proxy@127.0.0.1:1"
ENVIRONMENT = {
    "NIX_CONFIG": f"access-tokens = inherited.example={SECRET}-of-nix",
    **dict.fromkeys(("ftp_proxy", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"), PROXY),
    "no_proxy": "127.0.0.1",
    "NO_PROXY": "127.0.0.1",
}


class Watched:
    """A machine on whose PATH each program notes its arguments, and what NIX_CONFIG it has."""

    def __init__(self, machine):
        self.machine = machine
        root = machine.layout.root
        self._arguments, self._config = root / "log/arguments", root / "log/nix-config"
        self._arguments.parent.mkdir(exist_ok=True)
        wrappers = root / "tmp/watched"
        wrappers.mkdir()
        path = machine.full_environment()["PATH"]
        for name in PROGRAMS:
            if (program := shutil.which(name, path=path)) is not None:
                wrapper = wrappers / name
                wrapper.write_text(
                    f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> {self._arguments}\n'
                    f'printf "%s\\n" "$NIX_CONFIG" >> {self._config}\nexec {program} "$@"\n'
                )
                wrapper.chmod(0o755)
        machine.environment |= {**ENVIRONMENT, "PATH": f"{wrappers}:{path}"}

    @property
    def words(self):
        return self._arguments.read_text().splitlines()

    def assert_hidden_from_all(self, *programs):
        """Assert that these were started, with the secrets, and that no argument has any."""
        assert set(programs) <= set(self.words)
        assert [word for word in self.words if SECRET in word] == []
        known = self._config.read_text()
        assert f"inherited.example={SECRET}-of-nix" in known
        assert f"by-flag.example={SECRET}-of-a-flag" in known
        for file in (self.machine.layout.root / "timers").iterdir():
            assert SECRET not in file.read_text()


@pytest.fixture
def watched(offered):
    return Watched(offered)


def test_no_secret_is_an_argument_in_an_upgrade_that_is_rolled_back(watched):
    machine = watched.machine
    machine.configure(flags=TOKENS)
    assert machine.run("status", "--json").exit_code == 0
    machine.host.inject("stc-exit", "2")
    run = machine.upgrade()
    assert run.summary["outcome"] == "rolled-back"
    assert run.named("verify.passed") != []
    watched.assert_hidden_from_all("nix", "nixos-rebuild", "systemctl", "systemd-run")


def test_no_secret_is_an_argument_where_a_booted_system_is_confirmed(watched):
    machine = watched.machine
    machine.configure(action="boot")
    machine.environment["NIXOS_HYDRA_AGENT_FLAGS"] = json.dumps(TOKENS)
    assert machine.upgrade().outcome == (0, "staged")
    machine.host.power_cycle()
    assert machine.run("confirm").outcome == (0, "confirmed")
    watched.assert_hidden_from_all("nix", "nixos-rebuild", "systemctl")
