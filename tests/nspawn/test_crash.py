"""Killed at every point and step of an upgrade and at random moments, the next run ends in order."""

from __future__ import annotations

import os
import random
import time

import pytest

from crash import crash_point
from nspawn.crashing_host import JOURNAL, MARKS, WATCHED, CrashingHosts
from nspawn.real_host import HOSTS
from nspawn.systems import CONFIRM, UPGRADE

_MOMENTS = 3
_MANY_MOMENTS = int(os.environ.get("MOMENTS", "47"))
_LONGEST = {True: 4.0, False: 2.5}
"""Seconds in which an upgrade to a broken and to a good system ends here."""


@pytest.fixture(scope="module")
def crashing_hosts(site):
    crashing_hosts = CrashingHosts(site)
    yield crashing_hosts
    crashing_hosts.drop()


@pytest.fixture
def crashing_host(crashing_hosts, request):
    """A host of many rounds: each leaves it in order for the next one."""
    crashing_host = crashing_hosts.take()
    request.node.stash[HOSTS] = [crashing_host.host]
    failed_before = request.session.testsfailed
    yield crashing_host
    if request.session.testsfailed != failed_before:
        crashing_hosts.drop()


# --- at every point


def effects_of_an_upgrade(crashing_host):
    crashing_host.host.inject("effects")
    crashing_host.upgrade(*WATCHED.split())
    crashing_host.await_quiet()
    seen = crashing_host.host.read(str(crash_point.TRACE)).splitlines()
    crashing_host.host.repair("effects")
    return tuple(seen)


def test_the_effects_of_an_upgrade_are_those_at_which_it_is_killed(crashing_host):
    crashing_host.offer_next()
    assert effects_of_an_upgrade(crashing_host) == crash_point.UPGRADE


def test_the_effects_of_a_roll_back_are_those_at_which_it_is_killed(crashing_host):
    crashing_host.offer_broken()
    told = effects_of_an_upgrade(crashing_host)
    assert told[told.index("record:pending") + 1 :] == crash_point.ROLL_BACK
    crashing_host.allow(crashing_host.broken)


def points(effects, seen_each_time=()):
    """Return the points before and after each effect.

    After an effect and before the next one nothing has changed: one of the two is left to the long
    tests, unless the effect is a program that goes on without the agent. So are those whose effect
    is not to be `seen_each_time`, if any are.
    """
    last, outliving = effects[-1], ("rebuild:switch", "activate:switch")
    return [
        pytest.param(
            f"{moment} {effect}",
            marks=()
            if (moment == "before" or effect in (last, *outliving))
            and (not seen_each_time or effect in seen_each_time)
            else pytest.mark.long,
        )
        for effect in effects
        for moment in ("before", "after")
    ]


_DECISIVE_FOR_UPGRADES = (
    "arm",
    "set:pending",
    "rebuild:switch",
    "record:pending",
    "move:pending>confirmed",
)
"""From an upgrade that was killed before one of these recovery has another way to go each time."""


@pytest.mark.parametrize("point", points(crash_point.UPGRADE, _DECISIVE_FOR_UPGRADES))
def test_an_upgrade_killed_at_a_point_is_recovered_from(crashing_host, point):
    before = crashing_host.look()
    target = crashing_host.offer_next(before.running)
    crashing_host.kill_at(point)
    told = crashing_host.next_run()
    seen = crashing_host.assert_recovered(crashing_host.good, before.runs + 1)
    if seen.running == before.running:
        assert told["reasons"][0]["name"] == "suspect", told
        crashing_host.allow(target)


# Between the two nobody has written down yet why the system is rolled back from.
_UNTOLD = ("after move:pending>rolling-back", "before record:rolling-back")


_DECISIVE = ("record:rolling-back", "activate:switch")
"""From a roll-back that was killed before one of these recovery has another way to go each time."""


@pytest.mark.parametrize("point", points(crash_point.ROLL_BACK, _DECISIVE))
def test_a_roll_back_killed_at_a_point_is_recovered_from(crashing_host, point):
    before = crashing_host.look()
    crashing_host.offer_broken()
    crashing_host.kill_at(point)
    told = crashing_host.next_run()
    seen = crashing_host.assert_recovered(crashing_host.good, before.runs + 1)
    assert seen.running == before.running
    assert told["reasons"][0]["name"] == ("suspect" if point in _UNTOLD else "denied"), told
    crashing_host.allow(crashing_host.broken)


# --- at every step


