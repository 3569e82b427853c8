"""The rig itself: a host boots, looks like NixOS, and switches as NixOS does."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from nspawn.activation_breakpoint import Gate
from nspawn.builder import HOST, System
from nspawn.power_supply import SilentBootError
from nspawn.systems import CANNOT_START, TIMER, UPGRADE, oneshot, service, system

if TYPE_CHECKING:
    from nspawn.real_host import RealHost

_LOCK = "/run/nixos/switch-to-configuration.lock"
_ACTIVATION = "nixos-rebuild-switch-to-configuration.service"


def plain(site, version: str, **parameters) -> System:
    """Build a system without the agent."""
    return site.build(system(version, agent=False, **parameters))


# The stage itself: each time it is seen by those who play on it.
pytestmark = pytest.mark.long


@pytest.fixture
def booted(site, new_host, upstream):  # noqa: ARG001 - the cache is there
    """Give a function that builds a system without the agent, and boots a host with it."""

    def boot(version: str = "26.05.1", **parameters) -> RealHost:
        host: RealHost = new_host(plain(site, version, **parameters))
        host.power_on()
        return host

    return boot


def rebuild(host: RealHost, action: str, target: System):
    return host.run("nixos-rebuild", action, "--flake", f"{target.reference}#{HOST}")


def await_activation(host: RealHost) -> None:
    """Wait for the end of an activation, for which it holds the lock."""
    host.ok("flock", _LOCK, "true")


# --- power


def test_a_host_boots_its_first_system(booted, site):
    host = booted()
    first = plain(site, "26.05.1").toplevel
    systems = host.systems()

    assert (systems.running, systems.booted) == (first, first)
    assert (systems.profile, systems.boot_default) == (first, first)
    assert host.ok("systemctl", "is-system-running") == "running\n"


def test_a_reboot_boots_what_the_boot_loader_has_as_its_default(booted, site):
    host = booted()
    newer = plain(site, "26.05.2", units={"hello.service": service()}, wants=["hello.service"])
    before, boot_id = host.systems(), host.boot_id

    assert rebuild(host, "boot", newer).rc == 0
    assert host.systems().running == before.running
    assert host.systems().boot_default == newer.toplevel

    host.reboot()

    assert host.boots == 2
    assert host.boot_id != boot_id
    assert (host.systems().booted, host.systems().running) == (newer.toplevel, newer.toplevel)
    assert host.state("hello.service") == "active"
    assert boot_id.replace("-", "") in host.ok("journalctl", "--list-boots")


def test_what_a_host_has_written_is_there_when_it_boots_again(booted):
    host = booted()
    host.ok("sh", "-c", "echo kept > /var/lib/note; echo lost > /run/note")

    host.power_off()
    assert not host.is_on
    assert host.read("/var/lib/note") == "kept\n"
    host.power_on()

    assert host.ok("cat", "/var/lib/note") == "kept\n"
    assert not host.exists("/run/note")


def test_a_host_without_power_stops_in_the_middle_of_everything(booted):
    host = booted()
    with host.start("sleep", "infinity") as child:
        host.cut_power()
        assert child.wait(10) != 0
    assert not host.is_on
    host.power_on()
    assert host.boots == 2


def test_a_host_may_power_itself_off_and_on(booted):
    host = booted()
    host.ok("systemd-run", "--on-active=0", "systemctl", "reboot")
    host.await_boot(2)
    host.ok("shutdown", "-P", "now")
    host.power_off()
    assert not host.is_on


def test_a_boot_that_stays_silent_is_cut_off(new_host, site):
    hangs = oneshot("/bin/sleep infinity", "TimeoutStartSec=infinity")
    silent = plain(site, "26.05.3", units={"hang.service": hangs}, wants=["hang.service"])
    host = new_host(silent, patience=2)

    with pytest.raises(SilentBootError, match="boot 1"):
        host.power_on()

    assert not host.is_on
    assert host.boots == 1
    assert "hang.service" in host.journal()


def test_a_host_without_a_system_to_boot_says_so_and_stays_off(new_host, site):
    host = new_host(plain(site, "26.05.1"))
    host.find("/boot/loader").joinpath("loader.conf").unlink()

    with pytest.raises(TimeoutError, match="no system to boot"):
        host.power_on(timeout=2)


def test_two_hosts_run_side_by_side(new_host, site, upstream):  # noqa: ARG001
    one, other = (new_host(plain(site, "26.05.1")) for _ in range(2))
    one.power_on()
    other.power_on()

    assert one.ok("hostname") != other.ok("hostname")
    assert one.ok("cat", "/etc/machine-id") != other.ok("cat", "/etc/machine-id")
    address = other.read("/etc/address").strip()
    assert one.run("ping", "-c1", "-W5", address).rc == 0


# --- switching


def test_a_switch_moves_the_systems_and_restarts_what_has_changed(booted, site):
    wants = ["same.service", "changed.service", "gone.service"]
    host = booted(
        units={
            "same.service": service(),
            "changed.service": service(),
            "gone.service": service(),
        },
        wants=wants,
    )
    newer = plain(
        site,
        "26.05.2",
        units={
            "same.service": service(),
            "changed.service": service("/bin/sleep 100000"),
            "new.service": service(),
        },
        wants=["same.service", "changed.service", "new.service"],
    )
    before = {unit: host.state(unit, "MainPID") for unit in wants}
    booted_system = host.systems().booted

    switched = rebuild(host, "switch", newer)

    assert switched.rc == 0, switched
    systems = host.systems()
    assert (systems.running, systems.profile) == (newer.toplevel, newer.toplevel)
    assert (systems.boot_default, systems.booted) == (newer.toplevel, booted_system)
    assert host.state("same.service", "MainPID") == before["same.service"]
    assert host.state("changed.service", "MainPID") not in {before["changed.service"], "0"}
    assert host.state("gone.service", "LoadState") == "not-found"
    assert host.state("new.service") == "active"
    lines = [line for line in switched.stderr.splitlines() if "units" in line]
    assert lines == [
        "stopping the following units: changed.service, gone.service",
        "starting the following units: changed.service",
        "the following new units were started: new.service",
    ]


def test_a_unit_can_ask_to_be_left_alone(booted, site):
    """Each key counts in the one section in which NixOS writes it, and nowhere else."""
    keys = {  # the name of a unit, what it has in `[Service]`, what it has in `[Unit]`
        "mine.service": (("X-RestartIfChanged=false",), ()),
        "manual.service": ((), ("X-OnlyManualStart=true",)),
        "restarted.service": (("X-StopIfChanged=false",), ()),
        "reloaded.service": (("X-ReloadIfChanged=true", "ExecReload=/bin/true"), ()),
        "misplaced.service": ((), ("X-RestartIfChanged=false", "X-StopIfChanged=false")),
        "gone.service": ((), ("X-StopOnRemoval=false",)),
        "lost.service": (("X-StopOnRemoval=false",), ()),
    }
    wants = list(keys)

    def units(start, but=()):
        return {
            name: service(start, *own, unit=of_unit)
            for name, (own, of_unit) in keys.items()
            if name not in but
        }

    timer = "[Timer]\nOnActiveSec={}\nUnit=mine.service\n"
    described = service(unit=["Description=one"])
    host = booted(
        units={
            **units("/bin/sleep infinity"),
            "a.timer": timer.format("20d"),
            "same.service": described,
            "asked.service": service("/bin/sleep infinity", "ExecReload=/bin/true"),
        },
        wants=[*wants, "a.timer", "same.service", "asked.service"],
    )
    newer = plain(
        site,
        "26.05.2",
        units={
            **units("/bin/sleep 100000", but=("gone.service", "lost.service")),
            "a.timer": timer.format("30d"),
            "same.service": described.replace("one", "another"),
            "asked.service": service("/bin/sleep infinity", "ExecReload=/bin/echo again"),
        },
        wants=[*wants[:-2], "a.timer", "same.service", "asked.service"],
    )
    everything = [*wants, "same.service", "asked.service"]
    before = {unit: host.state(unit, "MainPID") for unit in everything}

    switched = rebuild(host, "switch", newer)

    assert switched.rc == 0, switched
    after = {unit: host.state(unit, "MainPID") for unit in everything}
    assert {unit for unit in everything if after[unit] == before[unit]} == {
        *("mine.service", "manual.service", "reloaded.service", "gone.service"),
        *("same.service", "asked.service"),
    }
    lines = [line for line in switched.stderr.splitlines() if "units" in line]
    assert lines == [
        "stopping the following units: lost.service, misplaced.service",
        "NOT restarting the following changed units: manual.service, mine.service",
        "reloading the following units: asked.service, reloaded.service",
        "restarting the following units: a.timer, restarted.service",
        "starting the following units: misplaced.service",
    ]


def test_a_switch_to_other_critical_components_is_refused_and_a_boot_is_not(booted, site):
    host = booted(inhibitors={"dbus": "dbus", "init": "systemd", "gone": "x"})
    other = {"dbus": "broker", "init": "systemd", "new": "y"}
    newer = plain(site, "26.05.2", inhibitors=other)
    before = host.systems()
    for action in ("test", "switch"):
        refused = rebuild(host, action, newer)
        assert refused.rc == 1, refused
        assert "\ndbus : dbus -> broker\n\n" in refused.stderr
        assert "Pre-switch check 'switchInhibitors' failed\nPre-switch checks failed\n" in (
            refused.stderr
        )
    systems = host.systems()
    assert (systems.running, systems.boot_default) == (before.running, before.boot_default)

    assert rebuild(host, "boot", newer).rc == 0
    host.reboot()

    assert host.systems().running == newer.toplevel
    added = plain(site, "26.05.3", inhibitors={**other, "another": "z"})
    assert rebuild(host, "switch", added).rc == 0


@pytest.mark.parametrize(
    "unit",
    [CANNOT_START, service("/bin/false", "Restart=on-failure", "RestartSec=1h", "Type=oneshot")],
    ids=["fails", "fails and is tried again"],
)
def test_a_unit_that_fails_makes_exit_4(booted, site, unit):
    host = booted()
    newer = plain(site, "26.05.2", units={"broken.service": unit}, wants=["broken.service"])

    switched = rebuild(host, "switch", newer)

    assert switched.rc == 4
    assert "warning: the following units failed: broken.service\n" in switched.stderr
    assert host.systems().running == newer.toplevel


def test_a_dry_activation_says_what_it_would_do_and_does_nothing(booted, site):
    host = booted(units={"a.service": service()}, wants=["a.service"])
    newer = plain(site, "26.05.2", units={"a.service": service("/bin/sleep 100000")})
    before, pid = host.systems(), host.state("a.service", "MainPID")

    tried = rebuild(host, "dry-activate", newer)

    assert tried.rc == 0, tried
    assert "would stop the following units: a.service\n" in tried.stderr
    assert "would start the following units: a.service\n" in tried.stderr
    assert host.systems() == before
    assert host.state("a.service", "MainPID") == pid


def test_an_activation_outlives_the_nixos_rebuild_that_asked_for_it(booted, site):
    host = booted()
    newer = plain(site, "26.05.2")
    gate = Gate(host)
    with host.start("nixos-rebuild", "switch", "--flake", f"{newer.reference}#{HOST}") as child:
        gate.await_activation()
        host.signal(child, signal.SIGKILL)
        # What it has started holds its pipes still.
        assert child.wait(30) != 0
        assert host.state(_ACTIVATION) == "active"
        assert host.systems().running != newer.toplevel

        gate.open()
        await_activation(host)

    assert host.systems().running == newer.toplevel


def test_of_two_at_once_the_second_fails_and_has_moved_the_profile(booted, site):
    host = booted()
    second, third = plain(site, "26.05.2"), plain(site, "26.05.3")
    gate = Gate(host)
    with host.start("nixos-rebuild", "switch", "--flake", f"{second.reference}#{HOST}") as child:
        gate.await_activation()
        lost = rebuild(host, "switch", third)
        assert host.systems().profile == third.toplevel
        gate.open()
        stdout, stderr = child.communicate(timeout=30)

    assert (lost.rc, child.returncode) == (1, 0), (stdout, stderr)
    assert f"Unit {_ACTIVATION} was already loaded" in lost.stderr
    assert (host.systems().running, host.systems().profile) == (second.toplevel, third.toplevel)


def test_an_activation_can_hang_after_everything_is_done(booted, site):
    host = booted()
    newer = plain(site, "26.05.2")
    host.inject("stc-hang-after", "infinity")
    with host.start("nixos-rebuild", "switch", "--flake", f"{newer.reference}#{HOST}") as child:
        host.eventually(lambda: host.systems().running == newer.toplevel, "it is activated")
        assert host.run("flock", "--nonblock", _LOCK, "true").rc == 1
        host.systemctl("stop", _ACTIVATION)
        child.communicate(timeout=30)
    assert host.run("flock", "--nonblock", _LOCK, "true").rc == 0


# --- what is on a host


def test_the_agents_settings_are_the_running_systems(booted, site):
    host = booted(agentConfig="host = 'one'\n")
    newer = plain(site, "26.05.2", agentConfig="host = 'two'\n")
    file = "/etc/nixos-hydra-agent/config.toml"
    assert host.ok("cat", file) == "host = 'one'\n"

    assert rebuild(host, "test", newer).rc == 0

    assert host.ok("cat", file) == host.read(file) == "host = 'two'\n"
    assert host.ok("readlink", "-f", file).startswith("/nix/store/")


def test_a_small_boot_partition_is_full_of_kernels(site, new_host, upstream):  # noqa: ARG001
    host = new_host(plain(site, "26.05.1", initrdKib=300), boot="600k")
    host.power_on()
    other = {"kernel": "6.12.9", "initrdKib": 300}
    fits = plain(site, "26.05.2", initrdKib=300)
    too_much = plain(site, "26.05.3", **other)
    assert rebuild(host, "switch", fits).rc == 0
    before = host.systems()

    failed = rebuild(host, "switch", too_much)

    assert failed.rc == 1
    assert "Failed to install bootloader\n" in failed.stderr
    assert host.systems().running == before.running
    assert host.systems().boot_default == before.boot_default
    host.reboot()
    assert host.systems().running == fits.toplevel


def test_a_full_disk_is_a_full_disk(site, new_host):
    host = new_host(plain(site, "26.05.1"), disk="32m")
    host.power_on()

    filled = host.run("dd", "if=/dev/zero", "of=/var/lib/filling", "bs=1M")

    assert filled.rc == 1
    assert "No space left on device" in filled.stderr


def test_the_agent_is_there_from_its_wheel(booted):
    host = booted()

    assert host.ok("agent", "--version").startswith("nixos-hydra-agent ")
    assert host.exists("/opt/agent/bin/agent")
    told = host.ok("/opt/agent/bin/python", "-c", "import agent; print(agent.__file__)")
    assert told.startswith("/opt/agent/lib/python3.")


def test_the_agent_upgrades_the_host_to_a_newer_build(real_host, upstream, site, first):
    units = {"hello.service": service()}
    newer = site.build(system("26.05.2", units=units, wants=["hello.service"]))
    upstream.offer(first)
    upstream.offer(newer)
    assert not real_host.exists(newer.toplevel)

    upgraded = real_host.run("agent", "upgrade")

    assert upgraded.rc == 0, upgraded
    assert real_host.systems().running == newer.toplevel
    assert real_host.state("hello.service") == "active"


def test_the_agents_unit_upgrades_the_host(real_host, upstream, site):
    newer = site.build(system("26.05.2"))
    upstream.offer(newer)

    real_host.systemctl("start", UPGRADE)

    assert real_host.systems().running == newer.toplevel
    assert real_host.state(TIMER) == "active"
