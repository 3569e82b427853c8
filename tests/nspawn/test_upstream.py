"""The world outside of a host: each part of it can be taken away by itself."""

from __future__ import annotations

import pytest

from nspawn.systems import CUTS_THE_ROUTE, PULLS_THE_CABLE, system

_ASKS = """
import urllib.error, urllib.request
for name in ("hydra", "cache"):
    try:
        with urllib.request.urlopen(f"http://{name}.test/nix-cache-info", timeout=1) as answer:
            print(name)
    except urllib.error.HTTPError:
        print(name)
    except OSError:
        pass
"""

# The stage itself: each time it is seen by those who play on it.
pytestmark = pytest.mark.long


@pytest.fixture
def host(site, new_host, upstream):  # noqa: ARG001
    host = new_host(site.build(system("26.05.1", agent=False)))
    host.power_on()
    return host


def reached(host):
    """Return what the host reaches of the world."""
    found = set(host.ok("python3", "-c", _ASKS).split())
    for name in ("gateway", "canary"):
        if host.run("ping", "-c1", "-W1", f"{name}.test").rc == 0:
            found.add(name)
    return found


ALL = {"hydra", "cache", "gateway", "canary"}


def test_all_is_there_at_first(host):
    assert reached(host) == ALL


def test_hydra_can_be_down_alone(host, upstream):
    upstream.hydra.down()
    assert reached(host) == ALL - {"hydra"}
    upstream.hydra.up()
    assert reached(host) == ALL


def test_the_cache_can_be_down_alone(host, upstream):
    upstream.cache.down()
    assert reached(host) == ALL - {"cache"}
    upstream.cache.up()
    assert reached(host) == ALL


def test_hydra_can_vanish_so_that_nobody_answers(host, upstream):
    upstream.hydra.vanish()
    script = "import socket; socket.create_connection(('hydra.test', 80), 1)"
    assert "TimeoutError" in host.run("python3", "-c", script).stderr
    upstream.hydra.up()
    assert reached(host) == ALL


def test_the_gateway_can_be_silent_alone(host, upstream):
    upstream.gateway_answers(answers=False)
    assert reached(host) == {"hydra", "cache"}
    upstream.gateway_answers(answers=True)
    assert reached(host) == ALL


def test_the_whole_link_can_be_down(host, upstream):
    upstream.link(up=False)
    assert reached(host) == set()
    upstream.link(up=True)
    host.eventually(lambda: reached(host) == ALL, "all is there again")


@pytest.mark.parametrize(
    ("unit", "left"),
    [(CUTS_THE_ROUTE, {"gateway"}), (PULLS_THE_CABLE, set())],
    ids=["route", "cable"],
)
def test_a_system_can_cut_its_host_off(
    site,
    new_host,
    upstream,  # noqa: ARG001
    unit,
    left,
):
    cuts = system("26.05.1", agent=False, units={"cut.service": unit}, wants=["cut.service"])
    host = new_host(site.build(cuts))
    host.power_on()
    assert reached(host) == left
