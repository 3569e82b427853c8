from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from host.agent_layer import agent_layer
from host.outside import Outside
from host.rack import NoRackError, Rack
from host.real_host import HOSTS, RealHost
from host.systems import CONFIRM, system
from host.workshop import System, Workshop

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 40_000


@dataclass(frozen=True)
class Site:
    """Where a session's hosts stand and are built."""

    rack: Rack
    workshop: Workshop
    agent: str

    def build(self, parameters: Mapping[str, object]) -> System:
        """Build a system and publish it; the hosts do not have it until they fetch it."""
        return self.workshop.build(parameters)


@pytest.fixture(scope="session")
def site():
    try:
        rack = Rack()
    except NoRackError as reason:
        told = f"no real host can be booted here: {reason}"
        if os.environ.get("CI"):
            pytest.fail(told, pytrace=False)
        pytest.skip(told)
    try:
        agent = agent_layer(rack)
        workshop = Workshop(rack, agent)
        try:
            yield Site(rack, workshop, agent)
        finally:
            workshop.close()
    finally:
        rack.close()


@pytest.fixture
def outside(site: Site):
    """Hydra, which has built nothing yet, and the cache, which has all that was ever built."""
    outside = Outside(site.rack, site.workshop.cache)
    yield outside
    outside.close()


@pytest.fixture
def new_host(site: Site, request: pytest.FixtureRequest):
    """Give a function that installs a host with a system; it is switched off, and has the name given
    or one of its own."""
    hosts = request.node.stash[HOSTS] = []
    numbers = itertools.count(2)

    def install(first: System, **options) -> RealHost:
        number = next(numbers)
        options = {"name": f"host{number}", "address": f"10.77.0.{number}", **options}
        host = RealHost(site.rack, site.workshop, site.agent, first.toplevel, **options)
        hosts.append(host)
        return host

    yield install
    for host in hosts:
        host.close()


@pytest.fixture
def first(site: Site) -> System:
    """The system with which `real_host` begins."""
    return site.build(system("26.05.1"))


@pytest.fixture
def real_host(new_host, outside: Outside, first: System) -> RealHost:  # noqa: ARG001 - it is there
    """A host that was installed with the first system, and is up."""
    host: RealHost = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    return host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what the hosts of a failed test have to say."""
    report = yield
    if report.failed and call.when != "teardown":
        for host in item.stash.get(HOSTS, []):
            report.sections.append((f"console of {host.name}", host.console()))
            report.sections.append((f"journal of {host.name}", _journal(host)))
    return report


def _journal(host: RealHost) -> str:
    try:
        return host.journal()[-_LONGEST:]
    except (OSError, RuntimeError) as fault:
        return f"(it cannot be had: {fault})"
