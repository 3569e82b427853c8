from __future__ import annotations

import pytest

from agent.demo.hydra import EmbeddedHydra
from end_to_end.machine import Machine
from end_to_end.update_desk import UpdateDesk
from end_to_end.warm import WarmAgent


@pytest.fixture(scope="session")
def warm_agent():
    """What runs the agent in processes that need not load it first."""
    with WarmAgent() as agent:
        yield agent


@pytest.fixture
def desk(site, monkeypatch, capsys):
    """The command `agent flake-update` on a fleet's checkout."""
    return UpdateDesk(site, monkeypatch, capsys)


@pytest.fixture
def machine(farm, warm_agent):
    """A machine that has just been installed with the farm's first system, and an empty Hydra."""
    with EmbeddedHydra() as hydra:
        yield Machine(farm, hydra, warm_agent)


@pytest.fixture
def offered(machine):
    """The same, and Hydra has built its system and a newer one: builds 1 and 2."""
    machine.offer(machine.farm.first)
    machine.offer(machine.farm.second)
    return machine
