"""What differs between a host and a home is said once, and reaches settings and ports."""

from __future__ import annotations

import asyncio
import getpass
import socket

import pytest

from agent.adapters.boot.loader import BootLoader
from agent.adapters.home.files import HomeFiles
from agent.adapters.home.home_manager import HomeManagerCommand
from agent.adapters.home.user_systemd import UserSystemd
from agent.adapters.host import HostFiles
from agent.adapters.nix.nixos_rebuild import NixosRebuildCommand
from agent.adapters.systemd.manager import SystemdCommands
from agent.cli.render.progress import LoggedProgress
from agent.config.load import load_settings
from agent.domain.errors import ConfigError
from agent.domain.policy import Action
from agent.domain.target import HOME_MANAGER, NIXOS, TARGETS, TargetName
from agent.wiring.host import open_ports
from fakes.events import RememberedEvents

HYDRA = {"instance": "http://127.0.0.1:1", "project": "p", "jobset": "j"}


@pytest.fixture
def settings_of(tmp_path, monkeypatch):
    """Give a function that loads settings with keys; the user's directories are empty ones."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("NIX_STATE_DIR", raising=False)
    (tmp_path / "config.toml").touch()

    def load(**keys):
        return load_settings(tmp_path / "config.toml", overrides={"hydra": HYDRA, **keys})

    return load


def problems(load, **keys):
    with pytest.raises(ConfigError) as caught:
        load(target="home-manager", **keys)
    return dict(caught.value.problems)


def test_every_name_has_a_target():
    assert set(TARGETS) == set(TargetName)


def test_the_attributes_are_those_of_nixos_rebuild_and_of_home_manager():
    assert NIXOS.toplevel_of("a.b") == 'nixosConfigurations."a.b".config.system.build.toplevel'
    assert HOME_MANAGER.toplevel_of("eve@a") == 'homeConfigurations."eve@a".activationPackage'


def test_a_host_is_where_nixos_has_it(settings_of):
    settings = settings_of()
    assert settings.target is TargetName.NIXOS
    assert settings.host == socket.gethostname()
    assert str(settings.paths.profile) == "/nix/var/nix/profiles/system"
    assert str(settings.paths.marks_dir) == "/nix/var/nix/gcroots/nixos-hydra-agent"


def test_a_home_is_below_the_state_directory_of_its_user(settings_of, tmp_path, monkeypatch):
    state, user = tmp_path / "home/.local/state", getpass.getuser()
    (state / "nix/profiles").mkdir(parents=True)
    settings = settings_of(target="home-manager")
    assert settings.host == settings.job_name == user
    assert settings.paths.current_system == state / "home-manager/gcroots/current-home"
    assert settings.paths.profile == state / "nix/profiles/home-manager"
    assert settings.paths.state_dir == state / "nixos-hydra-agent"
    assert settings.paths.marks_dir == state / "nixos-hydra-agent/marks"
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert str(settings_of(target="home-manager").paths.state_dir) == "/elsewhere/nixos-hydra-agent"


def test_an_older_profile_of_the_user_is_found(settings_of, tmp_path, monkeypatch):
    older = tmp_path / "nix/profiles/per-user" / getpass.getuser()
    older.mkdir(parents=True)
    monkeypatch.setenv("NIX_STATE_DIR", str(tmp_path / "nix"))
    assert settings_of(target="home-manager").paths.profile == older / "home-manager"


def test_what_is_said_of_a_path_wins(settings_of):
    paths = settings_of(target="home-manager", paths={"state_dir": "/s"}).paths
    assert str(paths.state_dir) == "/s"
    assert paths.current_system.name == "current-home"


def test_a_user_without_a_name_has_a_number(settings_of, monkeypatch):
    def nobody():
        raise OSError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert settings_of(target="home-manager").host.isdecimal()


@pytest.mark.parametrize("action", sorted(set(Action) - {Action.SWITCH}))
def test_a_home_can_only_be_switched_to(settings_of, action):
    assert problems(settings_of, action=action) == {
        "action": f"action = '{action}' makes no sense with target = 'home-manager'"
    }


def test_a_home_is_no_reason_to_reboot(settings_of):
    found = problems(settings_of, reboot={"mode": "always"})
    assert found == {"reboot": "reboot.mode = 'always' makes no sense with target = 'home-manager'"}


def test_an_unknown_target_and_paths_that_are_none_are_told(settings_of):
    with pytest.raises(ConfigError) as caught:
        settings_of(target="guix", paths=7)
    assert set(dict(caught.value.problems)) == {"target", "paths"}


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("nixos", (NixosRebuildCommand, HostFiles, SystemdCommands, BootLoader)),
        ("home-manager", (HomeManagerCommand, HomeFiles, UserSystemd, BootLoader)),
    ],
)
@pytest.mark.parametrize("runtime_directory", ["/run/user/7", None])
def test_each_target_has_adapters_of_its_own(
    settings_of, monkeypatch, target, parts, runtime_directory
):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if runtime_directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_directory)
    sink = RememberedEvents()

    async def look():
        async with open_ports(settings_of(target=target), sink, LoggedProgress(sink)) as ports:
            return ports.nixos_rebuild, ports.host, ports.systemd, ports.loader

    assert tuple(map(type, asyncio.run(look()))) == parts
