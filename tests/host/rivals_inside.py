"""Lets `agent dead-man` and `agent confirm` decide on one system at once: runs on a host.

    /opt/agent/bin/python -I rivals_inside.py ROUNDS CONFIRMED PENDING

For each round one line of JSON tells who won. Both are processes of their own, which have all that
they need loaded, and run the real commands. Whoever was late in a round starts earlier in the next
one: so most rounds are won by a hair.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from agent.cli.main import run

MARKS = Path("/nix/var/nix/gcroots/nixos-hydra-agent")
RUNNING = Path("/run/current-system")
PROFILE = Path("/nix/var/nix/profiles/system")
HISTORY = Path("/var/lib/nixos-hydra-agent/journal.sqlite")
_FIRST_STEP = 0.1
_SMALLEST_STEP = 0.004
_CHEAPER = 2.5
"""How much faster than a roll-back a confirmation is: so much more often it may win."""


def main() -> None:
    """Play all rounds."""
    rounds, confirmed, pending = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    settings = f"{os.path.realpath('/etc/nixos-hydra-agent')}/config.toml"
    common = ("--config", settings)
    dead_man = ("dead-man", *common, "--run-id", "rivals", "--toplevel", pending)
    lead, step, last = 0.0, _FIRST_STEP, None
    for _ in range(rounds):
        lay_out(confirmed, pending)
        start = time.monotonic() + 0.02
        children = [
            spawn(start + max(0.0, -lead), dead_man),
            spawn(start + max(0.0, lead), ("confirm", *common)),
        ]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        told = look() | {"codes": codes, "lead": round(lead, 3)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        is_confirmed = told["marks"].get("confirmed") == pending
        if last not in (None, is_confirmed):
            step = max(step / 2, _SMALLEST_STEP)
        lead += step if is_confirmed else -_CHEAPER * step
        last = is_confirmed


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
    marks = {mark.name: str(mark.readlink()) for mark in MARKS.glob("[a-z]*")}
    found = {"running": os.path.realpath(RUNNING), "profile": os.path.realpath(PROFILE)}
    return {"marks": marks, **found}


def spawn(when: float, arguments: tuple[str, ...]) -> int:
    """Run a command of the agent in a process of its own, from a moment on; return its id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        log = os.open("/var/log/rivals", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["/opt/agent/bin/agent", *arguments]
        time.sleep(max(0.0, when - time.monotonic()))
        status = run(list(arguments))
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


main()
