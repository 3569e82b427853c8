"""Two who want to change one host: another agent, or a person."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from nspawn.activation_breakpoint import Gate
from nspawn.builder import HOST
from nspawn.crashing_host import summary
from nspawn.host_state import timers
from nspawn.systems import CONFIRM, oneshot, system

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
def host(new_host, upstream, systems):
    """A host that has confirmed its first system."""
    host = new_host(systems[0])
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    upstream.offer(systems[0])
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


@contextmanager
def delayed(host):
    """Let the agent's own `nixos-rebuild switch` wait until it is let go; a person has the real one."""
    usual, real = "/usr/local/bin/nixos-rebuild", "/usr/local/bin/nixos-rebuild-real"
    text = host.read(usual)
    host.ok("mkfifo", "/run/turn")
    host.write(real, text, mode=0o755)
    waits = "#!/bin/sh\n[ $1 = build ] || read -r _ < /run/turn\n"
    host.write(usual, f'{waits}exec {real} "$@"\n', mode=0o755)
    yield lambda: host.ok("sh", "-c", "echo go > /run/turn")
    host.write(usual, text, mode=0o755)
    host.ok("rm", "/run/turn")


def await_armed(host):
    host.eventually(lambda: host.state("nixos-hydra-agent-dead-man-*.timer", "Id"), "armed")


def dead_men(host):
    return host.ok("systemctl", "list-units", "--plain", "--no-legend", "*dead-man*")


def history(host, count):
    """Return the newest rows."""
    told = host.run("agent", "history", "--json", "--limit", str(count))
    return json.loads(told.stdout)["runs"]


def await_confirmation(host):
    host.await_state(CONFIRM, "inactive")


@pytest.mark.long
def test_of_two_agents_one_works_and_the_other_says_who(host, upstream, systems):
    upstream.offer(systems[1])
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


def test_an_agent_and_a_person(host, upstream, systems):
    """One story: each of the two comes first once, and then the person's fix is left alone."""
    # The person's activation is at work, and has moved the profile: the agent does not begin.
    fix, asked = systems[1].toplevel, by_hand(systems[1])
    upstream.offer(systems[2])
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
    upstream.offer(systems[3])
    gate = Gate(host)
    with host.start("agent", "upgrade") as agent:
        gate.await_activation()
        lost = host.run(*asked)
        assert host.systems().profile == fix
        gate.open()
        code, *said = finish(agent)
    # The refused one has moved the profile for nothing: nobody is to blame, and that goes back.
    assert (lost.rc, "was already loaded" in lost.stderr) == (1, True), lost
    assert code == 0, said
    assert places(host) == (systems[3].toplevel,) * 2
    assert host.systems().boot_default == systems[3].toplevel
    (row,) = history(host, 1)
    assert (row["outcome"], row.get("fault")) == ("confirmed", None), row

    # A person's activation past the unit has the lock.
    upstream.offer(systems[4])
    lose_to_the_lock(host, fix, systems[4].toplevel)
    assert places(host) == (fix, systems[3].toplevel)
    assert host.systems().boot_default == fix
    code, told = upgrade(host)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system")


def lose_to_the_lock(host, fix, candidate):
    """Let the agent's activation be refused with 11, and see it wait for the winner's."""
    gate = Gate(host)
    with delayed(host) as lets_go, host.start("agent", "upgrade") as agent:
        await_armed(host)
        with host.start(f"{fix}/bin/switch-to-configuration", "switch") as person:
            gate.await_activation()
            lets_go()
            host.eventually(lambda: host.systems().profile == candidate, "it has lost")
            gate.open()
            code, *said = finish(agent)
            assert finish(person)[0] == 0
    assert code == 75, said
    assert dead_men(host) == ""
    (row,) = history(host, 1)
    assert (row["outcome"], row["error_kind"]) == ("held", "activation-busy")
    assert row.get("fault") is None
    assert "ended with 11" in row["error_message"]
    assert "Could not acquire lock" in row["error_message"]


@pytest.mark.long
def test_an_agent_that_has_lost_the_race_gives_the_profile_back(host, upstream, systems):
    """Between the agent's look and its nixos-rebuild someone else has begun to activate."""
    fix, candidate = systems[1].toplevel, systems[2].toplevel
    upstream.offer(systems[2])
    gate = Gate(host)
    with delayed(host) as lets_go, host.start("agent", "upgrade") as agent:
        await_armed(host)
        with host.start("nixos-rebuild-real", *by_hand(systems[1])[1:]) as person:
            gate.await_activation()
            lets_go()
            host.eventually(lambda: host.systems().profile == candidate, "the agent has lost")
            gate.open()
            code, stdout, _ = finish(agent)
            assert finish(person)[0] == 0

    assert code == 75, stdout
    assert candidate in stdout
    assert places(host) == (fix, fix)
    assert dead_men(host) == ""
    code, told = upgrade(host)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system")


@pytest.mark.long
def test_a_hot_fix_while_an_upgrade_is_pending_ends_it(host, upstream, systems):
    fix = systems[1].toplevel
    upstream.offer(systems[2])
    gate = Gate(host)
    with host.start("agent", "upgrade") as agent:
        gate.await_activation()
        # It cannot be judged: Hydra is away, and the gateway is not.
        upstream.hydra.down()
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
        gate = Gate(host)
        with host.start(*by_hand(systems[1])) as person:
            gate.await_activation()
            # Nor does the dead-man stop what it cannot prove to be of the agent.
            late = ("--run-id", "late", "--toplevel", systems[2].toplevel)
            ended = host.run("agent", "dead-man", *late)
            assert ended.rc == 75, ended
            assert timers(host), "it comes again"
            gate.open()
            code, *said = finish(person)
        assert (code, "units failed" in said[1]) == (0, False), said
        assert host.state(CONFIRM) == "active"
        assert places(host) == (fix, fix)
        host.ok("sh", "-c", "echo go > /run/turn")
        finish(other)
    await_confirmation(host)
    assert host.state(CONFIRM, "NRestarts") == "0"
    upstream.hydra.up()

    code, told = upgrade_in_turn(host)
    assert (code, told["reasons"][0]["name"]) == (75, "foreign-system"), told
    assert places(host) == (fix, fix)
