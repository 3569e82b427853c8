"""What may happen to a host while the agent works on it: by another hand, or to an answer."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.application.ports import ActivationExit
from agent.domain.errors import HostError, HydraError, JournalError, Kind, LockedError, NixError
from agent.domain.policy import Action

from .samples import JOB
from .stepwise import system_with
from .world import SERVICE, PowerCut, World, system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.domain.store_path import StorePath

STRANGE = system(7)
"""What someone else brings here."""
_BUSY = ActivationExit(11, "Could not acquire lock")
_SECONDS = 60.0
_UNUSABLE = HostError(Kind.MARKS_UNUSABLE, "no answer")
_NO_DISK = JournalError(Kind.STATE_IO_ERROR, "no answer")
_NO_HYDRA = HydraError(Kind.HYDRA_REFUSED, "no answer")


# Someone else


def activates(world: World, action: Action) -> None:
    """Let a person activate a system past the agent, in no time."""
    world.host.contents.setdefault(STRANGE, system_with("k1"))
    world.host.activate(action, STRANGE)
    world.host.changed = world.clock.now()


def is_activating(world: World) -> None:
    """Let a person's switch be at work for a minute; nixos-rebuild refuses everybody else's."""
    world.systemd.works_on(STRANGE, "f" * 32)
    end = world.clock.seconds + _SECONDS
    before = world.nixos_rebuild.refuses, world.systemd.refuses

    def refuses(path: StorePath, action: Action) -> ActivationExit:
        if action.moves_profile and world.nixos_rebuild.activated[-1:] == [(action, path)]:
            world.host.profile = path  # which it does before it asks for the lock
        return _BUSY

    def on_sleep() -> None:
        if world.systemd.is_running and world.clock.seconds >= end:
            world.nixos_rebuild.refuses, world.systemd.refuses = before
            world.systemd.is_running = False
            activates(world, Action.SWITCH)

    world.nixos_rebuild.refuses = refuses
    world.systemd.refuses = lambda _path, _action: _BUSY
    world.clock.on_sleep = on_sleep


def picks_another_at_boot(world: World) -> None:
    """Let the power fail, and a person pick another system in the loader's menu."""
    world.host.contents.setdefault(STRANGE, system_with("k1"))
    world.host.boot()
    world.host.running = world.host.booted = STRANGE
    world.systemd.timer = None
    raise PowerCut


STRANGERS: dict[str, Callable[[World], None]] = {
    "switches": partial(activates, action=Action.SWITCH),
    "stages": partial(activates, action=Action.BOOT),
    "tests": partial(activates, action=Action.TEST),
    "is switching": is_activating,
    "picks another at boot": picks_another_at_boot,
}


# Unknown

DOUBTS: dict[str, dict[tuple[str, str], Any]] = {
    "systemd gives no answer": {("systemd", "is_silent"): True},
    "which units have failed": {("systemd", "failed"): None},
    "whether the clock is right": {("systemd", "is_synchronised"): None},
    "the links": {("host", "fault"): HostError(Kind.HOST_UNREADABLE, "no answer")},
    "the loader's default": {("host.loader", "is_silent"): True},
    "the marks": {("marks", "fault"): _UNUSABLE},
    "marks cannot be changed": {("marks", "write_fault"): _UNUSABLE},
    "the history": {("journal", "read_fault"): _NO_DISK},
    "the history cannot be written": {("journal", "fault"): _NO_DISK},
    "what waits": {
        ("journal", "plan_read_fault"): _NO_DISK,
        ("journal", "plan_fault"): _NO_DISK,
    },
    "how the service is": {
        ("prober", "unproven"): {SERVICE},
        ("prober", "reasons"): {SERVICE: "?"},
    },
    "what Hydra has": {
        ("hydra", "fault"): _NO_HYDRA,
        ("prober", "reasons"): {JOB.instance: "no answer"},
    },
    "what nix has": {("nix", "fault"): NixError(Kind.NIX_TIMEOUT, "no answer")},
    "addresses": {("resolver", "known"): {"git.example.org": None}},
    "who has the lock": {("lock", "fault"): LockedError(Kind.LOCKED, "another agent is running")},
    "who waits": {("lock", "is_silent"): True},
    "the idle note": {("idle_note", "fault"): HostError(Kind.STATE_IO_ERROR, "no answer")},
    "who is logged in": {("logind", "logged_in"): None, ("logind", "inhibiting"): None},
    "what was seen before": {("sightings", "is_forgetful"): True},
}
"""What nobody can say, by port and attribute of its fake."""


@contextmanager
def doubting(world: World, doubt: str) -> Iterator[Callable[[], None]]:
    """Give what lets a doubt begin; it ends with the block."""
    before: dict[tuple[str, str], Any] = {}

    def begin() -> None:
        for (port, name), value in DOUBTS[doubt].items():
            fake = _fake(world, port)
            before.setdefault((port, name), getattr(fake, name))
            setattr(fake, name, value)

    try:
        yield begin
    finally:
        for (port, name), value in before.items():
            setattr(_fake(world, port), name, value)


def _fake(world: World, port: str) -> object:
    found: object = world
    for name in port.split("."):
        found = getattr(found, name)
    return found
