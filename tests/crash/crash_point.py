"""Runs the agent's command line in a process that kills itself at one chosen point.

    echo 'after record:armed' > /inject/kill
    python crash_point.py upgrade

A point is `before` or `after` an effect. The effects are the calls of the adapters that change the
history, the marks, the timer or the host, those within another one aside. So are the steps, within an
effect or between two: each change of a file's name, each file that is begun to be written, and each
program that changes something; `after` one of those it has been started, and goes on. Of all the
processes that run so only the first to get to the point dies; with `confirm: ` in front of the point only one that
confirms does. With `cut ` in front of all, it does not die but waits for the host's power to go.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

POINT = Path("/inject/kill")
"""Holds the point, until someone has died there."""
TRACE = Path("/inject/effects")
"""Where it exists every effect is written down there, one a line, before it begins."""
STEPS = Path("/inject/steps")
"""The same for the steps, each after the command whose it is."""
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


UPGRADE_STEPS = (
    "upgrade: before write:upgrades.spare",
    "upgrade: before remove:idle.json",
    "upgrade: before write:last-contact",
    "upgrade: before remove:seen-hydra",
    "upgrade: before run:nix",
    "upgrade: after run:nix",
    "upgrade: before record:armed/write:upgrades.json.new",
    "upgrade: before record:armed/rename:upgrades.json",
    "upgrade: before set:pending/remove:.pending.new",
    "upgrade: before set:pending/symlink:.pending.new",
    "upgrade: before set:pending/rename:pending",
    "upgrade: before set:pending/write:.pending-for.new",
    "upgrade: before set:pending/rename:.pending-for",
    "upgrade: before arm/run:systemctl",
    "upgrade: after arm/run:systemctl",
    "upgrade: before arm/remove:nixos-hydra-agent-dead-man.env",
    "upgrade: before arm/write:nixos-hydra-agent-dead-man.env",
    "upgrade: before arm/run:systemd-run",
    "upgrade: after arm/run:systemd-run",
    "upgrade: before record:activating/write:upgrades.json.new",
    "upgrade: before record:activating/rename:upgrades.json",
    "upgrade: before rebuild:switch/run:nixos-rebuild",
    "upgrade: after rebuild:switch/run:nixos-rebuild",
    "upgrade: before rebuild:switch/write:upgrades.json.new",
    "upgrade: before rebuild:switch/rename:upgrades.json",
    "upgrade: before record:pending/write:upgrades.json.new",
    "upgrade: before record:pending/rename:upgrades.json",
    "upgrade: before remove:seen-cache",
    "confirm: before write:.pending-for.new",
    "confirm: before rename:.pending-for",
    "confirm: before move:pending>confirmed/rename:confirmed",
    "confirm: before move:pending>confirmed/remove:.pending-for",
    "confirm: before disarm/run:systemctl",
    "confirm: after disarm/run:systemctl",
    "confirm: before disarm/remove:nixos-hydra-agent-dead-man.env",
    "confirm: before remove:idle.json",
    "confirm: before record:confirmed/remove:upgrades.json",
)
"""The steps of an upgrade that goes well: those of its own, and those of the confirm unit."""

ROLL_BACK_STEPS = (
    "confirm: before write:.pending-for.new",
    "confirm: before rename:.pending-for",
    "confirm: before move:pending>rolling-back/rename:rolling-back",
    "confirm: before record:rolling-back/write:upgrades.json.new",
    "confirm: before record:rolling-back/rename:upgrades.json",
    "confirm: before deny/write:upgrades.json.new",
    "confirm: before deny/rename:upgrades.json",
    "confirm: before profile/run:nix-env",
    "confirm: after profile/run:nix-env",
    "confirm: before activate:switch/remove:nixos-rebuild-switch-to-configuration.env",
    "confirm: before activate:switch/write:nixos-rebuild-switch-to-configuration.env",
    "confirm: before activate:switch/run:systemd-run",
    "confirm: after activate:switch/run:systemd-run",
    "confirm: before activate:switch/write:upgrades.json.new",
    "confirm: before activate:switch/rename:upgrades.json",
    "confirm: before move:rolling-back>rolled-back/rename:rolled-back",
    "confirm: before move:rolling-back>rolled-back/remove:.pending-for",
    "confirm: before disarm/run:systemctl",
    "confirm: after disarm/run:systemctl",
    "confirm: before disarm/remove:nixos-hydra-agent-dead-man.env",
    "confirm: before remove:idle.json",
    "confirm: before record:rolled-back/remove:upgrades.json",
    "confirm: before remove:rolled-back/remove:rolled-back",
)
"""Those of the confirm unit where the new system is broken."""


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

    within = ""
    """The effect that it is in."""
    effects: ClassVar[set[str]] = set()
    steps: ClassVar[set[str]] = set()

    @classmethod
    def begin(cls, effect):
        """Begin with an effect; return its name, None if it is within another one."""
        if cls.within:
            return None
        name = cls.within = f"{effect} again" if effect in cls.effects else effect
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
            cls.within = ""

    @classmethod
    def step(cls, moment, step):
        """Get to a step; what is done again and again counts the first time."""
        name = f"{moment} {cls.within}/{step}" if cls.within else f"{moment} {step}"
        if name in cls.steps:
            return
        cls.steps.add(name)
        if STEPS.exists():
            with STEPS.open("a") as steps:
                steps.write(f"{sys.argv[1]}: {name}\n")
        _die_at(name)


def _die_at(point):
    wanted = POINT.read_text() if POINT.exists() else ""
    if wanted.removeprefix("cut ") not in (point, f"{sys.argv[1]}: {point}"):
        return
    POINT.unlink(missing_ok=True)
    if wanted.startswith("cut "):
        # Nothing may go on here, not even another thread's work.
        os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_ASKING = frozenset(("show", "list-units", "tracking", "call", "--dry-run", "-q"))
"""What is among the arguments of programs that change nothing."""
_OWN = re.compile(r"/(dev|proc|inject)/|agent\.lock|\.sqlite")
"""The lock ends with its process, and what SQLite writes it undoes if that ends."""


def _step_of(event, arguments):
    """Return the name of a step, given what Python tells its audit hooks; None if it is none."""
    match event, arguments:
        case (
            ("os.rename", (_, file, *_)) | ("os.symlink", (_, file, *_)) | ("os.remove", (file, *_))
        ):
            verb = event.removeprefix("os.")
        case "open", (str() | os.PathLike() as file, _, flags) if (flags or 0) & _WRITING:
            verb = "write"
        case "subprocess.Popen", (_, argv, *_) if _ASKING.isdisjoint(map(str, argv)):
            verb, file = "run", argv[0]
        case _:
            return None
    if _OWN.search(str(file)):
        return None
    # Timers have names of their own each time.
    return f"{verb}:{re.sub('-[0-9a-f]{12}', '', Path(file).name)}"


def _watch_steps():
    program = ""

    def audit(event, arguments):
        nonlocal program
        if step := _step_of(event, arguments):
            program = step if event == "subprocess.Popen" else program
            _Reached.step("before", step)

    def started(self, *arguments, **options):
        nonlocal program
        start(self, *arguments, **options)
        if program:
            _Reached.step("after", program)
            program = ""

    start = subprocess.Popen._execute_child
    subprocess.Popen._execute_child = started
    sys.addaudithook(audit)


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
        if STEPS.exists() or POINT.exists():
            _watch_steps()
        return whole(*arguments)

    # The idle path has no effects, and none of the adapters is loaded for it.
    entry._whole = watched
    # The dead-man's timer is set for the program of that name.
    sys.argv[0] = _AGENT
    entry.main()


if __name__ == "__main__":
    main()