def steps_of_an_upgrade(crashing_host):
    crashing_host.host.inject("steps")
    crashing_host.upgrade(*WATCHED.split())
    crashing_host.await_quiet()
    seen = crashing_host.host.read(str(crash_point.STEPS)).splitlines()
    crashing_host.host.repair("steps")
    return [tuple(s for s in seen if s.startswith(command)) for command in ("upgrade", "confirm")]


@pytest.mark.long
def test_the_steps_of_an_upgrade_are_those_at_which_it_is_killed(crashing_host):
    crashing_host.offer_next()
    upgrade, confirm = steps_of_an_upgrade(crashing_host)
    assert upgrade + confirm == crash_point.UPGRADE_STEPS


@pytest.mark.long
def test_the_steps_of_a_roll_back_are_those_at_which_it_is_killed(crashing_host):
    crashing_host.offer_broken()
    _, confirm = steps_of_an_upgrade(crashing_host)
    assert confirm == crash_point.ROLL_BACK_STEPS
    crashing_host.allow(crashing_host.broken)


def within(steps):
    """Return the steps at which no effect begins."""
    found, effects = [], set()
    for step in steps:
        effect, is_inner, _ = step.partition(" ")[2].partition(" ")[2].partition("/")
        if not is_inner or effect in effects:
            found.append(step)
        effects.add(effect)
    return found


@pytest.mark.long
@pytest.mark.parametrize("step", within(crash_point.UPGRADE_STEPS))
def test_an_upgrade_killed_at_a_step_is_recovered_from(crashing_host, step):
    end_round_after_a_kill(crashing_host, step, is_broken=False)


@pytest.mark.long
@pytest.mark.parametrize("step", within(crash_point.ROLL_BACK_STEPS))
def test_a_roll_back_killed_at_a_step_is_recovered_from(crashing_host, step):
    end_round_after_a_kill(crashing_host, step, is_broken=True)


@pytest.mark.long
@pytest.mark.parametrize("effect", crash_point.UPGRADE)
def test_an_upgrade_that_loses_power_is_recovered_from(crashing_host, effect):
    end_round_after_a_kill(crashing_host, f"cut before {effect}", is_broken=False)


@pytest.mark.long
@pytest.mark.parametrize("effect", crash_point.ROLL_BACK)
def test_a_roll_back_that_loses_power_is_recovered_from(crashing_host, effect):
    end_round_after_a_kill(crashing_host, f"cut before {effect}", is_broken=True)


def end_round_after_a_kill(crashing_host, point, *, is_broken):
    before = crashing_host.look()
    target = crashing_host.offer_broken() if is_broken else crashing_host.offer_next(before.running)
    crashing_host.strike(point)
    assert_next_run_recovers(crashing_host, target, before, is_broken=is_broken)


def assert_next_run_recovers(crashing_host, target, before, *, is_broken):
    killed = crashing_host.look()
    crashing_host.next_run()
    seen = crashing_host.assert_recovered(crashing_host.good, max(killed.runs, before.runs + 1))
    assert seen.running == before.running or not is_broken
    if seen.running != target.toplevel:
        crashing_host.allow(target)


# --- at random moments


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=pytest.mark.long if number >= _MOMENTS else ())
        for number in range(_MOMENTS + _MANY_MOMENTS)
    ],
)
def test_what_was_killed_at_a_random_moment_is_recovered_from(crashing_host, number):
    seed = os.environ.get("MOMENT_SEED") or os.urandom(4).hex()
    print(f"again: MOMENT_SEED={seed}, moment {number}")  # noqa: T201 - shown if it fails
    chance = random.Random(f"{seed} {number}")
    is_broken = chance.random() < 0.4
    who = chance.choices((UPGRADE, CONFIRM, "the host"), (6, 3, 1))[0]
    moment = chance.random()
    before = crashing_host.look()
    target = crashing_host.offer_broken() if is_broken else crashing_host.offer_next(before.running)

    crashing_host.begin()
    if who == CONFIRM:
        crashing_host.await_confirmation()
        moment /= 2
    time.sleep(moment * _LONGEST[is_broken])
    print(f"{who} after {moment * _LONGEST[is_broken]:.3f} s of {target}")  # noqa: T201
    kill(crashing_host, who)
    assert_next_run_recovers(crashing_host, target, before, is_broken=is_broken)


