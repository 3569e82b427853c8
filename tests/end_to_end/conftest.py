from __future__ import annotations

import pytest

from agent.demo.hydra import EmbeddedHydra
from end_to_end.flake_update_command import FlakeUpdateCommand
from end_to_end.machine import Machine
from end_to_end.preloaded_agent import PreloadedAgent


@pytest.fixture(scope="session")
def preloaded_agent():
    """What runs the agent in processes that need not load it first."""
    with PreloadedAgent() as agent:
        yield agent


@pytest.fixture
def desk(site, monkeypatch, capsys):
    """The command `agent flake-update` on a fleet's checkout."""
    return FlakeUpdateCommand(site, monkeypatch, capsys)


@pytest.fixture
def machine(farm, preloaded_agent):
    """A machine that has just been installed with the farm's first system, and an empty Hydra."""
    with EmbeddedHydra() as hydra:
        yield Machine(farm, hydra, preloaded_agent)


@pytest.fixture
def offered(machine):
    """The same, and Hydra has built its system and a newer one: builds 1 and 2."""
    machine.offer(machine.farm.first)
    machine.offer(machine.farm.second)
    return machine
