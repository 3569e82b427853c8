"""Reboots into new systems: confirmed, rolled back from by one reboot, left by the loader."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from agent.domain.window import place_of
from nspawn.builder import HOST
from nspawn.power_supply import SilentBootError
from nspawn.systems import (
    CONFIRM,
    DEADLINE_TIMER,
    UPGRADE,
    confirm_unit,
    deadline_timer,
    oneshot,
    system,
)

MARKS = "/nix/var/nix/gcroots/nixos-hydra-agent"
REBOOTS = {"reboot": {"mode": "when-needed"}, "confirm": {"settle": "1s", "deadline": "3s"}}
FAILS = {"broken.service": oneshot("/bin/false")}
# The waiting for a boot to end is itself what is tested: none may take longer.
LIMIT = 25.0


# systemd tells containers from machines by this, and so does the agent.
A_MACHINE = oneshot(
    "/bin/rm -f /run/systemd/container", unit=["DefaultDependencies=no", "Before=sysinit.target"]
)


def release(site, version, *, units=None, early=(), **parameters):
    """Build a system that only a reboot can start, of a host that is no container."""
    parameters.setdefault("settings", REBOOTS)
    parameters.setdefault("kernel", f"6.12.{version[-1]}")
    return site.build(
        system(
            version,
            units={"machine.service": A_MACHINE, **(units or {})},
            early=["machine.service", DEADLINE_TIMER, *early],
            **parameters,
        )
    )


def mark(host, name):
    """Return where a mark leads, None if it is not there."""
    found = host.run("readlink", f"{MARKS}/{name}")
    return found.stdout.strip() or None


def start(host, unit=UPGRADE):
    """Start a unit as its timer does, without waiting for it: the host may go down meanwhile."""
    host.run("systemctl", "--no-block", "start", unit)


def upgrade(host):
    """Run the agent by hand, to its end; return its exit code and its summary.

    First the boot's own confirmation is over, which has the lock.
    """
    host.await_state(CONFIRM, "inactive")
    done = host.run("agent", "upgrade")
    return done.rc, json.loads(done.stdout.splitlines()[-1])


def told(host, event):
    """Return whether the agent has logged an event, in any boot."""
    return f'"event":"{event}"' in host.journal().replace('": "', '":"')


@pytest.fixture
def began(site, new_host, upstream):
    """Give a function that boots a host on its first system, which the agent has adopted."""

    def begin(**parameters):
        first = release(site, "26.05.1", **parameters)
        host = new_host(first)
        host.power_on()
        upstream.offer(first)
        assert upgrade(host)[0] == 0
        assert mark(host, "confirmed") == first.toplevel
        return host, first

    return begin


def assert_settled(host, on):
    """Wait until the host is wholly on a system, and nothing is under way."""
    host.eventually(lambda: mark(host, "confirmed") == on, "the system is confirmed")
    host.eventually(
        lambda: not any(mark(host, name) for name in ("pending", "staged", "rolling-back")),
        "nothing is under way",
    )
    host.eventually(lambda: host.systems().boot_default == on, "it is the loader's default")
    systems = host.systems()
    assert (systems.running, systems.booted, systems.profile) == (on, on, on)


def test_a_reboot_into_a_good_system_is_confirmed(site, began, upstream):
    host, first = began()
    second = release(site, "26.05.2")
    upstream.offer(second)

    start(host)
    host.await_boot(2)

    assert_settled(host, second.toplevel)
    assert told(host, "loader.try_boot_set")
    assert told(host, "loader.default_moved")
    assert upgrade(host)[1]["outcome"] == "nothing-to-do"
    del first


def test_one_whose_units_fail_is_left_by_one_reboot_and_denied(site, began, upstream):
    host, first = began()
    second = release(site, "26.05.2", units=FAILS, wants=["broken.service"])
    upstream.offer(second)

    begun = time.monotonic()
    start(host)
    host.await_boot(3)
    assert_settled(host, first.toplevel)
    assert time.monotonic() - begun < LIMIT

    code, summary = upgrade(host)
    assert (code, summary["reasons"][0]["name"]) == (75, "denied")
    assert host.boots == 3


def test_one_that_never_comes_up_is_left_by_the_loader_alone(site, began, upstream):
    host, first = began()
    upstream.offer(release(site, "26.05.2", hangs=True))
    assert json.loads(host.ok("agent", "status", "--json"))["loader_fallback"] == "systemd-boot"
    host.has_a_watchdog()
    host.patience = 3

    start(host)
    host.await_boot(3)

    assert host.systems().running == first.toplevel
    code, summary = upgrade(host)
    assert (code, summary["reasons"][0]["name"]) == (75, "reboot-ineffective")
    assert "denied" not in host.ok("agent", "history")
    assert host.boots == 3


@pytest.mark.long
def test_without_a_way_back_status_says_so_and_a_person_has_to_pick(site, began, upstream):
    without = {**REBOOTS, "reboot": {"mode": "when-needed", "try_boot": False}}
    host, first = began(settings=without)
    upstream.offer(release(site, "26.05.2", hangs=True))
    assert json.loads(host.ok("agent", "status", "--json"))["loader_fallback"] is None
    host.patience = 3

    start(host)
    with pytest.raises(SilentBootError):
        host.await_boot(3)

    host.write("/boot/efivars/Menu", "nixos-generation-1.conf")
    host.power_on()
    assert host.systems().running == first.toplevel
    assert upgrade(host)[0] == 75
    assert "denied" not in host.ok("agent", "history")


WAITS_FOREVER = oneshot("/bin/sleep infinity", "TimeoutStartSec=infinity")
LOSES_VAR = oneshot(
    "/bin/mount -t tmpfs -o ro tmpfs /var", unit=["DefaultDependencies=no", "Before=sysinit.target"]
)
EMERGENCY = oneshot(
    "/bin/false",
    unit=[
        "DefaultDependencies=no",
        "Before=sysinit.target",
        "OnFailure=emergency.target",
        "OnFailureJobMode=replace-irreversibly",
    ],
)


@pytest.mark.long
@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param(
            {
                "units": {"hang.service": WAITS_FOREVER},
                "wants": ["hang.service"],
                "agent_units": {
                    CONFIRM: confirm_unit().replace(
                        "[Service]", "After=hang.service\nRequires=hang.service\n[Service]"
                    ),
                    DEADLINE_TIMER: deadline_timer("OnBootSec=4s"),
                },
            },
        ),
        pytest.param(
            {
                "units": {"var.service": LOSES_VAR},
                "early": ["var.service"],
                "agent_units": {DEADLINE_TIMER: deadline_timer("OnBootSec=4s")},
            },
        ),
        {
            "units": {"fails.service": EMERGENCY},
            "early": ["fails.service"],
            "agent_units": {DEADLINE_TIMER: deadline_timer("OnBootSec=4s")},
        },
    ],
    ids=["the network never comes", "/var is missing", "emergency mode"],
)
def test_where_nobody_can_confirm_the_deadline_of_the_boot_acts(site, began, upstream, parameters):
    host, first = began()
    second = release(site, "26.05.2", **parameters)
    upstream.offer(second)

    start(host)
    host.await_boot(3)

    assert_settled(host, first.toplevel)
    assert upgrade(host)[0] == 75


# Waiting for a window, for whoever blocks, for people


@pytest.mark.long
def test_a_needed_reboot_waits_for_its_window_and_is_taken_in_it(site, began, upstream):
    # Windows open on whole minutes: this one has, and the host has its own place in the splay.
    now = datetime.now(UTC)
    splay = f"{(now.second + 45) / place_of(HOST):.3f}s"
    windows = [{"start": now.strftime("%H:%M"), "length": "2h"}]
    waits = {**REBOOTS, "reboot": {"mode": "when-needed", "windows": windows, "splay": splay}}
    host, _ = began(settings=waits)
    second = release(site, "26.05.2", settings=waits)
    upstream.offer(second)

    code, summary = upgrade(host)
    assert (code, summary["outcome"]) == (0, "staged")
    assert [reason["name"] for reason in summary["reasons"]] == ["reboot", "reboot-window"]
    assert host.boots == 1
    status = json.loads(host.ok("agent", "status", "--json"))
    assert status["reboot"]["obstacle"] == "reboot-window"

    host.await_boot(2, timeout=120)
    assert_settled(host, second.toplevel)


@pytest.mark.long
def test_who_blocks_a_shutdown_and_who_is_logged_in_postpone_it_and_not_for_ever(
    site, began, upstream
):
    polite = {
        **REBOOTS,
        "reboot": {"mode": "when-needed", "inhibitor_limit": "4s", "user_notice": "3s"},
    }
    host, _ = began(settings=polite)
    second = release(site, "26.05.2", settings=polite)
    upstream.offer(second)
    blocks = ("--what=shutdown", "--who=backup", "--why=a dump", "--mode=block")
    host.ok("systemd-run", "--unit=backup", "systemd-inhibit", *blocks, "sleep", "infinity")
    host.eventually(lambda: "backup" in host.ok("systemd-inhibit", "--list"), "it blocks")

    code, summary = upgrade(host)
    assert (code, summary["outcome"]) == (0, "staged")
    assert summary["reasons"][1]["name"] == "inhibited"
    assert "backup (a dump)" in summary["reasons"][1]["reason"]
    host.await_boot(2)
    assert_settled(host, second.toplevel)


@pytest.mark.long
def test_a_person_who_boots_an_older_entry_is_left_in_peace(site, began, upstream):
    host, first = began()
    second = release(site, "26.05.2")
    upstream.offer(second)
    start(host)
    host.await_boot(2)
    assert_settled(host, second.toplevel)

    host.write("/boot/efivars/Menu", "nixos-generation-1.conf")
    host.reboot()
    assert host.systems().running == first.toplevel
    upstream.offer(release(site, "26.05.3"))
    code, summary = upgrade(host)
    assert (code, summary["reasons"][0]["name"]) == (75, "booted-unexpected")
    assert "denied" not in host.ok("agent", "history")
    assert host.systems().running == first.toplevel
    assert host.boots == 3


ENDED_SESSION = """#!/bin/sh
PATH=${PATH#*:}
case $* in
*ListSessions*)
    rm "$0"
    busctl "$@" | sed 's/"data":\\[\\[/&["c999",0,"root","","\\/org\\/freedesktop\\/login1"],/' ;;