def kill(crashing_host, who):
    """Kill the main process of a unit, if it is there; or take the host's power away."""
    if who in (UPGRADE, CONFIRM):
        crashing_host.host.run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", who)
    else:
        crashing_host.host.cut_power()
        crashing_host.host.power_on()


# --- what the agent remembers

_STATE = JOURNAL.rpartition("/")[0]
_FAULTS = {
    "truncated": f"truncate --size=5000 {JOURNAL}; rm -f {JOURNAL}-*",
    "garbage": f"head -c 20000 /dev/urandom > {JOURNAL}; rm -f {JOURNAL}-*",
    "empty": f": > {JOURNAL}; rm -f {JOURNAL}-*",
    "gone": f"rm {JOURNAL}*",
}


def leave_half_done(crashing_host):
    """Leave the profile and the boot loader with a system that is not activated."""
    target = crashing_host.offer_next()
    crashing_host.host.inject("kill-self")
    crashing_host.kill_at("after rebuild:switch")
    crashing_host.host.repair("kill-self")
    left = crashing_host.look()
    assert left.profile == left.boot_default == target.toplevel != left.running
    return target


@pytest.mark.parametrize(
    "fault",
    [
        "garbage",
        "gone",
        pytest.param("truncated", marks=pytest.mark.long),
        pytest.param("empty", marks=pytest.mark.long),
    ],
)
def test_without_its_history_a_run_goes_by_the_marks(crashing_host, fault):
    target = leave_half_done(crashing_host)
    crashing_host.host.ok("sh", "-c", _FAULTS[fault])

    told = crashing_host.next_run()

    crashing_host.assert_recovered([s for s in crashing_host.good if s is not target], 1)
    if fault == "truncated":  # there may have been a pause, which is a person's to lift
        assert told["reasons"][0]["name"] == "paused", told
        crashing_host.host.ok("agent", "resume")
        told = crashing_host.next_run()
    assert told["reasons"][0]["name"] == "suspect", told
    crashing_host.allow(target)


def test_without_the_marks_a_run_goes_by_its_history(crashing_host):
    before = crashing_host.look()
    target = leave_half_done(crashing_host)
    crashing_host.host.ok("rm", "-r", MARKS)

    told = crashing_host.next_run()

    crashing_host.assert_recovered(
        [s for s in crashing_host.good if s is not target], before.runs + 1
    )
    assert told["reasons"][0]["name"] == "suspect", told
    crashing_host.allow(target)


def test_without_marks_and_history_a_run_holds_until_a_person_has_looked(crashing_host):
    target = leave_half_done(crashing_host)
    left = crashing_host.look()
    crashing_host.host.ok("sh", "-c", f"rm -r {MARKS} {JOURNAL}* {_STATE}/upgrades.json")

    told = crashing_host.next_run()

    assert (told["exit_code"], told["reasons"][0]["name"]) == (75, "foreign-system"), told
    assert crashing_host.look().running == left.running
    crashing_host.host.ok("agent", "rollback", "--reason", "half done")
    crashing_host.assert_recovered([s for s in crashing_host.good if s is not target], 1)
    crashing_host.allow(target)


_UNWRITABLE = {
    "read-only": (
        f"mount --bind {_STATE} {_STATE}; mount -o remount,bind,ro {_STATE}",
        f"umount {_STATE}",
        "state-read-only",
    ),
    "full": (
        "! dd if=/dev/zero of=/var/lib/filling bs=1M 2> /dev/null",
        "rm /var/lib/filling",
        "state-full",
    ),
}


@pytest.mark.parametrize("fault", ["full", pytest.param("read-only", marks=pytest.mark.long)])
def test_a_run_that_can_remember_nothing_says_so_and_leaves_the_history_to_the_next(
    crashing_host, fault
):
    breaks, mends, kind = _UNWRITABLE[fault]
    target = leave_half_done(crashing_host)
    left = crashing_host.look()
    crashing_host.host.ok("sh", "-euc", breaks)

    failed = crashing_host.next_run()

    crashing_host.host.ok("sh", "-euc", mends)
    assert (failed["exit_code"], failed["error.kind"]) == (1, kind), failed
    if fault == "full":  # the host goes back all the same, and the history has it later
        assert not {"pending", "rolling-back"} & set(crashing_host.look().marks)
    else:
        assert crashing_host.look() == left
    told = crashing_host.next_run()
    crashing_host.assert_recovered([s for s in crashing_host.good if s is not target], left.runs)
    assert told["reasons"][0]["name"] == "suspect", told
    crashing_host.allow(target)
