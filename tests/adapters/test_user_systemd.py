"""A user's systemd is asked as her own, and the system's about its run; stubs answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.test_systemd import DEAD_MAN, NEW, Commands
from agent.adapters.home.user_systemd import UserSystemd
from agent.adapters.process import Runner
from agent.domain.policy import Action
from agent.domain.store_path import StorePath
from agent.domain.switch_output import last_words

OF_THE_SYSTEM = [
    "nixos-hydra-agent.service",
    "nixos-hydra-agent-confirm.service",
    "nixos-rebuild-switch-to-configuration.service",
]


class UserCommands(Commands):
    """Those stubs, with a home to activate: `script` is what its `activate` does."""

    @property
    def systemd(self):
        environment = {"PATH": f"{self.directory}/bin:/usr/bin:/bin", "STUBS": str(self.directory)}
        runner = Runner(self.sink, self.clock, {**environment, "XDG_STATE_HOME": "/s"})
        return UserSystemd(
            runner,
            dead_man=DEAD_MAN,
            activate_deadline=60.0,
            run_dir=self.run_dir,
            current_home=self.directory / "current-home",
            left=lambda: None,
        )

    def home(self, script):
        package = self.directory / "package"
        package.mkdir()
        (package / "activate").write_text(f"#!/bin/sh\n{script}\n")
        (package / "activate").chmod(0o755)
        return StorePath(str(package))


@pytest.fixture
def commands(tmp_path):
    return UserCommands(tmp_path)


def play(coroutine):
    return asyncio.run(coroutine)


@pytest.mark.parametrize("unit", OF_THE_SYSTEM)
def test_a_run_of_the_system_or_a_nixos_rebuild_is_seen(commands, unit):
    commands.state(unit, ActiveState="activating", SubState="start")
    assert play(commands.systemd.is_host_upgrading()) is True
    assert all("--user" not in words for words in commands.asked())


@pytest.mark.parametrize(
    ("unit", "hours", "is_held"),
    [
        ("nixos-hydra-agent-confirm.service", 0.9, True),
        ("nixos-hydra-agent-confirm.service", 1.1, False),
        ("nixos-hydra-agent.service", 1.1, True),
    ],
)
def test_a_confirmation_that_waits_for_long_holds_no_home(
    commands, monkeypatch, unit, hours, is_held
):
    monkeypatch.setattr("agent.adapters.home.user_systemd.monotonic", lambda: 100 + hours * 3600)
    since = {"ActiveEnterTimestampMonotonic": str(100 * 10**6)}
    commands.state(unit, ActiveState="active", SubState="running", **since)
    assert play(commands.systemd.is_host_upgrading()) is is_held


def test_that_the_system_is_not_heard_of_is_unknown(commands):
    commands.answer("systemctl show", OF_THE_SYSTEM[1], code=1)
    assert play(commands.systemd.is_host_upgrading()) is None


def test_a_system_at_rest_is_seen(commands):
    assert play(commands.systemd.is_host_upgrading()) is False


def test_all_else_is_asked_of_the_users_own_manager(commands):
    commands.state("", ActiveState="active", SubState="waiting")
    systemd = commands.systemd
    play(systemd.failed_units())
    play(systemd.start("a.service"))
    play(systemd.arm(timedelta(seconds=7), "run-1", NEW))
    (file,) = commands.run_dir.glob("nixos-hydra-agent-environment/*.env")
    assert 'XDG_STATE_HOME="/s"\n' in file.read_text()
    play(systemd.disarm())
    play(systemd.activation())
    assert commands.asked()
    assert all(words[1] == "--user" for words in commands.asked())
    armed = next(words for words in commands.asked() if words[0] == "systemd-run")
    assert f"--property=EnvironmentFile=-{file}" in armed


def test_an_activation_is_a_unit_of_the_users_manager(commands):
    (commands.run_dir / "systemd").mkdir()
    home = commands.home("exit 9")
    assert play(commands.systemd.activate(home, Action.SWITCH)).returncode == 0
    waited, asked = commands.asked()
    assert waited[:3] == ["systemctl", "--user", "is-system-running"]
    assert asked[:2] == ["systemd-run", "--user"]
    assert "--unit=nixos-hydra-agent-activation" in asked
    assert asked[-1] == f"{home}/activate"
    assert any(word.startswith("--property=EnvironmentFile=-") for word in asked)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 100", 1),
        ("echo Activating writeBoundary; exit 100", 2),
        ("echo Aktiviere writeBoundary >&2; exit 4", 2),
        ("exit 143", 143),
        ("exit 255", 1),
        ("kill -9 $$", -9),
    ],
)
def test_exit_codes_tell_whether_anything_was_changed(commands, script, code):
    home = commands.home(script)
    assert play(commands.systemd.activate(home, Action.SWITCH)).returncode == code


def test_the_reason_of_home_manager_is_on_its_standard_output(commands):
    home = commands.home(
        """
        echo "Activating checkLinkTargets"
        echo "Existing file '/h/.a' would be clobbered by '/nix/store/x/.a'"
        echo "Please do one of the following:"
        echo "- In standalone mode, use 'home-manager switch -b backup'"
        echo "warning: something else" >&2
        exit 1"""
    )
    ended = play(commands.systemd.activate(home, Action.SWITCH))
    assert ended.returncode == 1
    assert last_words(ended.tail) == (
        "Existing file '/h/.a' would be clobbered by '/nix/store/x/.a'"
    )
    assert "something else" in ended.tail


def test_the_wait_for_the_manager_is_a_part_of_the_activations_time(commands, monkeypatch):
    async def waited(_self):
        return 59.9

    monkeypatch.setattr(UserSystemd, "_await_start", waited)
    home = commands.home("exec sleep 30")
    assert play(commands.systemd.activate(home, Action.SWITCH)).timed_out


def test_where_nothing_but_the_profile_moved_nothing_is_run(commands):
    ended = play(commands.systemd.activate(NEW, Action.BOOT))
    assert (ended.returncode, commands.asked()) == (0, [])


def test_the_link_to_a_home_stays_where_nothing_was_left_half_way(commands):
    link = Path(commands.directory, "current-home")
    home = commands.home("exit 0")
    link.symlink_to(home)
    play(commands.systemd.activate(home, Action.SWITCH))
    assert link.readlink() == Path(home)
