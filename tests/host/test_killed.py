"""Killed at every point and step of an upgrade and at random moments, the next run ends in order."""

from __future__ import annotations

import os
import random
import time

import pytest

from host.real_host import HOSTS
from host.systems import CONFIRM, UPGRADE
from host.victim import JOURNAL, MARKS, WATCHED, Victims
from killing import killer

_MOMENTS = 8
_MANY_MOMENTS = int(os.environ.get("MOMENTS", "92"))
_LONGEST = {True: 4.0, False: 2.5}
"""Seconds in which an upgrade to a broken and to a good system ends here."""


@pytest.fixture(scope="module")
def victims(site):
    victims = Victims(site)
    yield victims
    victims.drop()


@pytest.fixture
def victim(victims, request):
    """A host of many rounds: each leaves it in order for the next one."""
    victim = victims.take()
    request.node.stash[HOSTS] = [victim.host]
    failed_before = request.session.testsfailed
    yield victim
    if request.session.testsfailed != failed_before:
        victims.drop()


# --- at every point


def effects_of_an_upgrade(victim):
    victim.host.inject("effects")
    victim.upgrade(*WATCHED.split())
    victim.await_quiet()
    seen = victim.host.read(str(killer.TRACE)).splitlines()
    victim.host.repair("effects")
    return tuple(seen)


def test_the_effects_of_an_upgrade_are_those_at_which_it_is_killed(victim):
    victim.offer_next()
    assert effects_of_an_upgrade(victim) == killer.UPGRADE


def test_the_effects_of_a_roll_back_are_those_at_which_it_is_killed(victim):
    victim.offer_broken()
    told = effects_of_an_upgrade(victim)
    assert told[told.index("record:pending") + 1 :] == killer.ROLL_BACK
    victim.allow(victim.broken)


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


_TOUCHING = tuple(
    effect
    for effect in killer.UPGRADE
    if effect
    not in ("record:selected", "record:verified", "remove:tested", "record:confirmed again")
)
"""The others leave a host as it was, or as it is to be."""


@pytest.mark.parametrize("point", points(killer.UPGRADE, _TOUCHING))
def test_an_upgrade_killed_at_a_point_is_recovered_from(victim, point):
    before = victim.look()
    target = victim.offer_next(before.running)
    victim.kill_at(point)
    told = victim.next_run()
    seen = victim.assert_recovered(victim.good, before.runs + 1)
    if seen.running == before.running:
        assert told["reasons"][0]["name"] == "suspect", told
        victim.allow(target)


# Between the two nobody has written down yet why the system is rolled back from.
_UNTOLD = ("after move:pending>rolling-back", "before record:rolling-back")


_DECISIVE = ("record:rolling-back", "activate:switch", "disarm")
"""From a roll-back that was killed before one of these recovery has another way to go each time."""


@pytest.mark.parametrize("point", points(killer.ROLL_BACK, _DECISIVE))
def test_a_roll_back_killed_at_a_point_is_recovered_from(victim, point):
    before = victim.look()
    victim.offer_broken()
    victim.kill_at(point)
    told = victim.next_run()
    seen = victim.assert_recovered(victim.good, before.runs + 1)
    assert seen.running == before.running
    assert told["reasons"][0]["name"] == ("suspect" if point in _UNTOLD else "denied"), told
    victim.allow(victim.broken)


# --- at every step


def steps_of_an_upgrade(victim):
    victim.host.inject("steps")
    victim.upgrade(*WATCHED.split())
    victim.await_quiet()
    seen = victim.host.read(str(killer.STEPS)).splitlines()
    victim.host.repair("steps")
    return [tuple(s for s in seen if s.startswith(command)) for command in ("upgrade", "confirm")]


@pytest.mark.long
def test_the_steps_of_an_upgrade_are_those_at_which_it_is_killed(victim):
    victim.offer_next()
    upgrade, confirm = steps_of_an_upgrade(victim)
    assert upgrade + confirm == killer.UPGRADE_STEPS


@pytest.mark.long
def test_the_steps_of_a_roll_back_are_those_at_which_it_is_killed(victim):
    victim.offer_broken()
    _, confirm = steps_of_an_upgrade(victim)
    assert confirm == killer.ROLL_BACK_STEPS
    victim.allow(victim.broken)


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
@pytest.mark.parametrize("step", within(killer.UPGRADE_STEPS))
def test_an_upgrade_killed_at_a_step_is_recovered_from(victim, step):
    end_round_after_a_kill(victim, step, is_broken=False)


@pytest.mark.long
@pytest.mark.parametrize("step", within(killer.ROLL_BACK_STEPS))
def test_a_roll_back_killed_at_a_step_is_recovered_from(victim, step):
    end_round_after_a_kill(victim, step, is_broken=True)


@pytest.mark.long
@pytest.mark.parametrize("effect", killer.UPGRADE)
def test_an_upgrade_that_loses_power_is_recovered_from(victim, effect):
    end_round_after_a_kill(victim, f"cut before {effect}", is_broken=False)


@pytest.mark.long
@pytest.mark.parametrize("effect", killer.ROLL_BACK)
def test_a_roll_back_that_loses_power_is_recovered_from(victim, effect):
    end_round_after_a_kill(victim, f"cut before {effect}", is_broken=True)


