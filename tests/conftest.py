from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.demo.layout import Layout, remove_tree
from farm import PreparedFarm
from nix_on_host import NixOnHost

if TYPE_CHECKING:
    from agent.demo.host import ThrowawayHost


@pytest.fixture(scope="session")
def farm(tmp_path_factory):
    """Systems built by the real nix in a store of their own; made once, in under a second."""
    root = tmp_path_factory.mktemp("farm")
    yield PreparedFarm(root)
    remove_tree(root)


@pytest.fixture(scope="session")
def update_store(tmp_path_factory):
    """An empty store of nix's own, and a home; the flakes that are built in it are elsewhere."""
    layout = Layout(tmp_path_factory.mktemp("updates"))
    layout.make()
    layout.write_nix_conf((), ())
    yield layout
    remove_tree(layout.root)


@pytest.fixture
def throwaway_host(farm: PreparedFarm) -> ThrowawayHost:
    """A host that has just been installed with the farm's first system."""
    return farm.new_host()


@pytest.fixture
def nix_on_host(farm: PreparedFarm, throwaway_host: ThrowawayHost) -> NixOnHost:
    """Nix and nixos-rebuild on that host."""
    return NixOnHost(farm, throwaway_host)
