from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, time, timedelta

import pytest

from agent.application import events
from agent.application.facts.ask_gates import apply_override, ask_gates
from agent.application.facts.foreign import find_foreign
from agent.application.facts.stage_facts import take_health
from agent.application.run import RunSettings, begin
from agent.domain.check import IcmpCheck
from agent.domain.errors import HostError, JournalError, Kind, NixError
from agent.domain.facts import FreeSpace
from agent.domain.gate import Judgement, Stage
from agent.domain.gates import asked_at
from agent.domain.marks import Mark
from agent.domain.path_record import Denial
from agent.domain.pause import Pause
from agent.domain.window import Schedule, Window
from fakes.runs import an_arrival
from fakes.samples import JOB, OLD
from fakes.stepwise import system_with
from fakes.world import STORE, WATCHFUL, World, candidate_of, system

NEW = system(1)
GATES = [gate.name for gate in asked_at(Stage.CHOOSE) if gate.name != "host-upgrade"]
"""The gates that a host is asked before anything is fetched, in order."""


@pytest.fixture
def world():
    """A host, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def run_of(world, policy=WATCHFUL, **asked):
    return begin(world.ports, policy, RunSettings("run-1", STORE, **asked))


def ask(world, *, every=False, policy=WATCHFUL, candidate=None, **asked):
    found = candidate or candidate_of(world.hydra.builds[1])
    told = asyncio.run(ask_gates(run_of(world, policy, **asked), found, every=every))
    return [(judgement.gate, judgement.is_open) for judgement in told]


def has_taken(world, build_id):
    world.journal.record(an_arrival(build_id, system(9)))


def is_denied(world, path=NEW):
    world.journal.deny(Denial(path, "it broke sshd", world.clock.now(), "agent"))


def test_gates_are_asked_cheap_and_local_ones_first(world):
    assert ask(world) == [(gate, True) for gate in GATES]
    assert world.steps == [
        "systems", "systems", "highest-build", "free-space", "plan_fetch", "probe canary"
    ]  # fmt: skip


def test_every_answer_is_told(world):
    world.canary_dies()
    ask(world)
    told = [(event.name, said["gate"]) for event, said in world.told.said if "gate" in said]
    assert told == [
        *(("gate.passed", gate) for gate in GATES if gate != "health"),
        ("gate.held", "health"),
    ]
    assert world.told.fields_of(events.GATE_HELD)["reason"] == "canary: no reply"


def test_of_what_is_never_booted_no_gate_speaks(world):
    world.host.booted = None
    world.host.space = replace(world.host.space, boot=None)
    assert [gate for gate, _ in ask(world)] == [
        gate for gate in GATES if gate not in ("booted-unexpected", "boot-space")
    ]


@pytest.mark.parametrize("is_running", [True, False])
def test_a_home_waits_for_the_system_below_it(world, is_running):
    world.systemd.host_upgrades = is_running
    assert ("host-upgrade", not is_running) in ask(world)


def test_the_first_gate_that_holds_ends_the_questions(world):
    has_taken(world, 2)
    assert ask(world)[-1] == ("downgrade", False)
    assert "free-space" not in world.steps


def test_every_gate_is_asked_when_that_is_wanted(world):
    world.marks.set(Mark.CONFIRMED, OLD)
    world.host.contents[system(7)] = system_with("k1")
    world.host.profile = system(7)
    world.host.changed = world.host.booted_when = world.clock.now()
    world.journal.set_pause(Pause("audit", "eve", world.clock.now()))
    world.systemd.is_synchronised = False
    is_denied(world)
    failure = {"fault": "suspect", "finished_at": world.clock.now()}
    world.journal.record(an_arrival(1, NEW, "failed", **failure))
    has_taken(world, 2)
    world.host.space = FreeSpace(store=0, boot=0)
    world.canary_dies()
    closed = Window(frozenset(), time(4, 0), timedelta(hours=1), UTC)
    policy = replace(WATCHFUL, upgrade_schedule=Schedule((closed,)))
    assert ask(world, every=True, policy=policy) == [(gate, False) for gate in GATES]


def test_a_build_as_old_as_what_the_host_had_is_no_downgrade(world):
    has_taken(world, 1)
    assert ("downgrade", True) in ask(world)


def test_builds_of_another_job_do_not_count(world):
    has_taken(world, 2)
    other = replace(candidate_of(world.hydra.builds[1]), job=replace(JOB, name="other"))
    assert ("downgrade", True) in ask(world, candidate=other)


def test_a_fetch_that_would_fill_the_store_is_held(world):
    world.host.space = FreeSpace(store=(1 << 30) + (300 << 20) - 1, boot=None)
    assert ask(world)[-1] == ("store-space", False)
    world.host.space = FreeSpace(store=(1 << 30) + (300 << 20), boot=None)
    assert ask(world)[-1] == ("health", True)


FAULTS = [
    ("systems", HostError(Kind.HOST_UNREADABLE, "a loop"), "foreign-system"),
    ("highest-build", JournalError(Kind.STATE_UNUSABLE, "no history"), "downgrade"),
    ("free-space", HostError(Kind.HOST_UNREADABLE, "no such directory"), "boot-space"),
    ("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route"), "store-space"),
]


@pytest.mark.parametrize(("step", "fault", "gate"), FAULTS)
def test_a_gate_that_cannot_be_asked_ends_a_run(world, step, fault, gate):
    del gate
    world.steps.at(step, fault)
    with pytest.raises(type(fault), match=fault.message):
        ask(world)


@pytest.mark.parametrize(
    "kind", [Kind.PATH_NOT_CACHED, Kind.SIGNATURE_UNTRUSTED, Kind.FETCH_FAILED]
)
def test_a_gate_that_cannot_be_asked_for_the_candidates_own_fault_is_closed(world, kind):
    fault = NixError(kind, "not yet", hint="wait")
    world.steps.at("plan_fetch", fault)
    assert ask(world)[-1] == ("store-space", False)
    (said,) = [said for event, said in world.told.said if event is events.GATE_HELD]
    assert said == {"gate": "store-space", "reason": "not yet (wait)"}


@pytest.mark.parametrize(
    "kind", [Kind.CACHE_UNREACHABLE, Kind.NIX_MISSING, Kind.NIX_TIMEOUT, Kind.STORE_FULL]
)
def test_a_cache_or_a_host_in_trouble_says_nothing_of_the_candidate(world, kind):
    world.steps.at("plan_fetch", NixError(kind, "in trouble"))
    with pytest.raises(NixError, match="in trouble"):
        ask(world)


@pytest.mark.parametrize(("step", "fault", "gate"), FAULTS)
def test_a_gate_that_cannot_be_asked_is_closed_where_all_are_to_be_known(world, step, fault, gate):
    world.steps.at(step, fault)
    answers = dict(ask(world, every=True))
    assert list(answers) == GATES
    assert answers[gate] is False
    reasons = [said["reason"] for event, said in world.told.said if event is events.GATE_HELD]
    assert str(fault) in reasons


def test_what_is_held_against_a_path_cannot_be_known_without_the_history(world):
    world.journal.read_fault = JournalError(Kind.STATE_UNUSABLE, "no history")
    answers = dict(ask(world, every=True))
    assert (answers["denied"], answers["suspect"]) == (False, False)


@pytest.mark.parametrize("every", [False, True])
def test_a_bug_in_a_gate_is_no_answer(world, every):
    world.steps.at("plan_fetch", RuntimeError("a fault of the agent"))
    with pytest.raises(RuntimeError):
        ask(world, every=every)


def test_a_host_that_may_build_needs_no_cache(world):
    world.nix.cached.clear()
    world.nix.local_builds = True
    assert ("store-space", True) in ask(world, policy=replace(WATCHFUL, local_builds=True))


def test_a_host_that_may_build_still_needs_an_answer(world):
    world.steps.at("plan_fetch", NixError(Kind.CACHE_UNREACHABLE, "no route"))
    with pytest.raises(NixError, match="no route"):
        ask(world, policy=replace(WATCHFUL, local_builds=True))


def test_health_holds_while_a_required_check_fails(world):
    world.canary_dies()
    assert [result.is_blocking for result in asyncio.run(take_health(world.ports, WATCHFUL))] == [
        True
    ]


def test_health_does_not_hold_for_a_check_that_is_merely_wanted(world):
    world.canary_dies()
    (canary,) = WATCHFUL.checks
    assert isinstance(canary, IcmpCheck)
    lenient = replace(WATCHFUL, checks=(replace(canary, is_wanted=True),))
    assert not asyncio.run(take_health(world.ports, lenient))[0].is_blocking


# Someone else's system


@pytest.fixture
def settled(world):
    """A host whose system the agent has confirmed."""
    world.marks.set(Mark.CONFIRMED, OLD)
    return world


def test_before_the_agent_has_marked_anything_nothing_is_foreign(world):
    world.somebody_switches(system(7))
    assert find_foreign(world.ports) is None


def test_what_a_person_has_activated_is_foreign_since_then(settled):
    settled.clock.move(60)
    settled.somebody_switches(system(7))
    found = find_foreign(settled.ports)
    assert (found.what, found.path, found.since) == (
        "running system", system(7), settled.clock.now()
    )  # fmt: skip


def test_what_a_person_has_put_into_the_profile_is_foreign_too(settled):
    settled.host.profile = system(7)
    found = find_foreign(settled.ports)
    assert (found.what, found.path) == ("profile", system(7))


@pytest.mark.parametrize("mark", [Mark.PENDING, Mark.STAGED, Mark.TESTED, Mark.ROLLING_BACK])
def test_what_the_agent_has_marked_is_not_foreign(settled, mark):
    settled.marks.set(mark, NEW)
    settled.somebody_switches(NEW)
    assert find_foreign(settled.ports) is None


def test_a_specialisation_of_a_marked_system_is_not_foreign(settled):
    settled.host.specialise(OLD, "gaming", system(8), "k2")
    settled.host.running = system(8)
    assert find_foreign(settled.ports) is None


def test_a_link_that_is_missing_is_nobodys(settled):
    settled.host.running = settled.host.profile = None
    assert find_foreign(settled.ports) is None


def test_a_foreign_system_is_held_until_its_time_is_over(settled):
    settled.somebody_switches(system(7))
    settled.clock.move(WATCHFUL.foreign_hold.total_seconds() - 1)
    assert ask(settled)[-1] == ("foreign-system", False)
    settled.clock.move(1)
    assert ("foreign-system", True) in ask(settled)


def test_a_foreign_system_of_unknown_age_is_held(settled):
    settled.somebody_switches(system(7))
    settled.host.changed = None
    settled.clock.move(timedelta(days=365).total_seconds())
    assert ask(settled)[-1] == ("foreign-system", False)


# A person passes a gate


def test_a_gate_that_is_ignored_opens_and_that_is_told(world):
    world.canary_dies()
    asked = {"ignored_gates": frozenset({"health"}), "ignored_because": "fix", "by": "eve"}
    assert ask(world, **asked)[-1] == ("health", True)
    assert world.told.fields_of(events.GATE_IGNORED) == {
        "gate": "health", "reason": "canary: no reply", "given_reason": "fix", "by": "eve"
    }  # fmt: skip
    assert world.told.fields_of(events.GATE_PASSED) == {
        "gate": "health", "reason": "ignored by eve (fix): canary: no reply"
    }  # fmt: skip


def test_only_the_gate_that_was_named_is_ignored(world):
    world.canary_dies()
    has_taken(world, 2)
    ignored = frozenset({"downgrade"})
    told = ask(world, ignored_gates=ignored)
    assert told == [(gate, gate != "health") for gate in GATES]


def test_who_ignores_a_gate_is_not_who_decides_about_the_system(world):
    run = run_of(
        world,
        ignored_gates=frozenset({"health", "clock"}),
        ignored_because="fix",
        ignored_by="eve",
    )
    apply_override(run, Judgement("clock", is_open=False, reason="not synchronised"))
    apply_override(run, Judgement("health", is_open=False, reason="a: no reply"))
    told = apply_override(run, Judgement("health", is_open=False, reason="b: no reply"))
    assert told.reason == "ignored by eve (fix): b: no reply"
    assert run.settings.by == "agent"
    assert run.record.ignored_gates == (
        ("clock", "eve", "fix", "not synchronised"),
        ("health", "eve", "fix", "b: no reply"),
    )


def test_a_gate_that_is_open_anyhow_is_not_told_to_be_ignored(world):
    fine = Judgement("health", is_open=True, reason="1 checks well")
    run = run_of(world, ignored_gates=frozenset({"health"}))
    assert apply_override(run, fine) == fine
    assert run.record.ignored_gates == ()
    assert world.told.names() == []