*) exec busctl "$@" ;;
esac
"""


@pytest.mark.long
def test_people_are_warned_and_the_reboot_is_when_they_were_told(site, began, upstream):
    polite = {**REBOOTS, "reboot": {"mode": "when-needed", "user_notice": "4s"}}
    host, _ = began(settings=polite)
    second = release(site, "26.05.2", settings=polite)
    upstream.offer(second)
    session = (
        "--property=PAMName=login",
        "--property=User=nobody",
        "--property=StandardInput=null",
    )
    classed = ("--setenv=XDG_SESSION_CLASS=user", "--setenv=XDG_SESSION_TYPE=tty")
    host.ok("systemd-run", "--unit=person", *session, *classed, "sleep", "infinity")
    host.eventually(lambda: "nobody" in host.ok("loginctl", "list-sessions"), "someone is there")

    # The first time that it is asked, logind still lists a session that has ended since.
    host.write("/root/first/busctl", ENDED_SESSION, mode=0o755)
    host.await_state(CONFIRM, "inactive")
    done = host.run("sh", "-c", "PATH=/root/first:$PATH exec agent upgrade")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (done.rc, summary["outcome"]) == (0, "staged")
    assert summary["reasons"][1]["name"] == "users"
    assert summary["reasons"][1]["reason"].startswith("nobody logged in")
    assert host.boots == 1
    assert not host.find("/root/first/busctl").exists()

    host.await_boot(2)
    assert_settled(host, second.toplevel)


@pytest.mark.long
def test_a_person_who_picks_an_older_entry_after_the_agents_reboot_is_left_in_peace(
    site, began, upstream
):
    host, first = began()
    upstream.offer(release(site, "26.05.2"))
    host.write("/boot/efivars/Menu", "nixos-generation-1.conf")

    start(host)
    host.await_boot(2)

    assert host.systems().running == first.toplevel
    code, summary = upgrade(host)
    assert (code, summary["reasons"][0]["name"]) == (75, "reboot-ineffective")
    assert "denied" not in host.ok("agent", "history")
    assert host.boots == 2


@pytest.mark.long
def test_a_container_is_not_rebooted_and_confirmed_after_its_own_restart(site, new_host, upstream):
    told = {"settings": REBOOTS}
    first = site.build(system("26.05.1", kernel="6.12.1", **told))
    second = site.build(system("26.05.2", kernel="6.12.2", **told))
    host = new_host(first)
    host.power_on()
    upstream.offer(first)
    assert upgrade(host)[0] == 0
    upstream.offer(second)
    host.await_state(CONFIRM, "inactive")
    done = host.run("agent", "upgrade", "--action", "boot")
    assert (done.rc, host.boots) == (0, 1)
    assert mark(host, "staged") == second.toplevel
    assert '"event": "loader.' not in done.stdout

    host.reboot()

    assert_settled(host, second.toplevel)


# Switch inhibitors


@pytest.mark.long
@pytest.mark.parametrize(
    "mode",
    [
        "when-needed",
        "always",
        "never",
    ],
)
def test_what_nixos_would_not_switch_to_is_booted_into_and_gone_back_from(
    site, began, upstream, mode
):
    policy = {**REBOOTS, "reboot": {"mode": mode}}

    def release_with(version, dbus, **parameters):
        return release(
            site, version, kernel="6.12.1", settings=policy, inhibitors={"dbus": dbus}, **parameters
        )

    host, _ = began(settings=policy, inhibitors={"dbus": "dbus"}, kernel="6.12.1")
    second = release_with("26.05.2", "broker")
    upstream.offer(second)
    if mode == "never":
        code, summary = upgrade(host)
        assert (code, summary["outcome"]) == (0, "staged")
        code, summary = upgrade(host)
        assert (code, summary["outcome"]) == (0, "awaits-reboot")
        assert "dbus (dbus → broker)" in summary["reasons"][0]["reason"]
        status = json.loads(host.ok("agent", "status", "--json"))
        assert "dbus (dbus → broker)" in status["reason"]
        assert host.boots == 1
        host.reboot()
    else:
        start(host)
        host.await_boot(2)
    assert_settled(host, second.toplevel)

    third = release_with("26.05.3", "dbus", units=FAILS, wants=["broken.service"])
    upstream.offer(third)
    if mode == "never":
        assert upgrade(host)[1]["outcome"] == "staged"
        host.reboot()
    else:
        host.await_state(CONFIRM, "inactive")
        start(host)
    host.await_boot(4)
    assert_settled(host, second.toplevel)
    code, summary = upgrade(host)
    assert (code, summary["reasons"][0]["name"]) == (75, "denied")
    assert host.boots == 4


# A boot partition that is full of what no generation needs


@pytest.mark.long
def test_a_boot_partition_full_of_what_is_gone_is_cleaned_by_the_running_system(
    site, new_host, upstream
):
    settings = {**REBOOTS, "disk": {"store_reserve": "1MiB", "boot_reserve": "200KiB"}}
    first, second = (
        release(site, version, kernel="6.12.1", settings=settings)
        for version in ("26.05.1", "26.05.2")
    )
    host = new_host(first, boot="400k")
    host.power_on()
    upstream.offer(first)
    assert upgrade(host)[0] == 0
    gone = "/boot/EFI/nixos/0000-linux-6.1.0-bzImage.efi"
    host.ok("dd", "if=/dev/zero", f"of={gone}", "bs=1k", "count=300")
    upstream.offer(second)
    dry = json.loads(host.run("agent", "upgrade", "--dry-run").stdout.splitlines()[-1])
    assert [reason["name"] for reason in dry["reasons"]] == ["boot-space"]
    assert host.exists(gone)

    done = host.run("agent", "upgrade")

    assert (done.rc, json.loads(done.stdout.splitlines()[-1])["outcome"]) == (0, "confirmed")
    assert '"event": "loader.partition_cleaned"' in done.stdout
    assert not host.exists(gone)
    systems = host.systems()
    assert {systems.running, systems.profile, systems.boot_default} == {second.toplevel}
