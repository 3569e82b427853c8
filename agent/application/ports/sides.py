"""What each side of the agent may reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.application.ports.host import (
        Host,
        Loader,
        Logind,
        MarkStore,
        Profile,
        SystemSettings,
    )
    from agent.application.ports.hydra import Hydra
    from agent.application.ports.journal import Agenda, IdleNote, Journal, Sightings
    from agent.application.ports.lock import Lock
    from agent.application.ports.nix import Nix, NixosRebuild, Progress, Resolver
    from agent.application.ports.probes import Prober
    from agent.application.ports.run import Clock, EventSink
    from agent.application.ports.systemd import Systemd


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a use case may need of the world."""

    clock: Clock
    sink: EventSink
    hydra: Hydra
    nix: Nix
    resolver: Resolver
    nixos_rebuild: NixosRebuild
    host: Host
    journal: Journal
    prober: Prober
    lock: Lock
    progress: Progress
    idle_note: IdleNote
    marks: MarkStore
    systemd: Systemd
    profile: Profile
    logind: Logind
    loader: Loader
    agenda: Agenda
    system_settings: SystemSettings
    sightings: Sightings
