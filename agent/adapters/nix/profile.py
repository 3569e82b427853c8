"""The system profile: its generations, by nix-env."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process import ProgramMissingError
from agent.application.ports import Profile
from agent.domain.errors import HostError, Kind
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from pathlib import Path

    from agent.adapters.process import Runner
    from agent.domain.store_path import StorePath

_TIMEOUT: Final = 300.0


class SystemProfile(Profile):
    """Changes a profile such as `/nix/var/nix/profiles/system`."""

    def __init__(self, runner: Runner, profile: Path, store_dir: Path) -> None:
        self._runner = runner
        self._profile = profile
        self._store_dir = str(store_dir)

    @override
    async def set(self, toplevel: StorePath) -> None:
        # nix-env needs room on the disk. Where it fails, an older generation of `toplevel` becomes
        # the present one instead: a link and a rename need none.
        if self._system() == toplevel:
            return
        try:
            await self._nix_env("--set", toplevel)
        except HostError:
            if not self._return_to(toplevel):
                raise

    @override
    async def remove_generations(self, toplevel: StorePath) -> int:
        present = self._present()
        found = [
            str(number)
            for number, path in self._generations().items()
            if path == toplevel and number != present
        ]
        if found:
            await self._nix_env("--delete-generations", *found)
        return len(found)

    @override
    def generation_before(self) -> StorePath | None:
        present = self._present()
        older = [number for number in self._generations() if number < present]
        return self._generations()[max(older)] if older else None

    def _return_to(self, toplevel: StorePath) -> bool:
        """Make the newest generation that is `toplevel` the present one, as nix-env names links."""
        found = [number for number, path in self._generations().items() if path == toplevel]
        if not found:
            return False
        new = self._profile.with_name(f".{self._profile.name}.new")
        try:
            new.unlink(missing_ok=True)
            new.symlink_to(f"{self._profile.name}-{max(found)}-link")
            new.replace(self._profile)
        except OSError:
            return False
        return True

    async def _nix_env(self, *arguments: str) -> None:
        argv = ("nix-env", "-p", str(self._profile), *arguments)
        try:
            done = await self._runner.run(argv, timeout=_TIMEOUT)
        except ProgramMissingError as error:
            raise HostError(Kind.ROLL_BACK_FAILED, str(error)) from error
        if done.returncode != 0:
            what = f"cannot change the profile {self._profile}: {done.last_line}"
            raise HostError(Kind.ROLL_BACK_FAILED, what)

    def _system(self) -> str:
        return os.path.realpath(self._profile)

    def _present(self) -> int:
        try:
            return self._number(self._profile.readlink().name)
        except OSError:
            return 0

    def _number(self, name: str) -> int:
        found = re.fullmatch(rf"{re.escape(self._profile.name)}-([0-9]{{1,9}})-link", name)
        return int(found[1]) if found else 0

    def _generations(self) -> dict[int, StorePath]:
        found = {}
        for link in self._profile.parent.glob(f"{self._profile.name}-*-link"):
            number = self._number(link.name)
            path = parse_store_path(os.path.realpath(link), self._store_dir)
            if number and path is not None:
                found[number] = path
        return found
