"""An upgrade to another version of the agent, and back: killed in between, each ends the other's."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from typing_extensions import override

from nspawn.crashing_host import SETTINGS, WATCHED, CrashingHost
from nspawn.real_host import HOSTS
from nspawn.systems import CONFIRM, UPGRADE, confirm_unit, system, upgrade_unit

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "agent-0.1.0" / "agent-693bb00.tar.xz"
_OLDER = "/opt/older"
_RUN_OLDER = f"""\
import sys
sys.path.insert(0, "{_OLDER}")
from agent.__main__ import main
sys.argv[0] = "{_OLDER}/bin/agent"
main()
"""
_KILL_OLDER = f"""\
import sys
sys.path[:0] = ["{_OLDER}", "{_OLDER}/tests/killing"]
import killer
killer._AGENT = "{_OLDER}/bin/agent"
killer.main()
"""
_PYTHON = "/opt/agent/bin/python -I"
AGENTS = {
    "older": (f"{_OLDER}/bin/agent", f"{_PYTHON} {_OLDER}/kill.py"),
    "this": ("agent", WATCHED),
}
"""Each version, and how it is killed."""
POINTS = (
    "after record:armed",
    "after rebuild:switch",
    "before move:pending>confirmed",
    "after move:pending>confirmed",
)
BROKEN_POINTS = ("after record:rolling-back", "after activate:switch")


def ways(quick):
    """Return both ways, of which the long tests alone take the other one."""
    both = (("older", "this"), ("this", "older"))
    return pytest.mark.parametrize(
        "way",
        [
            pytest.param(way, id=" then ".join(way), marks=() if way == quick else pytest.mark.long)
            for way in both
        ],
    )


class OfTwoVersions(CrashingHost):
    """A host whose systems bring either version of the agent."""

    @override
    def release(self, site, version, **parameters):
        name = "older" if version == "26.05.1" or parameters.pop("is_older", False) else "this"
        _, watched = AGENTS[name]
        units = {UPGRADE: upgrade_unit(watched), CONFIRM: confirm_unit(watched, restart_after="1s")}
        return site.build(system(version, settings=SETTINGS, agent_units=units, **parameters))

    @override
    def _begin(self, site, *rest):
        self.broken_older = self.release(site, "26.05.4", health="broken", is_older=True)
        super()._begin(site, *rest)

    @override
    def install(self):
        super().install()
        with tarfile.open(ARCHIVE) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    self.host.write(f"{_OLDER}/{member.name}", file.read().decode())
        self.host.write(f"{_OLDER}/run.py", _RUN_OLDER)
        self.host.write(f"{_OLDER}/kill.py", _KILL_OLDER)
        start = f'#!/bin/sh\nexec {_PYTHON} {_OLDER}/run.py "$@"\n'
        self.host.write(f"{_OLDER}/bin/agent", start, mode=0o755)

    @property
    @override
    def offered(self):
        return [*super().offered, self.broken_older]

    @property
    def version(self):
        """Whose agent the running system brings."""
        olders = (self.good[0].toplevel, self.broken_older.toplevel)
        return "older" if self.look().running in olders else "this"

    @override
    def agent(self, *arguments):
        return self.host.run(AGENTS[self.version][0], *arguments)

    def be_on(self, version):
        """Let the host run the good system with a version."""
        if self.version != version:
            self.offer_next()
            self.next_run()
        self.assert_recovered(self.good, 0)
        assert self.version == version

    def kill(self, point, target):
        """Begin an upgrade to `target` that one of the two agents does not survive."""
        self.upstream.offer(target)
        self.host.inject("kill", point)
        _, watched = AGENTS[self.version]
        done = self.upgrade(*watched.split())
        assert not self.host.exists("/inject/kill"), f"nothing got to {point!r}: {done}"


@pytest.fixture(scope="module")
def of_two_versions(site):
    crashing_host = OfTwoVersions(site, "turns")
    yield crashing_host
    crashing_host.close()


@pytest.fixture
def crashing_host(of_two_versions, request):
    request.node.stash[HOSTS] = [of_two_versions.host]
    return of_two_versions


def some(points, *quick):
    return [
        pytest.param(point, marks=() if point in quick else pytest.mark.long) for point in points
    ]


@pytest.mark.parametrize("point", some(POINTS, "after rebuild:switch"))
@ways(("older", "this"))
def test_what_one_version_has_begun_the_other_ends(crashing_host, way, point):
    first, then = way
    crashing_host.be_on(first)
    target = crashing_host.good[then == "this"]
    before = crashing_host.look()
    crashing_host.kill(point, target)
    crashing_host.next_run()
    seen = crashing_host.assert_recovered(crashing_host.good, before.runs + 1)
    if seen.running != target.toplevel:
        crashing_host.allow(target)


@pytest.mark.parametrize("point", some(BROKEN_POINTS, "after record:rolling-back"))
@ways(("this", "older"))
def test_what_one_version_has_begun_to_roll_back_from_the_other_does(crashing_host, way, point):
    first, then = way
    crashing_host.be_on(first)
    target = crashing_host.broken if then == "this" else crashing_host.broken_older
    before = crashing_host.look()
    crashing_host.kill(point, target)
    crashing_host.next_run()
    seen = crashing_host.assert_recovered(crashing_host.good, before.runs + 1)
    assert seen.running == before.running
    crashing_host.allow(target)
