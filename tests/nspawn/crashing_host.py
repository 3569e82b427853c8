"""A host on which the agent is killed, again and again, and what it must be after the next run."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.domain.outcome import UNDER_WAY
from agent.domain.unit_names import ACTIVATION_UNIT, CONFIRM_UNIT, DEAD_MAN_UNIT
from crash import crash_point
from end_to_end import preloaded_agent
from nspawn.agent_layer import AGENT
from nspawn.real_host import PROFILE, Completed, RealHost
from nspawn.systems import CONFIRM, UPGRADE, confirm_unit, system, upgrade_unit
from nspawn.upstream import Upstream

if TYPE_CHECKING:
    from nspawn.builder import System

_CRASH_POINT = "/usr/local/lib/crash_point.py"
_PRELOADED_AGENT = "/usr/local/lib/preloaded_agent.py"
_TIMEOUT = 60.0
WATCHED = f"/opt/agent/bin/python -I {_CRASH_POINT}"
"""What stands for the agent in the units: it dies at the point that the host's file names."""
_CHECK = {
    "type": "command",
    "name": "health",
    "command": ["/bin/grep", "-q", "healthy", "/run/current-system/etc/health"],
    "timeout": "1s",
}
SETTINGS = {
    "strategy": "store-path",
    "confirm": {"settle": "0.02s", "deadline": "1s", "checks": [_CHECK]},
}
_DISK = "256m"
"""So small that it is soon full."""
_NEXT_RUNS = 8
HELD = 75
_MOST_ROUNDS = 60
"""After which a new host is taken: its history, its logs and its builds grow."""
_KEPT_FOR = 5
"""Rounds, of which the generations are kept."""
JOURNAL = "/var/lib/nixos-hydra-agent/journal.sqlite"
MARKS = "/nix/var/nix/gcroots/nixos-hydra-agent"

_AWAIT = """
are_at_work() {
  systemctl show --property=ActiveState --value "$@" | grep -Eqx 'active|activating|deactivating'
}
for _ in $(seq 400); do
  eval "$1" && exit
  sleep 0.1
done
exit 1
"""
_LOOK = f"""
import glob, json, os, sqlite3, subprocess
def links(pattern):
    found = filter(os.path.islink, glob.glob(pattern))
    return {{os.path.basename(link): os.readlink(link) for link in found}}
profiles = "/nix/var/nix/profiles"
rows = []
if os.path.exists("{JOURNAL}"):
    db = sqlite3.connect("{JOURNAL}")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = db.execute("SELECT outcome, repeats, toplevel FROM runs ORDER BY id").fetchall()
    db.close()
timers = subprocess.run(
    ["systemctl", "list-units", "--plain", "--no-legend", "{DEAD_MAN_UNIT}-*"],
    check=True, capture_output=True, text=True,
).stdout.splitlines()
print(json.dumps({{
    "marks": links("{MARKS}/[a-z]*"),
    "running": os.path.realpath("/run/current-system"),
    "profile": os.path.realpath(profiles + "/system"),
    "boot_default": os.readlink("/boot/default"),
    "generations": sorted(set(links(profiles + "/system-*-link").values())),
    "rows": rows,
    "timers": timers,
}}))
"""  # noqa: S608 - only names of our own


@dataclass(frozen=True)
class Look:
    """All that tells whether a host is in order."""

    marks: dict[str, str]
    running: str
    profile: str
    boot_default: str
    generations: list[str]
    rows: list[tuple[str, int, str]]
    timers: list[str]

    @property
    def runs(self) -> int:
        """How many runs the history tells of."""
        return sum(1 + repeats for _, repeats, _ in self.rows)


