from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nspawn.agent_layer import agent_layer
from nspawn.builder import Builder, System
from nspawn.namespaces import Namespaces, NoNamespacesError
from nspawn.real_host import HOSTS, RealHost
from nspawn.systems import CONFIRM, system
from nspawn.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 40_000


@dataclass(frozen=True)
class Site:
    """Where a session's hosts stand and are built."""

    namespaces: Namespaces
    builder: Builder
    agent: str

    def build(self, parameters: Mapping[str, object]) -> System:
        """Build a system and publish it; the hosts do not have it until they fetch it."""
        return self.builder.build(parameters)


@pytest.fixture(scope="session")
def site():
    try:
        namespaces = Namespaces()
    except NoNamespacesError as reason:
        told = f"no real host can be booted here: {reason}"
        if os.environ.get("CI"):
            pytest.fail(told, pytrace=False)
        pytest.skip(told)
    try:
        agent = agent_layer(namespaces)
        builder = Builder(namespaces, agent)
        try:
            yield Site(namespaces, builder, agent)
        finally:
            builder.close()
    finally:
        namespaces.close()


@pytest.fixture
def upstream(site: Site):
    """Hydra, which has built nothing yet, and the cache, which has all that was ever built."""
    upstream = Upstream(site.namespaces, site.builder.cache)
    yield upstream
    upstream.close()


@pytest.fixture
def new_host(site: Site, request: pytest.FixtureRequest):
    """Give a function that installs a host with a system; it is switched off, and has the name given
    or one of its own."""
    hosts = request.node.stash[HOSTS] = []
    numbers = itertools.count(2)

    def install(first: System, **options) -> RealHost:
        number = next(numbers)
        options = {"name": f"host{number}", "address": f"10.77.0.{number}", **options}
        host = RealHost(site.namespaces, site.builder, site.agent, first.toplevel, **options)
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
def real_host(new_host, upstream: Upstream, first: System) -> RealHost:  # noqa: ARG001 - it is there
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
