"""Try-boot: the loader's default stays on the confirmed system until the new one is confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.domain.errors import HostError
from agent.domain.policy import Action

if TYPE_CHECKING:
    from agent.application.ports import Ports
    from agent.application.run import Run
    from agent.domain.store_path import StorePath


async def try_once(run: Run, toplevel: StorePath) -> bool:
    """Let the loader start the staged `toplevel` once, and the confirmed system ever after.

    The confirmed system's own installer is run once more, which makes it the default again; the
    staged one is a generation like others, and is started by name. Where any of that fails, the
    staged system is the default, as nixos-rebuild has left it.
    """
    ports = run.ports
    confirmed = ports.marks.read().confirmed
    if not run.policy.reboot.tries_boot or confirmed in (None, toplevel):
        return False
    assert confirmed is not None  # noqa: S101 - for the type checker
    loader = ports.loader.fallback()
    if loader is None:
        ports.sink.emit(events.LOADER_WITHOUT_FALLBACK, toplevel=toplevel)
        return False
    with run.report.step("loader", ports.clock):
        is_set = await _make_default(ports, confirmed) and await ports.loader.boot_once(toplevel)
        if not is_set:
            await _make_default(ports, toplevel)
    event = events.TRY_BOOT_SET if is_set else events.TRY_BOOT_FAILED
    ports.sink.emit(event, loader=loader, toplevel=toplevel, default=ports.loader.default())
    return is_set


async def keep_by_default(ports: Ports, toplevel: StorePath, before: StorePath | None) -> None:
    """Make the confirmed `toplevel` the loader's default, if it still is the one `before`."""
    default = ports.loader.default()
    if default is None or default == toplevel or default != before:
        return
    is_set = await _make_default(ports, toplevel)
    await ports.loader.forget_choices()
    event = events.DEFAULT_MOVED if is_set else events.DEFAULT_LEFT
    ports.sink.emit(event, toplevel=toplevel, default=ports.loader.default())


async def _make_default(ports: Ports, toplevel: StorePath) -> bool:
    """Have a system's own installer write the loader's files, and read back what it wrote."""
    try:
        ended = await ports.systemd.activate(toplevel, Action.BOOT)
    except HostError:
        return False
    return ended.returncode == 0 and ports.loader.default() == toplevel