class CrashingHost:
    """A booted host, the world around it, and the systems that Hydra offers to it."""

    def __init__(self, site, name: str = "crashing", **options) -> None:
        self.upstream = Upstream(site.namespaces, site.builder.cache)
        self._preloaded_agent: preloaded_agent.PreloadedAgent | None = None
        self._preloaded_in = 0
        with ExitStack() as opened:
            opened.callback(self.upstream.close)
            self._begin(site, name, options, opened)
            opened.pop_all()

    def _begin(self, site, name: str, options: dict[str, Any], opened: ExitStack) -> None:
        self.good = [self.release(site, f"26.05.{n}") for n in (1, 2)]
        self.broken = self.release(site, "26.05.3", health="broken")
        first = self.good[0].toplevel
        options = {"name": name, "address": "10.77.0.9", "disk": _DISK, **options}
        self.host = RealHost(site.namespaces, site.builder, site.agent, first, **options)
        opened.callback(self.host.close)
        opened.callback(self._cool_down)
        self.install()
        self.host.power_on()
        self.rounds = 0
        # Its first run takes the running system as confirmed.
        self.upstream.offer(self.good[0])
        self.next_run()

    def install(self) -> None:
        """Write onto the disk what runs the agent there."""
        self.host.write(_CRASH_POINT, Path(crash_point.__file__).read_text())
        self.host.write(_PRELOADED_AGENT, Path(preloaded_agent.__file__).read_text())

    def release(self, site, version: str, **parameters) -> System:
        """Build one of the systems."""
        return site.build(system(version, settings=SETTINGS, agent_units=UNITS, **parameters))

    @property
    def offered(self) -> list[System]:
        """All systems that Hydra may offer."""
        return [*self.good, self.broken]

    def close(self) -> None:
        """End the host, and the world around it."""
        self.host.close()
        self._cool_down()
        self.upstream.close()

    def forget_generations(self) -> None:
        """Keep two: a switch writes the boot entries of all, and would take longer each time."""
        self.host.ok("nix-env", "-p", PROFILE, "--delete-generations", "+2")

    def agent(self, *arguments: str) -> Completed:
        """Run a command of the agent's to its end, in a process that need not load it first."""
        if self._preloaded_agent is None or self._preloaded_in != self.host.boots:
            self._cool_down()
            python = ("/opt/agent/bin/python", "-I", _PRELOADED_AGENT, AGENT)
            self._preloaded_agent = preloaded_agent.PreloadedAgent(
                self.host.argv(*python)
            ).__enter__()
            self._preloaded_in = self.host.boots
        ended = self._preloaded_agent.run(arguments, None, _TIMEOUT)
        return Completed(ended.returncode, ended.stdout, ended.stderr)

    def _cool_down(self) -> None:
        if self._preloaded_agent is not None:
            self._preloaded_agent.__exit__()
            self._preloaded_agent = None

    # Steps of a round

    def offer_next(self, running: str | None = None) -> System:
        """Let Hydra build the good system that is not the host's; return it."""
        running = running or self.look().running
        target = next(system for system in self.good if system.toplevel != running)
        self._offer(target)
        return target

    def offer_broken(self) -> System:
        """Let Hydra build the system that is broken; return it."""
        self._offer(self.broken)
        return self.broken

    def _offer(self, system: System) -> None:
        """Offer one system alone: an older build that was killed is not to be taken instead."""
        newest = self.upstream.offer(system)
        builds = self.upstream.world.builds
        for build_id in [number for number in builds if number != newest]:
            del builds[build_id]

    def kill_at(self, point: str) -> None:
        """Begin an upgrade that is killed at a point, or whose confirm unit is."""
        self.host.inject("kill", point)
        done = self.upgrade(*WATCHED.split())
        assert not self.host.exists(str(crash_point.POINT)), f"nothing got to {point!r}: {done}"

    def begin(self) -> None:
        """Begin an upgrade as the timer does."""
        self.host.run("systemctl", "start", "--no-block", UPGRADE)

    def strike(self, point: str) -> None:
        """Begin an upgrade, and see it die at the point, or take the power away there."""
        self.host.inject("kill", point)
        self.begin()
        wanted = self.host.disk / str(crash_point.POINT).lstrip("/")
        self.host.eventually(lambda: not wanted.exists(), point)
        if point.startswith("cut "):
            self.host.cut_power()
            self.host.power_on()

    def upgrade(self, *agent: str, arguments: tuple[str, ...] = ()) -> Completed:
        """Run `agent upgrade` to its end."""
        return self.host.run(*(agent or ("agent",)), "upgrade", *arguments)

    def next_run(self) -> dict[str, Any]:
        """Run the agent as the timer would, until nobody else is at work; return its summary."""
        for _ in range(_NEXT_RUNS):
            done = self.agent("upgrade")
            told = summary(done)
            if done.rc != HELD or told.get("error.kind") not in ("locked", "activation-busy"):
                self.await_quiet()
                return told
            self.await_quiet()
        raise AssertionError(f"someone is always at work: {done}")

    def await_quiet(self) -> None:
        """Wait until no activation and no confirmation is at work."""

        self._await(f"! are_at_work {CONFIRM_UNIT} {ACTIVATION_UNIT} {UPGRADE}")

    def allow(self, target: System) -> None:
        """Forget what a system has earned in this round."""
        done = self.agent("allow", target.toplevel, "--reason", "the next round")
        assert done.rc == 0, f"{done}\n{self.host.journal()}"

    def await_confirmation(self) -> None:
        """Wait until the confirm unit is at work, or the upgrade has ended without it."""

        self._await(f"are_at_work {CONFIRM_UNIT} || ! are_at_work {UPGRADE}")

    def _await(self, condition: str) -> None:
        """Wait on the host itself: to enter it again and again costs more than to wait there."""
        waited = self.host.run("sh", "-c", _AWAIT, "sh", condition)
        assert waited.rc == 0, f"not in time: {condition}\n{self.host.journal()}"

    # Looking

    def look(self) -> Look:
        """Look at the host, from within: a file of SQLite's is not opened twice."""
        return Look(**json.loads(self.host.ok("python3", "-c", _LOOK)))

    def assert_recovered(self, allowed: list[System], runs: int) -> Look:
        """Assert that the host is wholly on an allowed system, and its history has `runs` runs."""
        seen = self.look()
        marks = {name: path for name, path in seen.marks.items() if name != "candidate"}
        chosen = {system.toplevel for system in self.offered}
        demands = {
            "the running system is confirmed": marks == {"confirmed": seen.running},
            "it is an allowed one": seen.running in [system.toplevel for system in allowed],
            "profile and loader lead to it": seen.profile == seen.boot_default == seen.running,
            "no profile was ever one that nobody chose": set(seen.generations) <= chosen,
            "no timer is left": not seen.timers,
            "no run is left open": not [row for row in seen.rows if row[0] in UNDER_WAY],
            "no row is lost": seen.runs >= runs,
        }
        unmet = [demand for demand, is_met in demands.items() if not is_met]
        assert not unmet, f"{unmet}: {seen}\n{self.host.journal('--boot')[-20_000:]}"
        return seen


class CrashingHosts:
    """One host for many rounds; a new one after a round that failed, or after many."""

    def __init__(self, site) -> None:
        self._site = site
        self._host: CrashingHost | None = None

    def take(self) -> CrashingHost:
        """Return a host that is in order."""
        if self._host is not None and self._host.rounds >= _MOST_ROUNDS:
            self.drop()
        if self._host is None:
            self._host = CrashingHost(self._site)
        if self._host.rounds % _KEPT_FOR == 0:
            self._host.forget_generations()
        self._host.rounds += 1
        return self._host

    def drop(self) -> None:
        """Let the next one be new."""
        if self._host is not None:
            self._host.close()
            self._host = None


def summary(done: Completed) -> dict[str, Any]:
    """Return the last event of a run."""
    lines = done.stdout.splitlines()
    assert lines, done
    told: dict[str, Any] = json.loads(lines[-1])
    assert told["event"] == "run.finished", done
    return told


UNITS = {UPGRADE: upgrade_unit(WATCHED), CONFIRM: confirm_unit(WATCHED, restart_after="100ms")}
