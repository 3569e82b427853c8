"""Try-boot: the loader's default stays on the confirmed system until the new one is confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.facts.specialisations import as_specialised, running_specialisation
from agent.domain.errors import HostError
from agent.domain.policy import Action

if TYPE_CHECKING:
    from agent.application.ports import HostPorts
    from agent.application.run import Run
    from agent.domain.store_path import StorePath


async def keep_confirmed_default(run: Run, toplevel: StorePath) -> None:
    """Keep the confirmed system the loader's default while `toplevel` waits for its reboot.

    The confirmed system's own installer is run once more, which makes it the default again; the
    staged one is a generation like others. A reboot meanwhile starts what has proved
    healthy.
    """
    confirmed = _other_confirmed(run, toplevel)
    loader = confirmed and run.ports.loader.fallback(confirmed)
    if confirmed is not None and loader is not None:
        with run.step("loader"):
            if not await _make_default(run.ports, confirmed):
                await _give_up(run, toplevel, loader)


async def try_once(run: Run, toplevel: StorePath) -> bool:
    """Let the loader start the staged `toplevel` once, and the confirmed system ever after.

    Where any of that fails, the staged system is the default, as nixos-rebuild has left it.
    """
    ports, confirmed = run.ports, _other_confirmed(run, toplevel)
    loader = confirmed and ports.loader.fallback(confirmed)
    if confirmed is None or loader is None:
        if confirmed is not None:
            ports.sink.emit(events.LOADER_WITHOUT_FALLBACK, toplevel=toplevel)
        # An earlier run may have held the default on what is not there to fall back to any more.
        if ports.loader.default() not in (None, _started(ports, toplevel)):
            await _make_default(ports, toplevel)
        return False
    with run.step("loader"):
        is_held = ports.loader.default() == _started(ports, confirmed) or await _make_default(
            ports, confirmed
        )
        if not (is_held and await ports.loader.boot_once(_started(ports, toplevel))):
            await _give_up(run, toplevel, loader)
            return False
    ports.sink.emit(events.TRY_BOOT_SET, loader=loader, toplevel=toplevel, default=confirmed)
    return True


def _other_confirmed(run: Run, toplevel: StorePath) -> StorePath | None:
    """Return the system that a trial of `toplevel` could fall back to, None if there is none."""
    confirmed = run.ports.marks.read().confirmed
    wants_it = run.policy.reboot.tries_boot and confirmed != toplevel
    return confirmed if wants_it else None


async def _give_up(run: Run, toplevel: StorePath, loader: str) -> None:
    ports = run.ports
    await _make_default(ports, toplevel)
    ports.sink.emit(
        events.TRY_BOOT_FAILED,
        loader=loader,
        toplevel=toplevel,
        default=ports.loader.default(),
    )


async def make_confirmed_default(
    ports: HostPorts, toplevel: StorePath, before: StorePath | None
) -> None:
    """Make the confirmed `toplevel` the loader's default, if it still is the one `before`."""
    default = ports.loader.default()
    if default is None or default == _started(ports, toplevel):
        return
    earlier = ports.host.equivalents(before) if before else frozenset()
    if default not in {before, toplevel, *earlier}:
        return
    is_set = await _make_default(ports, toplevel)
    await ports.loader.forget_choices()
    event = events.DEFAULT_MOVED if is_set else events.DEFAULT_LEFT
    ports.sink.emit(event, toplevel=toplevel, default=ports.loader.default())


async def _make_default(ports: HostPorts, toplevel: StorePath) -> bool:
    """Have a system's own installer write the loader's files, and read back what it wrote."""
    try:
        ended = await ports.systemd.activate(toplevel, Action.BOOT)
    except HostError:
        return False
    started = _started(ports, toplevel)
    if started != toplevel:
        await ports.loader.make_default(started)
    return ended.returncode == 0 and ports.loader.default() == started


def _started(ports: HostPorts, toplevel: StorePath) -> StorePath:
    """Return what of a system the loader is to start: the specialisation named as what runs."""
    return as_specialised(ports, toplevel, running_specialisation(ports)) or toplevel
