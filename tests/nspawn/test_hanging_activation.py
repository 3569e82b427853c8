"""Activations that hang or take nix's daemon with them, and systems that have no agent."""

from __future__ import annotations

import json

import pytest

from nspawn.crashing_host import MARKS, summary
from nspawn.systems import CONFIRM, UPGRADE, confirm_unit, service, system, upgrade_unit

_ACTIVATION = "nixos-rebuild-switch-to-configuration.service"
_ENVIRONMENT = "Environment=HOME=/root\n"
_CHECK = {
    "type": "command",
    "name": "health",
    "command": ["/bin/grep", "-q", "healthy", "/run/current-system/etc/health"],
    "timeout": "1s",
}
_SETTINGS = {
    "strategy": "store-path",
    "activate": {"deadline": "2s"},
    "confirm": {"settle": "0.02s", "deadline": "1s", "checks": [_CHECK]},
}


@pytest.fixture
def build(site):
    """Give a function that builds a system with the agent and short limits."""

    def build(version, **parameters):
        parameters = {"settings": _SETTINGS, **parameters}
        return site.build(system(version, **parameters))

    return build


@pytest.fixture
def installed(new_host, upstream):
    """Give a function that boots a host with a system, and has that confirmed."""

    def install(first):
        host = new_host(first)
        host.power_on()
        host.await_state(CONFIRM, "inactive")  # the boot's own
        upstream.offer(first)
        assert upgrade(host)[0] == 0
        return host

    return install


def upgrade(host, *arguments, env=None):
    """Run the agent; return exit code and summary."""
    done = host.run("agent", "upgrade", *arguments, env=env)
    return done.rc, summary(done)


def marks(host):
    directory = host.find(MARKS)
    return {link.name: str(link.readlink()) for link in directory.iterdir() if link.is_symlink()}


def assert_wholly_on(host, target):
    seen = host.systems()
    assert seen.running == seen.profile == seen.boot_default == target.toplevel
    left = marks(host)
    left.pop("candidate", None)
    assert left == {"confirmed": target.toplevel}
    assert host.ok("systemctl", "list-units", "--plain", "--no-legend", "*dead-man*") == ""


def test_an_activation_that_hangs_is_ended_and_undone(installed, upstream, build):
    first, newer = build("26.05.1"), build("26.05.2")
    host = installed(first)
    upstream.offer(newer)
    host.inject("stc-sleep", "infinity")
    with host.start("agent", "upgrade") as agent:
        host.eventually(lambda: host.state(_ACTIVATION) == "active", "it hangs")
        host.eventually(lambda: host.exists("/run/switch-to-configuration.pid"), "it hangs")
        host.repair("stc-sleep")  # what undoes it does not hang
        stdout, _ = agent.communicate(timeout=60)

    assert agent.returncode == 1, stdout
    events = [json.loads(line)["event"] for line in stdout.splitlines()]
    assert events.index("activation.awaited") < events.index("activation.stopped"), events
    assert_wholly_on(host, first)
    code, told = upgrade(host)
    assert (code, told["reasons"][0]["name"]) == (75, "suspect")


@pytest.mark.long
def test_an_activation_that_hangs_when_all_is_done_counts(installed, upstream, build):
    first, newer = build("26.05.1"), build("26.05.2")
    host = installed(first)
    upstream.offer(newer)
    host.inject("stc-hang-after", "infinity")

    done = host.run("agent", "upgrade")

    assert (done.rc, summary(done)["outcome"]) == (0, "confirmed"), done
    assert '"activation.stopped"' in done.stdout
    assert host.state(_ACTIVATION) == "inactive"
    assert_wholly_on(host, newer)


def with_daemon(generation):
    """Return the part of a system that has a nix daemon, and an agent that uses it."""
    through_it = f"{_ENVIRONMENT}Environment=NIX_REMOTE=daemon\n"
    return {
        "units": {
            "nix-daemon.service": service("/usr/bin/nix-daemon", f"Environment=OF={generation}")
        },
        "wants": ["nix-daemon.service"],
        "agent_units": {
            UPGRADE: upgrade_unit().replace(_ENVIRONMENT, through_it),
            CONFIRM: confirm_unit().replace(_ENVIRONMENT, through_it),
        },
    }


@pytest.mark.long
@pytest.mark.parametrize("health", ["healthy", "broken"])
def test_a_switch_may_restart_the_nix_daemon(installed, upstream, build, health):
    first = build("26.05.1", **with_daemon(1))
    newer = build("26.05.2", health=health, **with_daemon(2))
    host = installed(first)
    before = host.state("nix-daemon.service", "MainPID")
    upstream.offer(newer)

    code, told = upgrade(host, env={"NIX_REMOTE": "daemon"})

    if health == "healthy":
        assert (code, told["outcome"]) == (0, "confirmed"), told
    else:
        assert (code, told["error.kind"]) == (1, "rolled-back"), told
    assert_wholly_on(host, newer if health == "healthy" else first)
    assert host.state("nix-daemon.service", "MainPID") not in (before, "0")


@pytest.mark.long
def test_a_system_without_the_agent_is_held_and_confirmed_before_it_is_left(
    installed, upstream, build, site
):
    first, bare = build("26.05.1"), site.build(system("26.05.2", agent=False))
    host = installed(first)
    upstream.offer(bare)

    code, told = upgrade(host)

    assert (code, told["reasons"][0]["name"]) == (75, "agent-removed")
    assert_wholly_on(host, first)

    code, told = upgrade(host, "--ignore-gate", "agent-removed", "--reason", "it moves out")

    assert (code, told["outcome"]) == (0, "confirmed"), told
    assert_wholly_on(host, bare)
    assert host.state(CONFIRM, "LoadState") == "not-found"


@pytest.mark.long
def test_a_broken_system_without_the_agent_is_rolled_back_from(installed, upstream, build, site):
    first, bare = build("26.05.1"), site.build(system("26.05.2", agent=False, health="broken"))
    host = installed(first)
    upstream.offer(bare)

    code, told = upgrade(host, "--ignore-gate", "agent-removed", "--reason", "it moves out")

    assert (code, told["error.kind"]) == (1, "rolled-back"), told
    assert_wholly_on(host, first)
    assert host.state(CONFIRM, "LoadState") == "loaded"