def end_round_after_a_kill(victim, point, *, is_broken):
    before = victim.look()
    target = victim.offer_broken() if is_broken else victim.offer_next(before.running)
    victim.strike(point)
    assert_next_run_recovers(victim, target, before, is_broken=is_broken)


def assert_next_run_recovers(victim, target, before, *, is_broken):
    killed = victim.look()
    victim.next_run()
    seen = victim.assert_recovered(victim.good, max(killed.runs, before.runs + 1))
    assert seen.running == before.running or not is_broken
    if seen.running != target.toplevel:
        victim.allow(target)


# --- at random moments


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=pytest.mark.long if number >= _MOMENTS else ())
        for number in range(_MOMENTS + _MANY_MOMENTS)
    ],
)
def test_what_was_killed_at_a_random_moment_is_recovered_from(victim, number):
    seed = os.environ.get("MOMENT_SEED") or os.urandom(4).hex()
    print(f"again: MOMENT_SEED={seed}, moment {number}")  # noqa: T201 - shown if it fails
    chance = random.Random(f"{seed} {number}")
    is_broken = chance.random() < 0.4
    who = chance.choices((UPGRADE, CONFIRM, "the host"), (6, 3, 1))[0]
    moment = chance.random()
    before = victim.look()
    target = victim.offer_broken() if is_broken else victim.offer_next(before.running)

    victim.begin()
    if who == CONFIRM:
        victim.await_confirmation()
        moment /= 2
    time.sleep(moment * _LONGEST[is_broken])
    print(f"{who} after {moment * _LONGEST[is_broken]:.3f} s of {target}")  # noqa: T201
    kill(victim, who)
    assert_next_run_recovers(victim, target, before, is_broken=is_broken)


def kill(victim, who):
    """Kill the main process of a unit, if it is there; or take the host's power away."""
    if who in (UPGRADE, CONFIRM):
        victim.host.run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", who)
    else:
        victim.host.cut_power()
        victim.host.power_on()


# --- what the agent remembers

_STATE = JOURNAL.rpartition("/")[0]
_FAULTS = {
    "truncated": f"truncate --size=5000 {JOURNAL}; rm -f {JOURNAL}-*",
    "garbage": f"head -c 20000 /dev/urandom > {JOURNAL}; rm -f {JOURNAL}-*",
    "empty": f": > {JOURNAL}; rm -f {JOURNAL}-*",
    "gone": f"rm {JOURNAL}*",
}


def leave_half_done(victim):
    """Leave the profile and the boot loader with a system that is not activated."""
    target = victim.offer_next()
    victim.host.inject("kill-self")
    victim.kill_at("after rebuild:switch")
    victim.host.repair("kill-self")
    left = victim.look()
    assert left.profile == left.boot_default == target.toplevel != left.running
    return target


@pytest.mark.parametrize("fault", _FAULTS)
def test_without_its_history_a_run_goes_by_the_marks(victim, fault):
    target = leave_half_done(victim)
    victim.host.ok("sh", "-c", _FAULTS[fault])

    told = victim.next_run()

    victim.assert_recovered([s for s in victim.good if s is not target], 1)
    if fault == "truncated":  # there may have been a pause, which is a person's to lift
        assert told["reasons"][0]["name"] == "paused", told
        victim.host.ok("agent", "resume")
        told = victim.next_run()
    assert told["reasons"][0]["name"] == "suspect", told
    victim.allow(target)


def test_without_the_marks_a_run_goes_by_its_history(victim):
    before = victim.look()
    target = leave_half_done(victim)
    victim.host.ok("rm", "-r", MARKS)

    told = victim.next_run()

    victim.assert_recovered([s for s in victim.good if s is not target], before.runs + 1)
    assert told["reasons"][0]["name"] == "suspect", told
    victim.allow(target)


def test_without_marks_and_history_a_run_holds_until_a_person_has_looked(victim):
    target = leave_half_done(victim)
    left = victim.look()
    victim.host.ok("sh", "-c", f"rm -r {MARKS} {JOURNAL}* {_STATE}/upgrades.json")

    told = victim.next_run()

    assert (told["exit_code"], told["reasons"][0]["name"]) == (75, "foreign-system"), told
    assert victim.look().running == left.running
    victim.host.ok("agent", "rollback", "--reason", "half done")
    victim.assert_recovered([s for s in victim.good if s is not target], 1)
    victim.allow(target)


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


@pytest.mark.parametrize("fault", _UNWRITABLE)
def test_a_run_that_can_remember_nothing_says_so_and_leaves_the_history_to_the_next(victim, fault):
    breaks, mends, kind = _UNWRITABLE[fault]
    target = leave_half_done(victim)
    left = victim.look()
    victim.host.ok("sh", "-euc", breaks)

    failed = victim.next_run()

    victim.host.ok("sh", "-euc", mends)
    assert (failed["exit_code"], failed["error.kind"]) == (1, kind), failed
    if fault == "full":  # the host goes back all the same, and the history has it later
        assert not {"pending", "rolling-back"} & set(victim.look().marks)
    else:
        assert victim.look() == left
    told = victim.next_run()
    victim.assert_recovered([s for s in victim.good if s is not target], left.runs)
    assert told["reasons"][0]["name"] == "suspect", told
    victim.allow(target)
