"""Killed at every point of an upgrade and at random moments, the next run ends in order."""

from __future__ import annotations

import pytest

from host.real_host import HOSTS
from host.victim import WATCHED, Victims
from killing import killer


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


def effects_of_an_upgrade(victim):
    victim.host.inject("effects")
    victim.upgrade(*WATCHED.split())
    victim.await_quiet()
    seen = victim.host.read(str(killer.TRACE)).splitlines()
    victim.host.mend("effects")
    return tuple(seen)


def test_the_effects_of_an_upgrade_are_those_at_which_it_is_killed(victim):
    victim.offer_next()
    assert effects_of_an_upgrade(victim) == killer.UPGRADE


def test_the_effects_of_a_roll_back_are_those_at_which_it_is_killed(victim):
    victim.offer_broken()
    told = effects_of_an_upgrade(victim)
    assert told[told.index("record:pending") + 1 :] == killer.ROLL_BACK
    victim.allow(victim.broken)


@pytest.mark.parametrize("point", killer.points(killer.UPGRADE))
def test_an_upgrade_killed_at_a_point_is_recovered_from(victim, point):
    before = victim.look()
    target = victim.offer_next()
    victim.kill_at(point)
    told = victim.next_run()
    seen = victim.assert_recovered(victim.good, before.runs + 1)
    if seen.running == before.running:
        assert told["reasons"][0]["name"] == "suspect", told
        victim.allow(target)


@pytest.mark.parametrize("point", killer.points(killer.ROLL_BACK))
def test_a_roll_back_killed_at_a_point_is_recovered_from(victim, point):
    before = victim.look()
    victim.offer_broken()
    victim.kill_at(point)
    told = victim.next_run()
    seen = victim.assert_recovered(victim.good, before.runs + 1)
    assert seen.running == before.running
    assert told["reasons"][0]["name"] == "denied", told
    victim.allow(victim.broken)
