"""The throw-away host: it looks like NixOS, and touches nothing but itself."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from agent.adapters.process import ProgramFailedError, run_now
from agent.demo.host import Farm, ThrowawayHost
from agent.demo.layout import MARKER, remove_tree
from built_systems import HOST

REPOSITORY = Path(__file__).parents[2]


def environment_of(host: ThrowawayHost, **changes: str) -> dict[str, str]:
    return {**os.environ, **host.environment(), **changes}


# --- systems


@pytest.mark.usefixtures("throwaway_host")
def test_a_system_has_what_a_nixos_system_has(farm):
    system = Path(farm.first)

    for link in ("kernel", "initrd"):
        assert (system / link).is_symlink()
        assert (system / link).read_text().endswith("6.12.1\n")
    for directory in ("kernel-modules/lib/modules", "systemd/lib", "sw/bin", "specialisation"):
        assert (system / directory).is_dir()
    for program in ("activate", "init", "bin/switch-to-configuration", "sw/bin/nixos-version"):
        assert os.access(system / program, os.X_OK)
    texts = {name: (system / name).read_text() for name in ("nixos-version", "kernel-params")}
    assert texts == {"nixos-version": "26.05.1", "kernel-params": "loglevel=4"}
    assert (system / "init-interface-version").read_text() == "systemd 2"
    assert (system / "system").read_text() == f"{os.uname().machine}-linux"
    assert (system / "etc/hostname").read_text() == f"{HOST}\n"
    bootspec = json.loads((system / "boot.json").read_text())["org.nixos.bootspec.v1"]
    assert bootspec["toplevel"] == farm.first


def test_a_specialisation_is_a_system_of_its_own(farm, throwaway_host):
    throwaway_host.install(farm.special)

    special = (Path(farm.special) / "specialisation/debug").resolve()

    assert special.parent == farm.layout.store_dir
    assert (special / "kernel-params").read_text() == "debug"


def test_a_commit_that_changes_one_host_leaves_the_paths_of_the_others(tmp_path):
    farm = Farm(tmp_path / "farm")
    before = farm.commit({"a": {"version": "1"}, "b": {"version": "1"}})
    after = farm.commit({"a": {"version": "1"}, "b": {"version": "2"}})

    assert before != after
    assert farm.build(before, "a") == farm.build(after, "a")
    assert farm.build(before, "b") != farm.build(after, "b")
    assert farm.derivation(after, "b").endswith("-nixos-system-b-2.drv")
    remove_tree(tmp_path / "farm")


def test_the_lock_file_holds_the_base_until_it_is_updated(tmp_path):
    farm = Farm(tmp_path / "farm")
    first = farm.commit({"a": {"version": "1"}})
    locked = json.loads((farm.hosts / "flake.lock").read_text())["nodes"]["base"]["locked"]["rev"]
    base = farm.hosts.parent / "base/system.nix"
    base.write_text(base.read_text().replace("systemd-257", "systemd-258"))

    newer = farm.commit_all("base", "Change the base")
    second = farm.commit({"a": {"version": "1"}})

    assert newer != locked
    assert farm.build(first, "a") == farm.build(second, "a")
    remove_tree(tmp_path / "farm")


# --- the host


def test_a_new_host_runs_has_booted_and_boots_its_first_system(farm, throwaway_host):
    paths = throwaway_host.paths

    for link in (paths.current_system, paths.booted_system, paths.profile, paths.boot / "default"):
        assert str(link.resolve()) == farm.first


def test_a_new_host_has_nothing_of_the_host_before_it(farm, throwaway_host):
    throwaway_host.inject("stc-exit", "4")
    throwaway_host.paths.reboots.write_text("reboot\n")
    (throwaway_host.paths.state_dir / "journal").touch()
    throwaway_host.install(farm.second)

    paths = farm.new_host().paths

    assert list((paths.root / "inject").iterdir()) == []
    assert list(paths.state_dir.iterdir()) == []
    assert not paths.reboots.exists()
    assert not Path(farm.second).exists()


def test_a_power_cycle_boots_the_boot_loaders_default(farm, throwaway_host):
    env = environment_of(throwaway_host)
    throwaway_host.install(farm.new_kernel)
    throwaway_host.install(farm.first)
    run_now((f"{farm.new_kernel}/bin/switch-to-configuration", "boot"), env=env)
    assert str(throwaway_host.paths.booted_system.resolve()) == farm.first

    throwaway_host.power_cycle()

    assert str(throwaway_host.paths.booted_system.resolve()) == farm.new_kernel
    assert str(throwaway_host.paths.current_system.resolve()) == farm.new_kernel


def test_what_was_injected_can_be_undone(farm, throwaway_host):
    throwaway_host.inject("fail-activate")
    activate = (f"{farm.first}/activate",)
    with pytest.raises(ProgramFailedError):
        run_now(activate, env=environment_of(throwaway_host))

    throwaway_host.repair()

    run_now(activate, env=environment_of(throwaway_host))


def test_its_settings_are_those_of_the_agents_paths(throwaway_host):
    settings = throwaway_host.paths.settings()

    assert set(settings) == {
        "current_system",
        "booted_system",
        "profile",
        "store_dir",
        "state_dir",
        "marks_dir",
        "boot",
    }
    root = str(throwaway_host.paths.root)
    assert all(path.startswith(f"{root}/") for path in settings.values())


# --- the stand-ins


def test_a_reboot_is_only_noted(throwaway_host):
    env = environment_of(throwaway_host)
    systemctl = str(throwaway_host.paths.root / "bin/systemctl")

    run_now((systemctl, "--no-block", "reboot"), env=env)
    run_now((systemctl, "--no-block", "start", "reboot.target"), env=env)
    with pytest.raises(ProgramFailedError, match="not found"):
        run_now((systemctl, "start", "other.target"), env=env)

    noted = "--no-block reboot\n--no-block start reboot.target\n"
    assert throwaway_host.paths.reboots.read_text() == noted


def test_a_timer_is_noted_told_of_and_stopped(throwaway_host):
    env = environment_of(throwaway_host)
    systemctl, systemd_run = (
        str(throwaway_host.paths.root / "bin" / name) for name in ("systemctl", "systemd-run")
    )

    def state():
        return run_now((systemctl, "show", "--property=ActiveState", "x-1.timer"), env=env)

    assert "ActiveState=inactive" in state()
    run_now((systemd_run, "--unit=x-1", "--on-active=5s", "--", "echo", "now"), env=env)
    assert "ActiveState=active" in state()
    assert (throwaway_host.paths.root / "timers/x-1.timer").read_text() == "5s\necho\nnow\n"
    run_now((systemctl, "stop", "x-*.timer"), env=env)
    assert "ActiveState=inactive" in state()


def test_what_is_no_timer_is_run_at_once(throwaway_host):
    systemd_run = str(throwaway_host.paths.root / "bin/systemd-run")
    argv = (systemd_run, "--unit=x", "-E", "HOME", "--pipe", "echo", "now")

    assert run_now(argv, env=environment_of(throwaway_host)) == "now\n"


def test_a_timer_can_be_refused(throwaway_host):
    throwaway_host.inject("fail-systemd-run")
    argv = (str(throwaway_host.paths.root / "bin/systemd-run"), "--on-active=5s", "echo")

    with pytest.raises(ProgramFailedError, match="Connection refused"):
        run_now(argv, env=environment_of(throwaway_host))


def test_the_clock_is_synchronised_unless_a_test_says_otherwise(throwaway_host):
    timedatectl = str(throwaway_host.paths.root / "bin/timedatectl")
    env = environment_of(throwaway_host)

    assert run_now((timedatectl,), env=env) == "yes\n"
    throwaway_host.inject("clock", "no\n")
    assert run_now((timedatectl,), env=env) == "no\n"


def test_a_reboot_can_be_refused(throwaway_host):
    throwaway_host.inject("fail-reboot")
    systemctl = str(throwaway_host.paths.root / "bin/systemctl")

    with pytest.raises(ProgramFailedError, match="Access denied"):
        run_now((systemctl, "reboot"), env=environment_of(throwaway_host))
    assert not throwaway_host.paths.reboots.exists()


@pytest.fixture(
    params=["nixos-rebuild", "systemctl", "systemd-run", "switch-to-configuration", "activate"]
)
def dangerous(request, farm, throwaway_host) -> tuple[str, ...]:
    """What would change the machine if it did not mind where it is."""
    stand_ins = throwaway_host.paths.root / "bin"
    return {
        "nixos-rebuild": (f"{stand_ins}/nixos-rebuild", "switch", "--store-path", farm.first),
        "systemctl": (f"{stand_ins}/systemctl", "reboot"),
        "systemd-run": (f"{stand_ins}/systemd-run", "true"),
        "switch-to-configuration": (f"{farm.first}/bin/switch-to-configuration", "switch"),
        "activate": (f"{farm.first}/activate",),
    }[request.param]


def test_outside_a_throw_away_host_nothing_runs(throwaway_host, dangerous):
    env = environment_of(throwaway_host)
    del env["AGENT_DEMO_ROOT"]

    with pytest.raises(ProgramFailedError, match="AGENT_DEMO_ROOT"):
        run_now(dangerous, env=env)


def test_a_directory_without_the_marker_is_no_throw_away_host(throwaway_host, dangerous, tmp_path):
    env = environment_of(throwaway_host, AGENT_DEMO_ROOT=str(tmp_path))

    with pytest.raises(ProgramFailedError, match="is no throw-away host"):
        run_now(dangerous, env=env)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no action"),
        (("upgrade",), "invalid choice: 'upgrade'"),
        (("switch", "boot"), "unrecognized arguments: boot"),
        (("switch", "--nonesuch"), "unrecognized arguments: --nonesuch"),
        (("switch",), "no --flake"),
        (("switch", "--flake"), "expected 1 argument"),
        (("switch", "--flake", "x#y", "--option", "a"), "expected 2 argument"),
        (("switch", "--flake", "x"), "no attribute"),
        (("switch", "--flake", "x#y", "--store-path", "/s"), "cannot be used with --flake"),
        (("build", "--store-path", "/s"), "not supported with 'build'"),
    ],
)
def test_nixos_rebuild_refuses_bad_arguments_with_2(throwaway_host, arguments, told):
    program = str(throwaway_host.paths.root / "bin/nixos-rebuild")

    with pytest.raises(ProgramFailedError, match=f"(?s)exit 2.*{told}"):
        run_now((program, *arguments), env=environment_of(throwaway_host))


def test_nixos_rebuild_refuses_what_is_no_system(farm, throwaway_host):
    program = str(throwaway_host.paths.root / "bin/nixos-rebuild")
    kernel = str((Path(farm.first) / "kernel").resolve().parent)
    before = throwaway_host.paths.profile.resolve()

    with pytest.raises(ProgramFailedError, match="missing essential files"):
        run_now((program, "switch", "--store-path", kernel), env=environment_of(throwaway_host))
    assert throwaway_host.paths.profile.resolve() == before


def test_switch_to_configuration_refuses_an_unknown_action(farm, throwaway_host):
    program = f"{farm.first}/bin/switch-to-configuration"

    with pytest.raises(ProgramFailedError, match="Usage"):
        run_now((program, "upgrade"), env=environment_of(throwaway_host))


def test_a_check_asks_what_would_keep_a_switch_from_beginning_and_changes_nothing(
    farm, throwaway_host
):
    argv = (f"{farm.new_kernel}/bin/switch-to-configuration", "check")
    throwaway_host.install(farm.new_kernel)
    throwaway_host.install(farm.first)
    before = throwaway_host.paths.current_system.resolve()

    run_now(argv, env=environment_of(throwaway_host))
    throwaway_host.inject("stc-exit", "1")
    with pytest.raises(ProgramFailedError, match=r"(?s)exit 1.*Pre-switch checks failed"):
        run_now(argv, env=environment_of(throwaway_host))

    run_now(argv, env=environment_of(throwaway_host, NIXOS_NO_CHECK="1"))
    assert throwaway_host.paths.current_system.resolve() == before
    assert str((throwaway_host.paths.boot / "default").readlink()) == farm.first


@pytest.mark.skipif(shutil.which("flock") is None, reason="there is no flock")
def test_a_lock_that_is_held_and_a_missing_mark_of_nixos_end_with_their_errno(farm, throwaway_host):
    argv = (f"{farm.first}/bin/switch-to-configuration", "switch")
    run_now(argv, env=environment_of(throwaway_host))
    with (throwaway_host.paths.root / "run/nixos/switch-to-configuration.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ProgramFailedError, match=r"(?s)exit 11.*Could not acquire lock"):
            run_now(argv, env=environment_of(throwaway_host))

    (throwaway_host.paths.root / "etc/NIXOS").unlink()
    with pytest.raises(ProgramFailedError, match=r"(?s)exit 2.*This is not a NixOS installation!"):
        run_now(argv, env=environment_of(throwaway_host))


def test_nixos_rebuild_prints_the_store_path_alone(farm, throwaway_host):
    program = str(throwaway_host.paths.root / "bin/nixos-rebuild")
    arguments = ("switch", "--store-path", farm.first, "--no-reexec")

    assert run_now((program, *arguments), env=environment_of(throwaway_host)) == f"{farm.first}\n"


# --- the machine around it


def test_everything_can_be_removed_and_the_machine_has_no_new_store(tmp_path):
    had_store = Path("/nix").exists()
    farm = Farm(tmp_path / "farm")
    farm.build(farm.commit({"a": {"version": "1"}}), "a")
    assert (farm.layout.root / MARKER).exists()

    remove_tree(tmp_path / "farm")

    assert list(tmp_path.iterdir()) == []
    assert Path("/nix").exists() is had_store


_WHOLE_LIFE = """
import sys
from pathlib import Path
from agent.demo.host import Farm, ThrowawayHost
from agent.demo.layout import remove_tree
root = Path(sys.argv[1]) / "root"
farm = Farm(root)
path = farm.build(farm.commit({"a": {"version": "1"}}), "a")
farm.publish(path)
farm.close()
host = ThrowawayHost(
    farm.layout, substituters=(f"file://{farm.layout.cache}",), trusted_keys=(farm.public_key,)
)
host.begin(path)
assert str(host.paths.profile.resolve()) == path
remove_tree(root)
assert not root.exists()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_it_works_for_an_ordinary_user_too():
    """Such a user may write nowhere else, which proves that nothing else is written, too."""
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{REPOSITORY}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
    }
    # The interpreter of the checkout may lie where only root can go.
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(ProgramFailedError):
            run_now((*as_nobody, python, "-c", "import agent.demo.host"), env=env)
            break
    else:
        pytest.skip("an ordinary user can read no interpreter, or not this checkout")
    directory = tempfile.mkdtemp()
    try:
        os.chown(directory, 65534, 65534)
        run_now((*as_nobody, python, "-c", _WHOLE_LIFE, directory), env=env)
        assert os.listdir(directory) == []  # noqa: PTH208 - a name, not a path
    finally:
        shutil.rmtree(directory, ignore_errors=True)
