"""The ports: what the use cases need of the world. Adapters implement them, and so do the fakes.

Every port that can fail raises the `AgentError` its docstring names, and nothing else.

Below they are gathered by what each side of the agent may reach. The side that watches talks to the
world and decides; of the host it only reads. The side that acts changes the host, and knows neither
Hydra nor the health checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.application.ports.host import (
    Host,
    HostFacts,
    Loader,
    LoaderFacts,
    Logind,
    MarkReader,
    MarkStore,
    Profile,
    Sessions,
    SystemSettings,
)
from agent.application.ports.hydra import Hydra, Outlook, Pending
from agent.application.ports.journal import GoodBuilds, IdleNote, Journal, JournalReader, Sightings
from agent.application.ports.lock import Lock, WaitReason
from agent.application.ports.nix import (
    ActivationExit,
    Fetched,
    Nix,
    NixEvaluation,
    NixosRebuild,
    Progress,
    Resolver,
)
from agent.application.ports.probes import Prober
from agent.application.ports.run import Clock, EventSink
from agent.application.ports.systemd import Systemd, UnitStates, UnitStatus
from agent.domain.run_record import RunRecord

__all__ = [
    "ActivationExit",
    "Clock",
    "ConfirmPorts",
    "EventSink",
    "FactPorts",
    "Fetched",
    "GoodBuilds",
    "Host",
    "HostFacts",
    "HostPorts",
    "Hydra",
    "IdleNote",
    "Journal",
    "JournalReader",
    "Loader",
    "LoaderFacts",
    "Lock",
    "Logind",
    "MarkReader",
    "MarkStore",
    "Nix",
    "NixEvaluation",
    "NixosRebuild",
    "Outlook",
    "Pending",
    "Ports",
    "ProbePorts",
    "Prober",
    "Profile",
    "Progress",
    "Resolver",
    "RunRecord",
    "Sessions",
    "Sightings",
    "SystemSettings",
    "Systemd",
    "UnitStates",
    "UnitStatus",
    "WaitReason",
    "WatchPorts",
]


@dataclass(frozen=True, kw_only=True)
class FactPorts:
    """What both sides can find out about the host, and change nothing by it."""

    clock: Clock
    sink: EventSink
    resolver: Resolver
    nix: NixEvaluation
    host: HostFacts
    marks: MarkReader
    journal: JournalReader
    systemd: UnitStates
    logind: Sessions
    loader: LoaderFacts
    system_settings: SystemSettings
    sightings: Sightings


@dataclass(frozen=True, kw_only=True)
class ProbePorts(FactPorts):
    """The same, and the health checks."""

    prober: Prober


@dataclass(frozen=True, kw_only=True)
class WatchPorts(ProbePorts):
    """The world, and what can be found out about the host."""

    hydra: Hydra
    good_builds: GoodBuilds


@dataclass(frozen=True, kw_only=True)
class HostPorts(FactPorts):
    """The host, and nothing of the world but what nix fetches."""

    nix: Nix
    host: Host
    marks: MarkStore
    journal: Journal
    systemd: Systemd
    logind: Logind
    loader: Loader
    nixos_rebuild: NixosRebuild
    profile: Profile
    lock: Lock
    progress: Progress
    idle_note: IdleNote


@dataclass(frozen=True, kw_only=True)
class ConfirmPorts(HostPorts, ProbePorts):
    """The host, and the checks that judge what was activated."""


@dataclass(frozen=True, kw_only=True)
class Ports(ConfirmPorts, WatchPorts):
    """Both, for the commands that do all in one process."""
