"""Killed, or without power, at some points of an upgrade that takes a reboot: it ends in order."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress

import pytest

from agent.domain.outcome import UNDER_WAY
from host.real_host import HOSTS
from host.systems import DEADLINE_TIMER, UPGRADE, oneshot, system
from host.victim import SETTINGS, UNITS, Victim
from killing import killer

_LONGEST = 40.0
_UNTIL_IT_GOES_DOWN = 5.0
_A_MACHINE = oneshot(
    "/bin/rm -f /run/systemd/container", unit=["DefaultDependencies=no", "Before=sysinit.target"]
)


class Rebooter(Victim):
    """A victim whose systems differ in their kernels, on a host that is no container."""

    def release(self, site, version, **parameters):
        """Build one of the systems."""
        return site.build(
            system(
                version,
                kernel=f"6.12.{version[-1]}",
                units={"machine.service": _A_MACHINE},
                early=["machine.service", DEADLINE_TIMER],
                settings={**SETTINGS, "reboot": {"mode": "when-needed"}},
                agent_units=UNITS,
                **parameters,
            )
        )

    def begin(self):
        """Begin an upgrade as the timer does: the host may go down before it ends."""
        self.host.run("systemctl", "start", "--no-block", UPGRADE)

    def strike(self, point):
        """Begin an upgrade, and see it die at the point, or take the power away there."""
        self.host.inject("kill", point)
        self.begin()
        self.host.eventually(lambda: not self.host.exists(str(killer.POINT)), point)
        if point.startswith("cut "):
            self.host.cut_power()
            self.host.power_on()

    def settle(self):
        """Let the timer go off again and again until nothing is under way; return what is seen."""
        deadline, seen = time.monotonic() + _LONGEST, None
        while time.monotonic() < deadline:
            with suppress(AssertionError, RuntimeError, OSError, subprocess.TimeoutExpired):
                self.host.await_boot(self.host.boots)
                self.await_quiet()
                seen = self.look()
                if self._is_settled(seen):
                    return seen
                boots = self.host.boots
                self.begin()
                # Whoever is in a host that goes down would keep it from that: it is watched from
                # outside.
                going_down = time.monotonic() + _UNTIL_IT_GOES_DOWN
                while self.host.boots == boots and time.monotonic() < going_down:
                    time.sleep(0.1)
        raise AssertionError(f"{seen}\n{self.host.journal()[-20_000:]}")

    def _is_settled(self, seen):
        marks = {name: path for name, path in seen.marks.items() if name != "candidate"}
        on = {seen.running, seen.profile, seen.boot_default, self.host.systems().booted}
        is_closed = not any(outcome in (*UNDER_WAY, "staged") for outcome, _, _ in seen.rows[-1:])
        return marks == {"confirmed": seen.running} and len(on) == 1 and is_closed


@pytest.fixture(scope="module")
def rebooters(site):
    kept = []

    def take():
        if not kept:
            kept.append(Rebooter(site, "rebooter"))
        return kept[0]

    def drop():
        while kept:
            kept.pop().close()

    yield take, drop
    drop()


@pytest.fixture
def victim(rebooters, request):
    take, drop = rebooters
    victim = take()
    request.node.stash[HOSTS] = [victim.host]
    failed_before = request.session.testsfailed
    victim.forget_generations()
    yield victim
    if request.session.testsfailed != failed_before:
        drop()  # the next round begins on a new one


def test_the_effects_of_a_reboot_are_those_at_which_it_is_killed(victim):
    victim.offer_next()
    victim.host.inject("effects")
    boots = victim.host.boots
    victim.begin()
    victim.host.await_boot(boots + 1)
    victim.settle()
    seen = victim.host.read(str(killer.TRACE)).splitlines()
    victim.host.mend("effects")
    expected = [*killer.REBOOT, *killer.BOOTED]
    begun = seen.index("record:staged")
    assert seen[begun : begun + len(expected)] == expected


@pytest.mark.parametrize(
    "point",
    ["upgrade: before boot-once", "cut upgrade: after reboot", "confirm: before activate:boot"],
)
def test_a_reboot_killed_at_a_point_is_recovered_from(victim, point):
    victim.offer_next()
    boots = victim.host.boots
    victim.strike(point)
    seen = victim.settle()
    assert seen.running in [system.toplevel for system in victim.good]
    # One into the system; a cut is one more, and a roll-back from what was cut short.
    assert victim.host.boots - boots <= 1 + 2 * point.startswith("cut ")
    for one in victim.good:  # it may be suspect, having been cut short
        victim.host.run("agent", "allow", one.toplevel, "--reason", "the next round")
