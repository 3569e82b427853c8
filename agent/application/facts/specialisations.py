"""Which specialisation of a system runs, is to run, and is gone back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.application.ports import FactPorts
    from agent.application.run import Run
    from agent.domain.store_path import StorePath


def running_specialisation(ports: FactPorts) -> str | None:
    """Return the name of the specialisation that runs; None for a system as such, or if unknown.

    It is looked for in the profile and in what the agent has marked, then in older generations.
    """
    systems = ports.host.systems()
    running, profile = systems.running, systems.profile
    if running in (None, profile):
        return None
    known = ports.marks.read().known | ({profile} if profile else set())
    for toplevel in sorted(known):
        for name, path in sorted(ports.host.specialisations(toplevel).items()):
            if path == running:
                return name
    return ports.host.specialisation_name(running) if running else None


def wanted_specialisation(run: Run[FactPorts]) -> str | None:
    """Return which specialisation is to run: the settings' choice, or the one that runs now."""
    chosen = run.policy.specialisation
    return running_specialisation(run.ports) if chosen is None else chosen or None


def as_specialised(ports: FactPorts, toplevel: StorePath, name: str | None) -> StorePath | None:
    """Return what runs when `toplevel` does as `name`; None where it has no such specialisation."""
    return toplevel if name is None else ports.host.specialisations(toplevel).get(name)


def specialisation_of(run: Run[FactPorts], toplevel: StorePath) -> str | None:
    """Return which specialisation of a system is to run; None for the system as such."""
    name = wanted_specialisation(run)
    return name if name in run.ports.host.specialisations(toplevel) else None


def as_it_runs(run: Run[FactPorts], toplevel: StorePath) -> StorePath:
    """Return what of a system is to run: itself, or its specialisation of the wanted name."""
    return as_specialised(run.ports, toplevel, specialisation_of(run, toplevel)) or toplevel


def previous_system(run: Run[FactPorts], confirmed: StorePath) -> StorePath:
    """Return what ran before an upgrade: the confirmed system, or a specialisation of it.

    The upgrade's row in the history says so, or what is noted beside the marks.
    """
    for path in (confirmed, *run.ports.host.specialisations(confirmed).values()):
        if path == run.record.previous:
            return path
    return noted_specialisation(run.ports, confirmed)


def noted_specialisation(ports: FactPorts, confirmed: StorePath) -> StorePath:
    """Return what ran as far as the note beside the marks says; without one, as what runs now.

    An agent that leaves no note has kept nothing: what runs is then the only name there is.
    """
    noted = ports.marks.specialisation()
    name = running_specialisation(ports) if noted is None else noted
    return ports.host.specialisations(confirmed).get(name or "", confirmed)
