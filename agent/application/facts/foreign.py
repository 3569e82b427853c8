"""Finds systems that the agent has not brought to this host, and what happened during a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.application.facts.durations import ask_clock, forget_others, lacked_time
from agent.domain.activation import current_of
from agent.domain.errors import ActivationError, JournalError, Kind
from agent.domain.facts import Foreign
from agent.domain.gates import booted_unexpected, foreign_system

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.application.ports import FactPorts
    from agent.domain.confirmation import Reason
    from agent.domain.path_record import TakenBuild
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

_ROWS_OF_SYSTEMS: Final = 50
"""Newest rows of the history among which a system is looked for."""


async def find_intervention(ports: FactPorts, seen: Systems) -> Reason | None:
    """Return what another hand has done to the host since it was `seen`.

    It is no gate: an administrator who passes `foreign-system` means what was there before the run.

    Raises:
        ActivationError: another hand is at it just now, or may be (ACTIVATION_BUSY).
        HostError: the links cannot be read.
    """
    is_running = await ports.systemd.is_activating()
    if is_running is not False:
        what = (
            "an activation that this run has not started is running"
            if is_running
            else "systemd does not say whether an activation is running"
        )
        raise ActivationError(Kind.ACTIVATION_BUSY, what, hint="the next run tries again")
    now = ports.host.systems()
    for what, before, after in (
        (current_of(is_home=ports.systemd.has_host_below), seen.running, now.running),
        ("profile", seen.profile, now.profile),
    ):
        if before != after:
            reason = (
                f"the {what} was {before or 'unknown'} when this run began, and is"
                f" {after or 'unknown'} now, which this run has not brought here"
            )
            return foreign_system.GATE.name, reason
    return None


def find_foreign(ports: FactPorts, waiting: StorePath | None = None) -> Foreign | None:
    """Return the system that the agent has not brought here, None where it knows all.

    Before the agent has marked anything there is nothing to compare with. The system that is
    `waiting` for its reboot is not foreign to that reboot, however it came into the profile.
    """
    marks, systems = ports.marks.read(), ports.host.systems()
    if not marks.known:
        return None
    ours = [*marks.known, *((waiting,) if waiting else ())]
    known = {path for mark in ours for path in ports.host.equivalents(mark)}
    if systems.booted is not None and marks.staged is not None and marks.staged == marks.confirmed:
        # It lost its power while it was confirmed, and has booted the one confirmed before.
        known.add(systems.booted)
    current = current_of(is_home=ports.systemd.has_host_below)
    for what, path in ((current, systems.running), ("profile", systems.profile)):
        if path is not None and path not in known:
            return Foreign(what, path, ports.host.changed_at() or ports.clock.now())
    default = ports.loader.default()
    if default is None or default in known or _is_remembered(ports, default):
        return None
    return Foreign("boot default", default, ports.host.changed_at() or ports.clock.now())


def knows_systems(ports: FactPorts, builds: Iterable[StorePath], taken: TakenBuild | None) -> bool:
    """Whether the agent knows what runs and what the profile is.

    It knows the outputs of `builds`, and what it has brought here. What it has adopted it knows
    until it has brought something itself: then nobody can say when, and after which build, it came.
    """
    marks, systems = ports.marks.read(), ports.host.systems()
    brought = (
        mark
        for mark in marks.known
        if (taken is not None and mark == taken.toplevel) or _is_remembered(ports, mark)
    )
    known = {path for one in (*builds, *brought) for path in ports.host.equivalents(one)}
    return systems.running in known and systems.profile in known


def _is_remembered(ports: FactPorts, path: StorePath) -> bool:
    """Whether the agent has brought that system, or had it here before one that it brought.

    A loader that could not be written has what was there before. Neither a history that cannot be
    read nor one in which the agent has changed nothing proves that anybody was here since.
    """
    try:
        rows = ports.journal.runs(_ROWS_OF_SYSTEMS)
    except JournalError:
        return True
    acts = [row for row in rows if row.previous is not None]
    return not acts or any(path in (row.toplevel, row.previous) for row in acts)


def find_unexpected(ports: FactPorts, systems: Systems) -> Foreign | None:
    """Return the booted system, if it runs and is neither the profile's nor to be left for it."""
    marks = ports.marks.read()
    booted, profile = systems.booted, systems.profile
    if booted is None or profile is None or booted != systems.running:
        return None
    if profile == marks.staged or booted in ports.host.equivalents(profile):
        return None
    since, changed = ports.host.booted_at(), ports.host.changed_at()
    if since is None or (changed is not None and changed > since):
        return None  # the profile has moved after the boot
    return Foreign("booted system", booted, since)


async def forget_what_is_gone(ports: FactPorts) -> None:
    """Note what is not there any more, also in runs that ask no gate: if it comes, it is new.

    Raises:
        HostError: marks or links cannot be read.
    """
    forget_others(ports, foreign_system.GATE.name, find_foreign(ports))
    forget_others(ports, booted_unexpected.GATE.name, find_unexpected(ports, ports.host.systems()))
    if lacked_time(ports):
        await ask_clock(ports, keeps=True)
