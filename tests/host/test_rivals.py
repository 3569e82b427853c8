"""Two who want to change one host: another agent, or a person."""

from __future__ import annotations

import json

import pytest

from host.gate import Gate
from host.systems import CONFIRM, oneshot, system
from host.victim import summary
from host.workshop import HOST

_SETTINGS = {
    "strategy": "store-path",
    "confirm": {"settle": "0.02s", "deadline": "1s"},
}
_SLOW = "slow.service"
_LOCK = "/run/nixos/switch-to-configuration.lock"
_AGENT_LOCK = "/var/lib/nixos-hydra-agent/agent.lock"
_PASSES = ("--ignore-gate", "foreign-system", "--reason", "the fix is in this build")


@pytest.fixture
def systems(site):
    """Five systems with the agent; a switch from the third to the second takes its time."""
    slow = {n: {_SLOW: oneshot("/bin/sleep 1.5", f"Environment=OF={n}")} for n in (2, 3)}
    return [
        site.build(
            system(f"26.05.{n}", settings=_SETTINGS, units=slow.get(n), wants=list(slow.get(n, ())))
        )
        for n in range(1, 6)
    ]


@pytest.fixture
def host(new_host, outside, systems):
    """A host that has confirmed its first system."""
    host = new_host(systems[0])
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    outside.offer(systems[0])
    assert upgrade(host)[0] == 0
    return host


def upgrade(host, *arguments):
    """Run the agent; return exit code and summary."""
    done = host.run("agent", "upgrade", *arguments)
    return done.rc, summary(done)


def upgrade_in_turn(host):
    """The same, as often as the confirm unit, which tries again and again, has the lock."""
    answers = []

    def is_done():
        answers.append(upgrade(host))
        return answers[-1][1].get("error.kind") != "locked"

    host.eventually(is_done, "nobody else has the lock")
    return answers[-1]


def by_hand(target):
    """Return what a person types."""
    return ("nixos-rebuild", "switch", "--flake", f"{target.reference}#{HOST}")


def finish(child):
    """Return exit code and standard output of a program that is about to end."""
    stdout, stderr = child.communicate(timeout=60)
    return child.returncode, stdout, stderr


def places(host):
    """Return the running system and the profile."""
    seen = host.systems()
    return seen.running, seen.profile


def await_confirmation(host):
    host.await_state(CONFIRM, "inactive")


@pytest.mark.long
def test_of_two_agents_one_works_and_the_other_says_who(host, outside, systems):
    outside.offer(systems[1])
    gate = Gate(host)
    with host.start("agent", "upgrade") as first:
        gate.await_activation()
        code, told = upgrade(host)
        gate.open()
        winner = finish(first)

    assert (code, told["error.kind"]) == (75, "locked")
    assert "process " in told["error.message"]
    assert winner[0] == 0, winner
    assert places(host) == (systems[1].toplevel,) * 2


def test_an_agent_and_a_person(host, outside, systems):
    """One story: each of the two comes first once, and then the person's fix is left alone."""
    # The person's activation is at work, and has moved the profile: the agent does not begin.
    fix, asked = systems[1].toplevel, by_hand(systems[1])
    outside.offer(systems[2])
    gate = Gate(host)
    with host.start(*asked) as person:
        gate.await_activation()
        code, told = upgrade(host)
        gate.open()
        winner = finish(person)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system")
    assert winner[0] == 0, winner
    assert places(host) == (fix, fix)

    # What the person has brought is left alone, but by a person.
    code, told = upgrade(host)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system")
    assert places(host) == (fix, fix)
    code, told = upgrade(host, *_PASSES)
    assert (code, told["outcome"]) == (0, "confirmed")
    assert places(host) == (systems[2].toplevel,) * 2

    # The agent's activation is at work: the person's has moved the profile, and no more.
    outside.offer(systems[3])
    gate = Gate(host)
    with host.start("agent", "upgrade") as agent:
        gate.await_activation()
        lost = host.run(*asked)
        assert host.systems().profile == fix
        gate.open()
        code, *said = finish(agent)
    assert (lost.rc, "was already loaded" in lost.stderr) == (1, True), lost
    running, profile = places(host)
    assert running == profile == host.systems().boot_default, said
    assert running in (systems[2].toplevel, systems[3].toplevel)


@pytest.mark.long
def test_an_agent_that_has_lost_the_race_gives_the_profile_back(host, outside, systems):
    """Between the agent's look and its nixos-rebuild somebody else has begun to activate."""
    fix, candidate = systems[1].toplevel, systems[2].toplevel
    outside.offer(systems[2])
    # The agent's own nixos-rebuild waits until the person's is at work.
    host.ok("mkfifo", "/run/turn")
    host.write(
        "/usr/local/bin/nixos-rebuild-real", host.read("/usr/local/bin/nixos-rebuild"), mode=0o755
    )
    host.write(
        "/usr/local/bin/nixos-rebuild",
        '#!/bin/sh\nread -r _ < /run/turn\nexec nixos-rebuild-real "$@"\n',
        mode=0o755,
    )
    gate = Gate(host)
    with host.start("agent", "upgrade") as agent:
        host.eventually(lambda: host.state("nixos-hydra-agent-dead-man-*.timer", "Id"), "armed")
        with host.start("nixos-rebuild-real", *by_hand(systems[1])[1:]) as person:
            gate.await_activation()
            host.ok("sh", "-c", "echo go > /run/turn")
            code, stdout, _ = finish(agent)
            assert host.systems().profile == fix, stdout
            gate.open()
            assert finish(person)[0] == 0

    assert code == 75, stdout
    assert candidate in stdout
    assert places(host) == (fix, fix)
    assert host.ok("systemctl", "list-units", "--plain", "--no-legend", "*dead-man*") == ""
    code, told = upgrade(host)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system")


def test_a_hot_fix_while_an_upgrade_is_pending_ends_it(host, outside, systems):
    fix = systems[1].toplevel
    outside.offer(systems[2])
    gate = Gate(host)
    with host.start("agent", "upgrade") as agent:
        gate.await_activation()
        # It cannot be judged: Hydra is away, and the gateway is not.
        outside.hydra.down()
        gate.open()
        code, stdout, _ = finish(agent)
    assert code == 75, stdout
    told = json.loads(host.run("agent", "status", "--json").stdout)
    assert told["pending"] == systems[2].toplevel

    # The confirm unit that the person's switch starts waits, here for another agent, and is no unit
    # that has failed.
    host.ok("systemctl", "stop", CONFIRM)
    host.ok("mkfifo", "/run/turn")
    with host.start(
        "flock", _AGENT_LOCK, "sh", "-c", "echo has it; read -r _ < /run/turn"
    ) as other:
        assert other.stdout.readline() == "has it\n"
        done = host.run(*by_hand(systems[1]))
        assert (done.rc, "units failed" in done.stderr) == (0, False), done
        assert host.state(CONFIRM) == "active"
        assert places(host) == (fix, fix)
        host.ok("sh", "-c", "echo go > /run/turn")
        finish(other)
    await_confirmation(host)
    assert host.state(CONFIRM, "NRestarts") == "0"
    outside.hydra.up()

    code, told = upgrade_in_turn(host)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system"), told
    assert places(host) == (fix, fix)
