from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.application import events
from agent.application.gatekeeper import ask_gates, ask_health
from agent.application.ports import RunRecord
from agent.domain.check import IcmpCheck
from agent.domain.errors import HostError, JournalError, Kind, NixError
from agent.domain.gates import FreeSpace, Gate
from fakes.samples import JOB
from fakes.world import WATCHFUL, World, candidate_of, system

NEW = system(1)
OPEN = [(Gate.DOWNGRADE, True), (Gate.BOOT_SPACE, True), (Gate.STORE_SPACE, True)]


@pytest.fixture
def world():
    """A host, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def ask(world, *, every=False, policy=WATCHFUL, candidate=None):
    found = candidate or candidate_of(world.hydra.builds[1])
    told = asyncio.run(ask_gates(world.ports, policy, found, every=every))
    return [(judgement.gate, judgement.is_open) for judgement in told]


def has_taken(world, build_id):
    now = world.clock.now()
    row = RunRecord(
        "earlier", now, "h", JOB.key, "activated", build_id=build_id, toplevel=system(9)
    )
    world.journal.record(row)


def test_gates_are_asked_cheap_and_local_ones_first(world):
    assert ask(world) == [*OPEN, (Gate.HEALTH, True)]
    assert world.steps == [
        "highest-build", "free-space", "plan_fetch", "free-space", "probe canary"
    ]  # fmt: skip


def test_the_gates_are_asked_in_the_order_in_which_they_are_declared(world):
    assert [gate for gate, _ in ask(world)] == list(Gate)


def test_every_answer_is_told(world):
    world.canary_dies()
    ask(world)
    told = [(event.name, said["gate"]) for event, said in world.told.said if "gate" in said]
    assert told == [
        ("gate.passed", "downgrade"), ("gate.passed", "boot-space"),
        ("gate.passed", "store-space"), ("gate.held", "health"),
    ]  # fmt: skip
    assert world.told.fields_of(events.GATE_HELD)["reason"] == "canary: no reply"


def test_the_first_gate_that_holds_ends_the_questions(world):
    has_taken(world, 2)
    assert ask(world) == [(Gate.DOWNGRADE, False)]
    assert "free-space" not in world.steps


def test_every_gate_is_asked_when_that_is_wanted(world):
    has_taken(world, 2)
    world.host.space = FreeSpace(store=0, boot=0)
    world.canary_dies()
    assert ask(world, every=True) == [(gate, False) for gate in Gate]


def test_a_build_as_old_as_what_the_host_had_is_no_downgrade(world):
    has_taken(world, 1)
    assert ask(world)[0] == (Gate.DOWNGRADE, True)


def test_builds_of_another_job_do_not_count(world):
    has_taken(world, 2)
    other = replace(candidate_of(world.hydra.builds[1]), job=replace(JOB, name="other"))
    assert ask(world, candidate=other)[0] == (Gate.DOWNGRADE, True)


def test_a_fetch_that_would_fill_the_store_is_held(world):
    world.host.space = FreeSpace(store=(1 << 30) + (300 << 20) - 1, boot=None)
    assert ask(world)[-1] == (Gate.STORE_SPACE, False)
    world.host.space = FreeSpace(store=(1 << 30) + (300 << 20), boot=None)
    assert ask(world)[-1] == (Gate.HEALTH, True)


FAULTS = [
    ("highest-build", JournalError(Kind.STATE_UNUSABLE, "no history"), Gate.DOWNGRADE),
    ("free-space", HostError(Kind.HOST_UNREADABLE, "no such directory"), Gate.BOOT_SPACE),
    ("plan_fetch", NixError(Kind.PATH_NOT_CACHED, "not yet"), Gate.STORE_SPACE),
]


@pytest.mark.parametrize(("step", "fault", "gate"), FAULTS)
def test_a_gate_that_cannot_be_asked_ends_a_run(world, step, fault, gate):
    del gate
    world.steps.at(step, fault)
    with pytest.raises(type(fault), match=fault.message):
        ask(world)


@pytest.mark.parametrize(("step", "fault", "gate"), FAULTS)
def test_a_gate_that_cannot_be_asked_is_closed_where_all_are_to_be_known(world, step, fault, gate):
    world.steps.at(step, fault)
    answers = dict(ask(world, every=True))
    assert list(answers) == list(Gate)
    assert answers[gate] is False
    reasons = [said["reason"] for event, said in world.told.said if event is events.GATE_HELD]
    assert str(fault) in reasons


@pytest.mark.parametrize("every", [False, True])
def test_a_bug_in_a_gate_is_no_answer(world, every):
    world.steps.at("plan_fetch", RuntimeError("a fault of the agent"))
    with pytest.raises(RuntimeError):
        ask(world, every=every)


def test_a_host_that_may_build_needs_no_cache(world):
    world.nix.cached.clear()
    world.nix.local_builds = True
    assert (Gate.STORE_SPACE, True) in ask(world, policy=replace(WATCHFUL, local_builds=True))


def test_a_host_that_may_build_still_needs_an_answer(world):
    world.steps.at("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route"))
    with pytest.raises(NixError, match="no route"):
        ask(world, policy=replace(WATCHFUL, local_builds=True))


def test_health_holds_while_a_required_check_fails(world):
    world.canary_dies()
    told = asyncio.run(ask_health(world.ports, WATCHFUL))
    assert (told.gate, told.is_open, told.reason) == (Gate.HEALTH, False, "canary: no reply")


def test_health_does_not_hold_for_a_check_that_is_merely_wanted(world):
    world.canary_dies()
    (canary,) = WATCHFUL.checks
    assert isinstance(canary, IcmpCheck)
    lenient = replace(WATCHFUL, checks=(replace(canary, is_wanted=True),))
    assert asyncio.run(ask_health(world.ports, lenient)).is_open
