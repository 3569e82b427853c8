"""Killed, or without power, at some points of an upgrade that takes a reboot: it ends in order."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from agent.domain.outcome import UNDER_WAY
from crash import crash_point
from nspawn.crashing_host import HELD, SETTINGS, UNITS, CrashingHost
from nspawn.real_host import HOSTS
from nspawn.systems import DEADLINE_TIMER, oneshot, system

_LONGEST = 40.0
_GOES_DOWN = (AssertionError, RuntimeError, OSError, subprocess.TimeoutExpired)
"""How it shows that a host goes down while someone is in it."""
_A_MACHINE = oneshot(
    "/bin/rm -f /run/systemd/container", unit=["DefaultDependencies=no", "Before=sysinit.target"]
)


class Rebooter(CrashingHost):
    """A host whose systems differ in their kernels, on a host that is no container."""

    def agent(self, *arguments):
        """Run a command in a process of its own, as the timers do: one after a reboot was asked for."""
        return self.host.run("agent", *arguments)

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

    def held_by(self):
        """Let the next run tell what holds it."""
        self.host.await_boot(self.host.boots)
        self.await_quiet()
        return self._reason(self.next_run())

    def held_in_the_end_by(self, running):
        """Let runs follow each other until one is held; on the way one may reboot into what runs."""
        deadline = time.monotonic() + _LONGEST
        while time.monotonic() < deadline:
            try:
                boots = self.host.boots
                self.host.await_boot(boots)
                self.await_quiet()
                told = self.next_run()
            except _GOES_DOWN:
                continue
            if told["decision"] != "reboot":
                return self._reason(told)
            assert told["toplevel"] == running, json.dumps(told)
            self.host.await_boot(boots + 1)
        raise AssertionError(self.host.journal()[-20_000:])

    def _reason(self, told):
        assert told["exit_code"] == HELD, json.dumps(told)
        return told["reasons"][0]["name"]

    def ask_reboot(self):
        """Have a person complete what is staged."""
        boots = self.host.boots
        self.host.run("systemd-run", "agent", "reboot")
        self.host.await_boot(boots + 1)

    def end_round(self, target):
        """Forget what a system has earned in this round, if anything."""
        self.host.run("agent", "allow", target, "--reason", "the next round")

    def settle(self):
        """Let the timer go off again and again until nothing is under way; return what is seen."""
        deadline, seen = time.monotonic() + _LONGEST, None
        while time.monotonic() < deadline:
            try:
                self.host.await_boot(self.host.boots)
                self.await_quiet()
                seen = self.look()
                if self._is_settled(seen):
                    return seen
                self.begin()
            except _GOES_DOWN as fault:
                seen = fault
        raise AssertionError(f"{seen}\n{self.host.journal()[-20_000:]}")

    def _is_settled(self, seen):
        marks = {name: path for name, path in seen.marks.items() if name != "candidate"}
        on = {seen.running, seen.profile, seen.boot_default}
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
def crashing_host(rebooters, request):
    take, drop = rebooters
    crashing_host = take()
    request.node.stash[HOSTS] = [crashing_host.host]
    failed_before = request.session.testsfailed
    crashing_host.forget_generations()
    yield crashing_host
    if request.session.testsfailed != failed_before:
        drop()  # the next round begins on a new one


# --- into a good system

_LOST_AFTER_BOOT = ("cut confirm: before set:pending",)
"""The one-shot entry is used up and nobody has written down that the new system came up."""
_UNJUDGED = frozenset(
    f"cut confirm: {moment} {effect}"
    for effect in ("set:pending", "remove:staged", "record:pending", "move:pending>confirmed")
    for moment in ("before", "after")
) - {*_LOST_AFTER_BOOT, "cut confirm: after move:pending>confirmed"}
"""The loader has gone back from a system that was not yet confirmed: it is suspect."""
_SEEN_EACH_TIME = ("cut confirm: after move:pending>confirmed",)


def points(of, effects, seen_each_time):
    """Return the points before and after each effect, to be killed or cut off at."""
    found = dict.fromkeys(
        f"{how}{of}: {moment} {effect}"
        for effect in effects
        for moment in ("before", "after")
        for how in ("", "cut ")
    )
    return [
        pytest.param(point, marks=() if point in seen_each_time else pytest.mark.long)
        for point in found
    ]


def effects_of(crashing_host, boots):
    """Return the effects of an upgrade that takes so many boots, from its staging on."""
    crashing_host.host.inject("effects")
    begun = crashing_host.host.boots
    crashing_host.begin()
    crashing_host.host.await_boot(begun + boots)
    crashing_host.settle()
    seen = crashing_host.host.read(str(crash_point.TRACE)).splitlines()
    crashing_host.host.repair("effects")
    return tuple(seen[seen.index("record:staged") :])


def test_the_effects_of_a_reboot_are_those_at_which_it_is_killed(crashing_host):
    crashing_host.offer_next()
    assert effects_of(crashing_host, boots=1) == (*crash_point.REBOOT, *crash_point.BOOTED)


@pytest.mark.parametrize(
    "point",
    [
        *points("upgrade", crash_point.REBOOT, _SEEN_EACH_TIME),
        *points("confirm", crash_point.BOOTED, _SEEN_EACH_TIME),
    ],
)
def test_a_reboot_killed_at_a_point_is_recovered_from(crashing_host, point):
    before, target = crashing_host.look().running, crashing_host.offer_next().toplevel
    boots = crashing_host.host.boots
    crashing_host.strike(point)
    if point in _LOST_AFTER_BOOT:
        assert crashing_host.held_by() == "reboot-ineffective"
        crashing_host.ask_reboot()
    seen = crashing_host.settle()
    assert seen.running == (before if point in _UNJUDGED else target)
    assert crashing_host.host.systems().booted == seen.running
    # One into the system; a cut is one more, and a reboot into what had been left.
    assert crashing_host.host.boots - boots <= 1 + 2 * point.startswith("cut ")
    crashing_host.end_round(target)


# --- back from a broken one


@pytest.mark.long
def test_the_effects_of_a_reboot_back_are_those_at_which_it_is_killed(crashing_host):
    crashing_host.offer_broken()
    told = effects_of(crashing_host, boots=2)
    assert told[told.index("record:pending") + 1 :] == crash_point.REBOOT_BACK
    crashing_host.allow(crashing_host.broken)


_NOT_ASKED_FOR = (
    "confirm: after move:rolling-back>rebooting-back",
    "confirm: before disarm",
    "confirm: after disarm",
    "confirm: before reboot",
)


@pytest.mark.parametrize("point", points("confirm", crash_point.REBOOT_BACK, ()))
def test_a_reboot_back_killed_at_a_point_is_recovered_from(crashing_host, point):
    before, target = crashing_host.look().running, crashing_host.offer_broken().toplevel
    boots = crashing_host.host.boots
    crashing_host.strike(point)
    seen = crashing_host.settle()
    assert seen.running == before
    # A reboot back is asked for once: where it was not to be had, the services alone go back. Later
    # one may be asked for as for any system that needs it, since nothing newer may be taken.
    assert point in _NOT_ASKED_FOR or crashing_host.host.systems().booted == before
    assert crashing_host.held_in_the_end_by(before) in ("denied", "suspect")
    # One into the system, one back, and a cut.
    assert crashing_host.host.boots - boots <= 2 + point.startswith("cut ")
    crashing_host.end_round(target)
