from __future__ import annotations

import gc
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from agent.demo.layout import Layout, remove_tree
from built_systems import BuiltSystems
from fleet_checkout import FleetCheckout
from nix_on_host import NixOnHost

if TYPE_CHECKING:
    from agent.demo.host import ThrowawayHost


# A busy machine is no fault of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection():
    """Nothing is thrown away while tests are collected."""
    gc.disable()


def pytest_collection_finish():
    """What was loaded and collected stays to the end: to look through it each time takes a fifth."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def farm(tmp_path_factory):
    """Systems built by the real nix in a store of their own; made once, in under a second."""
    root = tmp_path_factory.mktemp("farm")
    yield BuiltSystems(root)
    remove_tree(root)


@pytest.fixture(scope="session")
def update_store(tmp_path_factory):
    """An empty store of nix's own, and a home; the flakes that are built in it are elsewhere."""
    layout = Layout(tmp_path_factory.mktemp("updates"))
    layout.make()
    layout.write_nix_conf((), ())
    yield layout
    remove_tree(layout.root)


@pytest.fixture(scope="session")
def kept_site(update_store, tmp_path_factory):
    """A fleet's checkout, remote and input, made once, and a copy to begin from again."""
    directory = tmp_path_factory.mktemp("fleet")
    made = FleetCheckout(update_store, directory / "site")
    shutil.copytree(directory / "site", directory / "kept", symlinks=True)
    return made


@pytest.fixture
def site(kept_site):
    """That site as it was in the beginning; what was built for other tests is in its store."""
    directory = kept_site.base.parent
    shutil.rmtree(directory)
    shutil.copytree(directory.with_name("kept"), directory, symlinks=True)
    return kept_site


@pytest.fixture
def fresh_site(update_store, tmp_path):
    """A site of which nothing has been built yet."""
    return FleetCheckout(update_store, tmp_path / "site")


@pytest.fixture
def throwaway_host(farm: BuiltSystems) -> ThrowawayHost:
    """A host that has just been installed with the farm's first system."""
    return farm.new_host()


@pytest.fixture
def nix_on_host(farm: BuiltSystems, throwaway_host: ThrowawayHost) -> NixOnHost:
    """Nix and nixos-rebuild on that host."""
    return NixOnHost(farm, throwaway_host)
