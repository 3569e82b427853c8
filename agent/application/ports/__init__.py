"""The ports: what the use cases need of the world. Adapters implement them, and so do the fakes.

Every port that can fail raises the `AgentError` its docstring names, and nothing else.
"""

from agent.application.ports.host import Host, Loader, Logind, MarkStore, Profile, SystemSettings
from agent.application.ports.hydra import Hydra, Outlook, Pending
from agent.application.ports.journal import (
    Agenda,
    IdleNote,
    Journal,
    RunRecord,
    Sightings,
)
from agent.application.ports.lock import Lock, Wait
from agent.application.ports.nix import (
    ActivationExit,
    Fetched,
    Nix,
    NixosRebuild,
    Progress,
    Resolver,
)
from agent.application.ports.probes import Prober
from agent.application.ports.run import Clock, EventSink
from agent.application.ports.sides import Ports
from agent.application.ports.systemd import Systemd, UnitStatus

__all__ = [
    "ActivationExit",
    "Agenda",
    "Clock",
    "EventSink",
    "Fetched",
    "Host",
    "Hydra",
    "IdleNote",
    "Journal",
    "Loader",
    "Lock",
    "Logind",
    "MarkStore",
    "Nix",
    "NixosRebuild",
    "Outlook",
    "Pending",
    "Ports",
    "Prober",
    "Profile",
    "Progress",
    "Resolver",
    "RunRecord",
    "Sightings",
    "SystemSettings",
    "Systemd",
    "UnitStatus",
    "Wait",
]
