"""Runs the agent's command line in a process that kills itself at one chosen point.

    python killer.py 'after record:armed' upgrade --config FILE

A point is `before` or `after` an effect. The effects are the calls of the adapters that change the
history, the marks, the timer or the host; `points()` names them all.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys

from agent.adapters.journal import SqliteJournal
from agent.adapters.marks import MarkLinks
from agent.adapters.nixos_rebuild import NixosRebuildCommand
from agent.adapters.profile import SystemProfile
from agent.adapters.systemd import SystemdCommands


def effect_names():
    """Return how each method that has an effect names it, given its arguments."""
    return {
        (SqliteJournal, "record"): lambda run: f"record:{run.outcome}",
        (SqliteJournal, "deny"): lambda *_: "deny",
        (MarkLinks, "set"): lambda mark, _path: f"set:{mark}",
        (MarkLinks, "remove"): lambda mark: f"remove:{mark}",
        (MarkLinks, "move"): lambda mark, _path, to: f"move:{mark}>{to}",
        (SystemdCommands, "arm"): lambda *_: "arm",
        (SystemdCommands, "disarm"): lambda: "disarm",
        (SystemdCommands, "activate"): lambda _path, action: f"activate:{action}",
        (SystemProfile, "set"): lambda _path: "profile",
        (NixosRebuildCommand, "activate_flake"): lambda action, *_: f"rebuild:{action}",
        (NixosRebuildCommand, "activate_store_path"): lambda action, *_: f"rebuild:{action}",
    }


UPGRADE = (
    "record:selected",
    "record:verified",
    "record:fetched",
    "record:armed",
    "set:pending",
    "arm",
    "record:activating",
    "rebuild:switch",
    "record:pending",
    "move:pending>confirmed",
    "disarm",
    "record:confirmed",
)
"""The effects of an upgrade that goes well, in order; the system has no confirm unit."""

ROLL_BACK = (
    "move:pending>rolling-back",
    "record:rolling-back",
    "deny",
    "profile",
    "activate:switch",
    "move:rolling-back>rolled-back",
    "disarm",
    "record:rolled-back",
    "remove:rolled-back",
)
"""What follows `record:pending` where the new system is broken."""


def points(effects):
    """Return every point at which a run with these effects can be killed."""
    return [f"{moment} {effect}" for effect in effects for moment in ("before", "after")]


def arm(point):
    """Let this process be killed at `point`."""
    for (owner, name), named in effect_names().items():
        setattr(owner, name, _deadly(getattr(owner, name), named, point))


def _deadly(method, named, point):
    def die(moment, arguments):
        if f"{moment} {named(*arguments)}" == point:
            os.kill(os.getpid(), signal.SIGKILL)

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def wrapped(self, *arguments):
            die("before", arguments)
            result = await method(self, *arguments)
            die("after", arguments)
            return result

    else:

        @functools.wraps(method)
        def wrapped(self, *arguments):
            die("before", arguments)
            result = method(self, *arguments)
            die("after", arguments)
            return result

    return wrapped


if __name__ == "__main__":
    from agent.cli.main import run

    arm(sys.argv[1])
    arguments = sys.argv[2:]
    sys.argv = ["agent", *arguments]
    sys.exit(run(arguments))
