"""The registry of gates: a file is all that a gate needs."""

from __future__ import annotations

import asyncio
import runpy
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from agent.application import events
from agent.application.facts.ask_gates import ask_again, ask_gates
from agent.application.run import RunSettings, begin
from agent.application.status import take_status
from agent.cli.main import agent
from agent.domain import gates
from agent.domain.gate import Stage
from agent.domain.gates import asked_at, ignorable, registered
from agent.domain.marks import Mark
from fakes.samples import OLD
from fakes.world import STORE, WATCHFUL, World, candidate_of, system

NEW = system(1)
FULL_MOON = '''
"""Holds at full moon."""

from datetime import UTC, datetime
from pathlib import Path

from agent.domain.gate import ALWAYS, Gate, Held, no_facts

GATE = Gate(
    name="full-moon",
    order=15,
    stages=ALWAYS,
    holds_when="the moon is full",
    facts=no_facts,
    judge=lambda question, known: Held("the moon is full", datetime(2026, 11, 25, tzinfo=UTC)),
)
'''


@pytest.fixture
def add_gate(tmp_path, monkeypatch):
    """Add gates by their files, for one test."""
    monkeypatch.setattr(gates, "__path__", [*gates.__path__, str(tmp_path)])

    def add(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"{gates.__name__}.{name}", raising=False)
        registered.cache_clear()

    yield add
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"{gates.__name__}.{path.stem}", None)
        gates.__dict__.pop(path.stem, None)
    registered.cache_clear()


@pytest.fixture
def world(add_gate):
    """A confirmed host with a good build of NEW, and a gate that is but a file."""
    add_gate("full_moon", FULL_MOON)
    world = World()
    world.publish(1, NEW)
    world.marks.links = {Mark.CONFIRMED: OLD}
    return world


def page():
    """Return the page of the reference, as `make docs` makes it."""
    made = Path(__file__).parents[2] / "docs" / "gates_page.py"
    return runpy.run_path(str(made))["gates_page"]()


def run_of(world, **asked):
    return begin(world.ports, WATCHFUL, RunSettings("run-1", STORE, **asked))


def test_a_file_is_asked_at_each_of_its_stages(world):
    candidate = candidate_of(world.hydra.builds[1])
    held = asyncio.run(ask_gates(run_of(world), candidate, every=False))[-1]
    assert (held.gate, held.is_open, held.reason) == ("full-moon", False, "the moon is full")
    for stage in (Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT):
        held = asyncio.run(ask_again(run_of(world), stage, NEW, candidate))
        assert (held.gate, held.is_open) == ("full-moon", False)


def test_a_file_that_knows_when_it_opens_has_the_next_run_begin_then(world):
    report = world.run()
    assert report.reasons == (("full-moon", "the moon is full"),)
    assert world.systemd.woken_at == datetime(2026, 11, 25, tzinfo=UTC)
    assert world.told.names().count(events.RUN_SCHEDULED.name) == 1


def test_a_file_is_in_the_status_in_the_documentation_and_can_be_passed(world):
    status = asyncio.run(take_status(world.ports, WATCHFUL, RunSettings("status", STORE)))
    assert {"gate": "full-moon", "open": False, "reason": "the moon is full"} in status.fields()[
        "gates"
    ]
    stages = "choose, before-activation, before-reboot"
    assert f"\n| `full-moon` | {stages} | the moon is full |" in page()
    assert "full-moon" in ignorable()
    candidate = candidate_of(world.hydra.builds[1])
    passed = run_of(world, ignored_gates=frozenset({"full-moon"}))
    assert all(one.is_open for one in asyncio.run(ask_gates(passed, candidate, every=False)))


def test_a_file_is_completed_after_ignore_gate(world):
    del world
    completion = ShellComplete(agent, {}, "agent", "_AGENT_COMPLETE")
    found = completion.get_completions(["upgrade", "--ignore-gate"], "f")
    assert [item.value for item in found] == ["foreign-system", "full-moon"]


def test_a_denial_is_not_completed():
    completion = ShellComplete(agent, {}, "agent", "_AGENT_COMPLETE")
    found = completion.get_completions(["upgrade", "--ignore-gate"], "d")
    assert [item.value for item in found] == ["downgrade"]


@pytest.mark.parametrize(
    ("was", "becomes", "what"),
    [("order=15", "order=10", "order"), ('name="full-moon"', 'name="paused"', "name")],
)
def test_two_gates_have_neither_one_name_nor_one_place(add_gate, was, becomes, what):
    add_gate("full_moon", FULL_MOON.replace(was, becomes))
    with pytest.raises(ValueError, match=f"two gates have the same {what}"):
        registered()


def test_gates_are_in_the_order_that_they_state():
    """Cheap and local ones first, the clock before the windows that rely on it."""
    assert list(registered()) == [
        *("paused", "host-upgrade", "booted-unexpected", "foreign-system", "denied", "suspect"),
        *("downgrade", "clock", "upgrade-window", "reboot-window", "inhibited", "users"),
        *("boot-space", "store-space", "health", "agent-removed", "specialisation-lost"),
    ]


def test_every_gate_is_asked_somewhere():
    assert {gate.name for stage in Stage for gate in asked_at(stage)} == set(registered())
