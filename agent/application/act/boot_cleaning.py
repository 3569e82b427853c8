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
    from agent.application.ports import HostPorts
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
    running, default = ports.host.systems().running, ports.loader.default()
    if toplevel is None or running is None or not _remembers(ports, running):
        return False
    before = ports.host.free_space().boot
    with run.step("loader"):
        try:
            ended = await ports.systemd.activate(toplevel, Action.BOOT)
        except HostError as error:
            ports.sink.emit(events.BOOT_NOT_CLEANED, toplevel=running, **error_fields(error))
            return False
        if default == running != toplevel:
            # The installer makes generations the default, not their specialisations.
            await ports.loader.make_default(running)
    now = ports.loader.default()
    is_kept = now in (None, toplevel) if default is None else now == default
    if ended.returncode != 0 or not is_kept:
        ports.sink.emit(
            events.BOOT_NOT_CLEANED,
            toplevel=running,
            returncode=ended.returncode,
            default=now,
        )
        return False
    after = ports.host.free_space().boot
    ports.sink.emit(events.BOOT_CLEANED, toplevel=running, before=before, after=after)
    return True


async def _at_rest_on(ports: HostPorts) -> StorePath | None:
    """Return the confirmed system, if it runs and is the profile's, with nothing under way.

    A specialisation of it may run, if the loader can start that by default, as it did.
    """
    marks, systems, loader = ports.marks.read(), ports.host.systems(), ports.loader
    toplevel, default = marks.confirmed, loader.default()
    is_waiting = marks.pending or marks.staged or marks.left or marks.rolled_back
    if toplevel is None or systems.profile != toplevel or is_waiting:
        return None
    if systems.running not in ports.host.equivalents(toplevel):
        return None
    if default not in (None, toplevel, systems.running):
        return None  # an administrator has chosen another default, which this would undo
    if default not in (None, toplevel) and not loader.can_be_default(default):
        return None
    return toplevel if await ports.systemd.is_activating() is False else None


def _remembers(ports: HostPorts, running: StorePath) -> bool:
    """Return whether it is the first time for a system, and that is written down now."""
    try:
        if ports.journal.is_boot_cleaned(running):
            return False
        ports.journal.note_boot_cleaned(running)
    except JournalError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))
        return False
    return True
