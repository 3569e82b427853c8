"""The adapters that know what is upgraded: those of a host's system, and those of a user's home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.adapters.boot.loader import BootLoader
from agent.adapters.home.files import HomeFiles
from agent.adapters.home.home_manager import HomeManagerCommand
from agent.adapters.home.user_marks import UserMarks
from agent.adapters.home.user_systemd import UserSystemd
from agent.adapters.host import HostFiles
from agent.adapters.nix.commands import nix_options
from agent.adapters.nix.nixos_rebuild import NixosRebuildCommand
from agent.adapters.state.marks import MarkLinks
from agent.adapters.systemd.manager import SystemdCommands
from agent.domain.target import TargetName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.adapters.nix.profile import SystemProfile
    from agent.adapters.process import Runner
    from agent.application.ports import Host, Loader, MarkStore, NixosRebuild, Systemd
    from agent.config.settings import Settings


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What the parts are made of."""

    settings: Settings
    runner: Runner
    profile: SystemProfile
    dead_man: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetAdapters:
    """The adapters of one target."""

    marks: MarkStore
    rebuild: NixosRebuild
    host: Host
    systemd: Systemd
    loader: Loader


def _of_nixos(site: TargetContext) -> TargetAdapters:
    settings, runner = site.settings, site.runner
    paths, fetch = settings.paths, settings.fetch
    activate_deadline = settings.activate.deadline.total_seconds()
    return TargetAdapters(
        marks=MarkLinks(paths.marks_dir, paths.store_dir),
        rebuild=NixosRebuildCommand(
            runner,
            scratch=paths.state_dir,
            flags=settings.flags,
            local_builds=fetch.local_builds,
            substituters=fetch.substituters,
            trusted_public_keys=fetch.trusted_public_keys,
            build_deadline=fetch.deadline.total_seconds(),
            activate_deadline=activate_deadline,
            store_dir=str(paths.store_dir),
            allow_insecure=settings.trust.allow_insecure,
        ),
        host=HostFiles(
            runner,
            current_system=paths.current_system,
            booted_system=paths.booted_system,
            profile=paths.profile,
            store_dir=paths.store_dir,
            boot=paths.boot,
        ),
        systemd=SystemdCommands(
            runner,
            dead_man=site.dead_man,
            activate_deadline=activate_deadline,
            run_dir=paths.current_system.parent,
        ),
        loader=BootLoader(runner, boot=paths.boot, store_dir=paths.store_dir),
    )


def _of_home_manager(site: TargetContext) -> TargetAdapters:
    settings, runner = site.settings, site.runner
    paths, fetch = settings.paths, settings.fetch
    marks = UserMarks(paths.marks_dir, paths.store_dir, runner.environment)
    systemd = UserSystemd(
        runner,
        dead_man=site.dead_man,
        activate_deadline=settings.activate.deadline.total_seconds(),
        run_dir=Path(runner.environment["XDG_RUNTIME_DIR"]),
        current_home=paths.current_system,
        left=lambda: marks.read().left,
    )
    options = nix_options(
        fetch.substituters, fetch.trusted_public_keys, local_builds=fetch.local_builds
    )
    return TargetAdapters(
        marks=marks,
        rebuild=HomeManagerCommand(
            runner,
            profile=site.profile,
            systemd=systemd,
            settings=(*settings.flags, *options),
            build_deadline=fetch.deadline.total_seconds(),
            store_dir=str(paths.store_dir),
            allow_insecure=settings.trust.allow_insecure,
        ),
        host=HomeFiles(
            runner,
            current_home=paths.current_system,
            profile=paths.profile,
            store_dir=paths.store_dir,
        ),
        systemd=systemd,
        loader=BootLoader(runner, boot=None, store_dir=paths.store_dir),
    )


PARTS: Final[Mapping[TargetName, Callable[[TargetContext], TargetAdapters]]] = {
    TargetName.NIXOS: _of_nixos,
    TargetName.HOME_MANAGER: _of_home_manager,
}


def runtime_directory(settings: Settings) -> dict[str, str]:
    """Return the variable by which a user's manager is found, where a login has not set it."""
    if settings.target is TargetName.NIXOS:
        return {}
    return {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"}
