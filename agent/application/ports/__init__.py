"""The ports: what the use cases need of the world. Adapters implement them, and so do the fakes.

Every port that can fail raises the `AgentError` its docstring names, and nothing else.
"""

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
from agent.application.ports.journal import (
    Agenda,
    AgendaReader,
    GoodBuilds,
    IdleNote,
    Journal,
    JournalReader,
    Sightings,
)
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
from agent.application.ports.sides import (
    ConfirmPorts,
    FactPorts,
    HostPorts,
    Ports,
    ProbePorts,
    WatchPorts,
)
from agent.application.ports.systemd import Systemd, UnitStates, UnitStatus
from agent.domain.run_record import RunRecord

__all__ = [
    "ActivationExit",
    "Agenda",
    "AgendaReader",
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
