"""Builds and activates homes, by nix and the activation package's own script.

Not by `home-manager switch`: it passes `--no-update-lock-file` on to nix, but after the activation
it builds the configuration's news, and fails if that fails. Where nothing may be built locally no
switch would ever succeed (the program `home-manager`, `doSwitch` and `presentNews`). What it
does before that is done here: build, set the profile, run `activate`.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from agent.adapters.nix.environment import confinement
from agent.adapters.nix.program import NIX, run_nix, store_path_of
from agent.adapters.nix.source_faults import build_fault
from agent.application.ports import ActivationExit, NixosRebuild
from agent.domain.errors import HostError, Kind, NixError
from agent.domain.nix_options import split_flags
from agent.domain.store_path import parse_store_path
from agent.domain.target import HOME_MANAGER

if TYPE_CHECKING:
    from agent.adapters.process import Runner
    from agent.application.ports import Profile, Systemd
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.origin import UrlPrefix
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath


class HomeManagerCommand(NixosRebuild):
    """What nixos-rebuild is for a system, for a home.

    `settings` are options of `nix build`; `build_deadline` is in seconds.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        profile: Profile,
        systemd: Systemd,
        settings: tuple[str, ...],
        build_deadline: float,
        store_dir: str,
        allow_insecure: tuple[UrlPrefix, ...] = (),
    ) -> None:
        self._runner = runner
        self._confinement = confinement(runner.environment, settings, allow_insecure)
        self._profile = profile
        self._systemd = systemd
        self._settings = split_flags(settings).arguments
        self._build_deadline = build_deadline
        self._store_dir = store_dir

    @override
    def sweep(self) -> None:
        """Do nothing: builds of homes leave no link."""

    @override
    async def build(self, flake: LockedFlakeReference, host: str) -> StorePath:
        installable = f"{flake}#{HOME_MANAGER.toplevel_of(host)}"
        options = ("--no-link", "--json", "--no-update-lock-file", *self._settings)
        argv = (*NIX, "build", installable, *options)
        done = await run_nix(
            self._runner, argv, deadline=self._build_deadline, env=self._confinement
        )
        if done.returncode != 0:
            raise build_fault(f"nix build of {host} of {flake}", done)
        return self._built(done.stdout)

    @override
    async def activate_flake(
        self,
        action: Action,
        flake: LockedFlakeReference,
        host: str,
        specialisation: str | None = None,
    ) -> ActivationExit:
        path = await self.build(flake, host)
        return await self.activate_store_path(action, path, specialisation)

    @override
    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        if action.moves_profile:
            try:
                await self._profile.set(path)
            except HostError as error:
                return ActivationExit(1, error.message)
        return await self._systemd.activate(self._specialised(path, specialisation), action)

    def _specialised(self, path: StorePath, name: str | None) -> StorePath:
        if name is None:
            return path
        special = os.path.realpath(f"{path}/specialisation/{name}")
        return parse_store_path(special, self._store_dir) or path

    def _built(self, output: str) -> StorePath:
        try:
            answer: Any = json.loads(output)
            text = answer[0]["outputs"]["out"]
        except (ValueError, LookupError, TypeError) as error:
            message = f"nix build printed {output[:200]!r}"
            raise NixError(Kind.NIX_NONSENSE, message) from error
        return store_path_of(text, self._store_dir, "nix built")
