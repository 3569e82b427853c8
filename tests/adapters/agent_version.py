"""Lets one version of the agent have its turn on a host whose history and marks are real.

    python agent_version.py TREE < turns.json

TREE holds `agent` and `tests/fakes` of that version. Of each turn (`directory`, `what`, and `at`,
the number of the step at which it is killed) one line of JSON tells what the host is like then.
"""

from __future__ import annotations

# ruff: noqa: E402, T201 - the path of the version comes first, and it answers by lines
import json
import sys
from dataclasses import asdict
from pathlib import Path

TREE = Path(sys.argv[1])
sys.path[:0] = [str(TREE), str(TREE / "tests")]

try:
    from agent.adapters.state.journal import SqliteJournal
    from agent.adapters.state.marks import MarkLinks
    from agent.application.act.recover import next_step
    from agent.application.manual.verdicts import confirm
    from fakes.events import RememberedEvents
except ImportError:
    from fakes.telling import RememberedEvents

    from agent.adapters.journal import SqliteJournal
    from agent.adapters.marks import MarkLinks
    from agent.application.by_hand import confirm
    from agent.application.recover import next_step
from agent.application import report
from agent.application.run import begin, carry_out
from agent.application.upgrade import upgrade
from agent.domain.outcome import Outcome
from fakes.samples import OLD
from fakes.stepwise import system_with
from fakes.world import CACHE, STORE, WATCHFUL, PowerCut, World, system

NEW = system(1)


class Countdown:
    """Cuts the power at one of the changes that are made to the history, the marks or the host."""

    def __init__(self, at):
        self.steps = []
        self._at = at

    def append(self, step):
        self.steps.append(step)
        if len(self.steps) == self._at:
            raise PowerCut


class Journal(SqliteJournal):
    steps: Countdown

    def record(self, run):
        self.steps.append(f"journal {run.outcome}")
        super().record(run)

    def deny(self, denial, run=None):
        self.steps.append("journal deny")
        super().deny(denial, run)


class Marks(MarkLinks):
    steps: Countdown

    def set(self, mark, toplevel):
        self.steps.append(f"mark {mark}")
        super().set(mark, toplevel)

    def remove(self, mark):
        self.steps.append(f"unmark {mark}")
        super().remove(mark)

    def move(self, mark, toplevel, to):
        self.steps.append(f"{mark} to {to}")
        return super().move(mark, toplevel, to)


def world_of(turn, steps):
    """Return the world as the turn before has left it."""
    world, directory = World(), Path(turn["directory"])
    world.publish(1, NEW)
    world.nix.caches = (CACHE,)
    world.host.contents[NEW] = system_with("k1")
    world.journal = Journal(directory / "state", RememberedEvents())
    world.marks = Marks(directory / "marks", Path(STORE))
    world.journal.steps = world.marks.steps = steps
    file = directory / "host.json"
    if file.exists():
        left = json.loads(file.read_text())
        world.host.running, world.host.booted = left["running"], left["booted"]
        world.host.loader.installed = left["default"]
        if left["profile"] != OLD:
            world.host.profile = left["profile"]
    if turn.get("is_broken"):
        break_with_new(world)
    if turn.get("is_unknown"):
        world.hydra_is_gone()
    return world


def break_with_new(world):
    """Let the service break whenever the new system runs."""
    ask = world.prober.probe

    async def probe(check):
        if world.host.running == NEW:
            world.service_breaks()
        else:
            world.prober.reasons.clear()
        return await ask(check)

    world.prober.probe = probe


def count_effects(world, steps):
    """Let changes of the host be among the steps at which the power may be cut."""
    for port, name in (
        (world.nixos_rebuild, "activate_flake"),
        (world.systemd, "activate"),
        (world.systemd, "arm"),
        (world.systemd, "disarm"),
        (world.profile, "set"),
    ):
        setattr(port, name, counted(getattr(port, name), name, steps))


def counted(method, name, steps):
    async def call(*arguments, **named):
        steps.append(name)
        return await method(*arguments, **named)

    return call


async def look(ports, policy, settings):
    """Find out what recovery would begin with."""

    async def body(run):
        reasons = (("next", str(await next_step(run))),)
        if hasattr(run, "report"):  # as older agents have it
            run.report.reasons, run.report.is_recorded_elsewhere = reasons, True
            return None
        return report.Result(Outcome.FAILED, reasons, is_recorded_elsewhere=True)

    return await carry_out(begin(ports, policy, settings), body)


USE_CASES = {"upgrade": upgrade, "confirm": confirm, "look": look}


def take(turn):
    steps = Countdown(turn.get("at"))
    world = world_of(turn, steps)
    count_effects(world, steps)
    world.runs = turn["number"]
    said = {}
    try:
        ended = world.carry_out(USE_CASES[turn["what"]], WATCHFUL)
        said = {
            "outcome": ended.outcome,
            "exit_code": int(ended.exit_code),
            "reasons": list(ended.reasons),
            "error": ended.error and ended.error.kind,
        }
    except PowerCut:
        said = {"outcome": "killed"}
    steps = steps.steps
    world.journal.steps = world.marks.steps = Countdown(None)
    host = {
        "running": world.host.running,
        "booted": world.host.booted,
        "profile": world.host.profile,
        "default": world.host.loader.installed,
    }
    Path(turn["directory"], "host.json").write_text(json.dumps(host))
    newest = world.journal.runs(1)
    marks = {name: path for name, path in asdict(world.marks.read()).items() if path}
    denied = [denial.toplevel for denial in world.journal.denials(world.clock.now())]
    row = [[r.outcome, r.toplevel, r.previous, r.action, r.fault] for r in newest]
    return said | {
        "host": host,
        "marks": marks,
        "denied": denied,
        "row": row,
        "steps": steps,
        "is_open": world.journal.under_way() is not None,
    }


if __name__ == "__main__":
    for turn in json.load(sys.stdin):
        print(json.dumps(take(turn)))
