"""Puts the parts together: settings become adapters, and adapters the ports of the use cases."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from agent.adapters.clock import SystemClock
from agent.adapters.hydra.client import HydraClient
from agent.adapters.nix.commands import NixCommand
from agent.adapters.nix.profile import SystemProfile
from agent.adapters.process import Runner
from agent.adapters.resolver import SystemResolver
from agent.adapters.state.good_builds import SqliteGoodBuilds
from agent.adapters.state.idle_note import IdleNote
from agent.adapters.state.journal import SqliteJournal
from agent.adapters.state.lock import FileLock
from agent.adapters.state.sightings import SightingFiles
from agent.adapters.systemd.logind import LogindCommands
from agent.application.ports import FactPorts, HostPorts, Ports, WatchPorts
from agent.checks.prober import Probes
from agent.config.load import DEFAULT_FILE
from agent.config.of_system import SystemSettings
from agent.config.policy import policy_of
from agent.domain.target import TARGETS
from agent.lean.hydra_session import FILE as SESSION_FILE
from agent.lean.hydra_session import Session
from agent.wiring.target import PARTS, TargetContext, runtime_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.application.ports import EventSink, Progress
    from agent.config.settings import Settings


def dead_man_command(config_file: Path) -> tuple[str, ...]:
    """Return the command line of this very agent's dead-man.

    On NixOS program and settings are paths of the running system, which the mark `confirmed` keeps
    from the garbage collector; after the switch the usual names lead to the new system's.
    """
    program = os.path.realpath(sys.argv[0])
    is_module = program.endswith(".py")
    agent = (sys.executable, "-m", "agent") if is_module else (program,)
    if not config_file.exists():
        return (*agent, "dead-man")
    return (*agent, "dead-man", "--config", os.path.realpath(config_file))


def host_ports(
    settings: Settings,
    sink: EventSink,
    progress: Progress,
    *,
    fingerprint: str | None = None,
    config_file: Path | None = None,
) -> HostPorts:
    """Return the ports of the side that changes the host; it knows no way to Hydra.

    `fingerprint` is of where the settings came from, for the idle path's note; `config_file` is
    what the dead-man will read, None for the usual place.
    """
    paths, fetch = settings.paths, settings.fetch
    clock = SystemClock()
    runner = Runner(sink, clock, runtime_directory(settings))
    target = TARGETS[settings.target]
    profile = SystemProfile(runner, paths.profile, paths.store_dir)
    dead_man = dead_man_command(config_file or DEFAULT_FILE)
    parts = PARTS[settings.target](TargetContext(settings, runner, profile, dead_man))
    return HostPorts(
        clock=clock,
        sink=sink,
        nix=NixCommand(
            runner,
            store_dir=str(paths.store_dir),
            gc_root=paths.marks_dir / "candidate",
            substituters=fetch.substituters,
            trusted_public_keys=fetch.trusted_public_keys,
            local_builds=fetch.local_builds,
            flags=settings.flags,
            deadline=fetch.deadline.total_seconds(),
            target=target,
            allow_insecure=settings.trust.allow_insecure,
        ),
        resolver=SystemResolver(runner.environment),
        nixos_rebuild=parts.rebuild,
        host=parts.host,
        marks=parts.marks,
        systemd=parts.systemd,
        logind=LogindCommands(runner),
        loader=parts.loader,
        system_settings=SystemSettings(settings, config_file or DEFAULT_FILE, target.units),
        sightings=SightingFiles(paths.marks_dir),
        profile=profile,
        journal=SqliteJournal(paths.state_dir, sink),
        lock=FileLock(paths.state_dir),
        progress=progress,
        idle_note=IdleNote(
            state_dir=paths.state_dir,
            marks_dir=paths.marks_dir,
            job=policy_of(settings).job,
            select=settings.hydra.select,
            host=settings.host,
            current_system=paths.current_system,
            booted_system=paths.booted_system if target.may_reboot else None,
            profile=paths.profile,
            timeout=settings.hydra.timeout,
            interval=settings.hydra.refresh,
            is_logged=settings.log.level in ("debug", "info"),
            fingerprint=fingerprint,
        ),
    )


@asynccontextmanager
async def open_watch_ports(
    settings: Settings,
    sink: EventSink,
    facts: FactPorts,
    *,
    keeps_session: bool = False,
) -> AsyncIterator[WatchPorts]:
    """Yield the ports of the side that talks to the world; connections are closed at the end."""
    async with (
        HydraClient(
            settings.hydra.instance,
            timeout=settings.hydra.timeout.total_seconds(),
            deadline=settings.hydra.deadline.total_seconds(),
            sink=sink,
            clock=facts.clock,
            session=Session(
                settings.hydra.instance,
                str(settings.paths.state_dir / SESSION_FILE),
                is_kept=keeps_session,
            ),
        ) as hydra,
        Probes() as prober,
    ):
        known = {field.name: getattr(facts, field.name) for field in fields(FactPorts)}
        good_builds = SqliteGoodBuilds(settings.paths.state_dir, sink)
        yield WatchPorts(**known, hydra=hydra, prober=prober, good_builds=good_builds)


@asynccontextmanager
async def open_ports(
    settings: Settings,
    sink: EventSink,
    progress: Progress,
    *,
    fingerprint: str | None = None,
    config_file: Path | None = None,
) -> AsyncIterator[Ports]:
    """Yield the ports of both sides, for one process; see `host_ports` for the arguments."""
    host = host_ports(settings, sink, progress, fingerprint=fingerprint, config_file=config_file)
    is_kept = fingerprint is not None
    async with open_watch_ports(settings, sink, host, keeps_session=is_kept) as watch:
        yield Ports(
            **vars(host), hydra=watch.hydra, prober=watch.prober, good_builds=watch.good_builds
        )
