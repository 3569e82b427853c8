"""Makes room on a boot partition that is full of what no generation needs any more.

NixOS's installers remove the kernels of generations that are gone, but only when they run, and the
gate `boot-space` keeps them from running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.report import error_fields
from agent.domain.errors import HostError, JournalError
from agent.domain.policy import Action

if TYPE_CHECKING:
    from agent.application.ports import Ports
    from agent.application.run import Run
    from agent.domain.store_path import StorePath


async def clean_boot_once(run: Run) -> bool:
    """Run the running system's own installer, once for each system; True if it ended well.

    Only on a host that is at rest on its confirmed system: what it writes is there already then,
    and the default stays what it is. Where nobody could remember that it was done, it is not done.
    The lock must be held.
    """
    ports = run.ports
    toplevel = await _at_rest_on(ports)
    if toplevel is None or not _remembers(ports, toplevel):
        return False
    before = ports.host.free_space().boot
    with run.report.step("loader", ports.clock):
        try:
            ended = await ports.systemd.activate(toplevel, Action.BOOT)
        except HostError as error:
            ports.sink.emit(events.BOOT_NOT_CLEANED, toplevel=toplevel, **error_fields(error))
            return False
    default, after = ports.loader.default(), ports.host.free_space().boot
    if ended.returncode != 0 or default not in (None, toplevel):
        ports.sink.emit(
            events.BOOT_NOT_CLEANED,
            toplevel=toplevel,
            returncode=ended.returncode,
            default=default,
        )
        return False
    ports.sink.emit(events.BOOT_CLEANED, toplevel=toplevel, before=before, after=after)
    return True


async def _at_rest_on(ports: Ports) -> StorePath | None:
    """Return the system that runs, is the profile's and is confirmed, with nothing under way."""
    marks, systems = ports.marks.read(), ports.host.systems()
    toplevel = marks.confirmed
    is_there = toplevel is not None and toplevel == systems.running == systems.profile
    is_waiting = marks.pending or marks.staged or marks.left or marks.rolled_back
    if not is_there or is_waiting:
        return None
    if ports.loader.default() not in (None, toplevel):
        return None  # somebody has chosen another default, which this would undo
    return toplevel if await ports.systemd.is_activating() is False else None


def _remembers(ports: Ports, toplevel: StorePath) -> bool:
    """Return whether it is the first time for a system, and that is written down now."""
    try:
        if ports.agenda.is_boot_cleaned(toplevel):
            return False
        ports.agenda.note_boot_cleaned(toplevel)
    except JournalError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return False
    return True
