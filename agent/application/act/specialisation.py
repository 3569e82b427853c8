"""Keeps a host on its specialisation: notes which one runs, and has it started by default."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.facts.specialisations import running_specialisation
from agent.application.report import error_fields
from agent.domain.errors import HostError
from agent.domain.policy import Action

if TYPE_CHECKING:
    from agent.application.ports import HostPorts
    from agent.domain.store_path import StorePath


def note_what_runs(ports: HostPorts) -> None:
    """Leave beside the marks what a roll-back returns to, where there is a choice.

    That it cannot be left does not keep the run from going on: the history knows it, too.
    """
    name, confirmed = running_specialisation(ports), ports.marks.read().confirmed
    has_some = confirmed is not None and ports.host.specialisations(confirmed)
    try:
        ports.marks.note_specialisation(name or ("" if has_some else None))
    except HostError as error:
        ports.sink.emit(events.RECORD_FAILED, **error_fields(error))


async def start_by_default(ports: HostPorts, toplevel: StorePath, name: str) -> bool:
    """Let the boot loader start the specialisation `name`, which a system has, by default.

    The system's own installer writes the loader's files, where the system is not in them as the
    default already. Of its specialisations it makes none the default. False where the loader does
    not say that it would start that one.
    """
    special = ports.host.specialisations(toplevel)[name]
    if ports.loader.default() not in (toplevel, special):
        with suppress(HostError):
            await ports.systemd.activate(toplevel, Action.BOOT)
    if ports.loader.default() == toplevel:
        await ports.loader.make_default(special)
    return ports.loader.default() == special
