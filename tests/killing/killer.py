"""Runs the agent's command line in a process that kills itself at one chosen point.

    echo 'after record:armed' > /inject/kill
    python killer.py upgrade

A point is `before` or `after` an effect. The effects are the calls of the adapters that change the
history, the marks, the timer or the host, those within another one aside. Of all the processes that
run so only the first to get to the point dies; with `confirm: ` in front of the point only one that
confirms does. With `cut ` in front of all, it does not die but waits for the host's power to go.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

POINT = Path("/inject/kill")
"""Holds the point, until somebody has died there."""
TRACE = Path("/inject/effects")
"""Where it exists every effect is written down there, one a line, before it begins."""
_AGENT = "/opt/agent/bin/agent"

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
    "remove:tested",
    "disarm",
    "record:confirmed",
    "record:confirmed again",
)
"""The effects of an upgrade that goes well, in order; from the first move on the confirm unit's."""

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
    "record:rolled-back again",
)
"""What the confirm unit does after `record:pending` where the new system is broken."""


REBOOT = (
    "record:staged",
    "activate:boot",
    "boot-once",
    "record:rebooting",
    "reboot",
    "record:rebooting again",
)
"""What an upgrade that takes a reboot does when the new system is staged."""

BOOTED = (
    "set:pending",
    "remove:staged",
    "record:pending",
    "move:pending>confirmed",
    "remove:tested",
    "activate:boot",
    "forget-choices",
    "disarm",
    "record:confirmed",
    "record:confirmed again",
)
"""What the confirm unit does in the new system, where it is good."""

REBOOT_BACK = (
    "move:pending>rolling-back",
    "record:rolling-back",
    "deny",
    "profile",
    "activate:boot",
    "forget-choices",
    "move:rolling-back>rebooting-back",
    "disarm",
    "reboot",
    "record:rolling-back again",
    "record:rolling-back",
    "move:rebooting-back>rolled-back",
    "disarm",
    "record:rolled-back",
    "remove:rolled-back",
)
"""What the confirm unit does after `record:pending` in the new system where it is broken, and from
the second `record:rolling-back` on in the old one."""


def _effect_names():
    """Return how each method that has an effect names it, given its arguments."""
    from agent.adapters.boot.loader import BootLoader
    from agent.adapters.host import HostFiles
    from agent.adapters.nix.nixos_rebuild import NixosRebuildCommand
    from agent.adapters.nix.profile import SystemProfile
    from agent.adapters.state.journal import SqliteJournal
    from agent.adapters.state.marks import MarkLinks
    from agent.adapters.systemd.manager import SystemdCommands

    return {
        (SqliteJournal, "record"): lambda run: f"record:{run.outcome}",
        (SqliteJournal, "deny"): lambda *_: "deny",
        (MarkLinks, "set"): lambda mark, _path: f"set:{mark}",
        (MarkLinks, "remove"): lambda mark: f"remove:{mark}",
        (MarkLinks, "move"): lambda mark, _path, to: f"move:{mark}>{to}",
        (SystemdCommands, "arm"): lambda *_: "arm",
        (SystemdCommands, "disarm"): lambda: "disarm",
        (SystemdCommands, "activate"): lambda _path, action: f"activate:{action}",
        (BootLoader, "boot_once"): lambda _path: "boot-once",
        (BootLoader, "forget_choices"): lambda: "forget-choices",
        (HostFiles, "reboot"): lambda: "reboot",
        (SystemProfile, "set"): lambda _path: "profile",
        (NixosRebuildCommand, "activate_flake"): lambda action, *_: f"rebuild:{action}",
        (NixosRebuildCommand, "activate_store_path"): lambda action, *_: f"rebuild:{action}",
    }


class _Reached:
    """What this process has done; an effect within another one is no point of its own."""

    is_within = False
    effects: ClassVar[set[str]] = set()

    @classmethod
    def begin(cls, effect):
        """Begin with an effect; return its name, None if it is within another one."""
        if cls.is_within:
            return None
        cls.is_within = True
        name = f"{effect} again" if effect in cls.effects else effect
        cls.effects.add(effect)
        if TRACE.exists():
            with TRACE.open("a") as trace:
                trace.write(f"{name}\n")
        _die_at(f"before {name}")
        return name

    @classmethod
    def end(cls, name):
        """End the effect that has got this name."""
        if name is not None:
            _die_at(f"after {name}")
            cls.is_within = False


def _die_at(point):
    wanted = POINT.read_text() if POINT.exists() else ""
    if wanted.removeprefix("cut ") not in (point, f"{sys.argv[1]}: {point}"):
        return
    POINT.unlink(missing_ok=True)
    if wanted.startswith("cut "):
        # Nothing may go on here, not even another thread's work.
        os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(method, named):
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def wrapped(self, *arguments, **options):
            name = _Reached.begin(named(*arguments))
            try:
                return await method(self, *arguments, **options)
            finally:
                _Reached.end(name)

    else:

        @functools.wraps(method)
        def wrapped(self, *arguments, **options):
            name = _Reached.begin(named(*arguments))
            try:
                return method(self, *arguments, **options)
            finally:
                _Reached.end(name)

    return wrapped


def main():
    """Run the agent as its own entry point does, with all its effects watched."""
    import agent.__main__ as entry

    whole = entry._whole

    def watched(*arguments):
        for (owner, name), named in _effect_names().items():
            setattr(owner, name, _deadly(getattr(owner, name), named))
        return whole(*arguments)

    # The idle path has no effects, and none of the adapters is loaded for it.
    entry._whole = watched
    # The dead-man's timer is set for the program of that name.
    sys.argv[0] = _AGENT
    entry.main()


if __name__ == "__main__":
    main()
