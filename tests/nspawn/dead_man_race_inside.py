"""Lets `agent dead-man` and `agent confirm` decide on one system at once: runs on a host.

    /opt/agent/bin/python -I rivals_inside.py ROUNDS CONFIRMED PENDING

For each round one line of JSON tells what has come of it. Both are processes of their own, which have
all that they need loaded, and run the real commands. Whoever is about to decide first waits for the
other one to be there, too, or to have ended.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import sys
import time
from pathlib import Path

import agent.application.confirm.dead_man
import agent.application.manual.verdicts
import agent.cli.run_command
import agent.wiring.host  # noqa: F401 - all are loaded before the children are there
from agent.adapters.state.marks import MarkLinks
from agent.cli.main import run
from agent.domain.marks import Mark

MARKS = Path("/nix/var/nix/gcroots/nixos-hydra-agent")
RUNNING = Path("/run/current-system")
PROFILE = Path("/nix/var/nix/profiles/system")
HISTORY = Path("/var/lib/nixos-hydra-agent/journal.sqlite")

_THERE, _GONE = 1, 2
_A_HAIR = 0.0006
"""Seconds that the last one gives to the other, at most."""


def main() -> None:
    """Play all rounds."""
    rounds, confirmed, pending = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    settings = f"{os.path.realpath('/etc/nixos-hydra-agent')}/config.toml"
    common = ("--config", settings)
    dead_man = ("dead-man", *common, "--run-id", "rivals", "--toplevel", pending)
    for _ in range(rounds):
        lay_out(confirmed, pending)
        present = mmap.mmap(-1, 2)
        children = [spawn(present, 0, dead_man), spawn(present, 1, ("confirm", *common))]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        told = look() | {"codes": codes, "met": present[:] == bytes([_THERE, _THERE])}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def lay_out(confirmed: str, pending: str) -> None:
    """Let the host be as after an activation that nobody has judged yet.

    The history of the rounds before is forgotten: a path is rolled back from only once.
    """
    MARKS.mkdir(parents=True, exist_ok=True)
    for mark in MARKS.glob("*"):
        mark.unlink()
    for name, path in (("confirmed", confirmed), ("pending", pending)):
        (MARKS / name).symlink_to(path)
    for file in HISTORY.parent.glob(f"{HISTORY.name}*"):
        file.unlink()
    for link in PROFILE.parent.glob("system-*-link"):
        if link.name != "system-1-link":
            link.unlink()
    link_to(pending, PROFILE.with_name("system-2-link"))
    link_to("system-2-link", PROFILE)
    link_to(pending, RUNNING)


def link_to(target: str, link: Path) -> None:
    """Let a link lead to what is wanted."""
    new = link.with_name("rivals.new")
    new.symlink_to(target)
    new.replace(link)


def look() -> dict[str, object]:
    """Return what has come of a round; the root of what was fetched is no mark."""
    marks = {mark.name: str(mark.readlink()) for mark in MARKS.glob("[a-z]*") if mark.is_symlink()}
    found = {"running": os.path.realpath(RUNNING), "profile": os.path.realpath(PROFILE)}
    return {"marks": marks, **found}


def spawn(present: mmap.mmap, place: int, arguments: tuple[str, ...]) -> int:
    """Run a command of the agent in a process of its own; return its id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        log = os.open("/var/log/rivals", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["/opt/agent/bin/agent", *arguments]
        MarkLinks.move = meeting(MarkLinks.move, present, place)
        status = run(list(arguments))
    finally:
        if present[place] != _THERE:
            present[place] = _GONE
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


def meeting(move, present: mmap.mmap, place: int):
    """Let `move` wait for the other one before it decides, without giving its processor away."""

    def moves(keeper, mark, toplevel, to):
        if mark is Mark.PENDING:
            is_last = present[1 - place] == _THERE
            present[place] = _THERE
            while not present[1 - place]:
                pass
            # Who came last has its processor to itself, and would always be first.
            begin = time.perf_counter() + is_last * random.random() * _A_HAIR
            while time.perf_counter() < begin:
                pass
        return move(keeper, mark, toplevel, to)

    return moves


main()
