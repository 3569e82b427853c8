"""The boot loader: the system that it starts by default, and one that it starts just once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.boot.entries import GrubEntries, SystemdBootEntries
from agent.application.ports import Loader

if TYPE_CHECKING:
    from pathlib import Path

    from agent.adapters.process import Runner
    from agent.domain.store_path import StorePath

_TIMEOUT: Final = 60.0
_PROGRAMS: Final = {"systemd-boot": "bootctl", "grub": "grub-reboot"}


class BootLoader(Loader):
    """Asks the files below `boot`, and changes it by its own commands.

    What is never booted has no `boot`, and no loader.
    """

    def __init__(self, runner: Runner, *, boot: Path | None, store_dir: Path) -> None:
        self._runner = runner
        self._boot = boot
        kinds = (SystemdBootEntries, GrubEntries)
        self._known = [kind(boot, str(store_dir)) for kind in kinds if boot is not None]

    @override
    def fallback(self, toplevel: StorePath | None = None) -> str | None:
        # Which one is the default has to be clear: with a pattern (lanzaboote's `default nixos-*`),
        # or with the choice of the last boot, nobody can keep it on one system.
        entries = self._entries()
        default = entries.default() if entries else None
        if entries is None or default is None or entries.entry_of(toplevel or default) is None:
            return None
        path = self._runner.environment.get("PATH")
        return entries.name if shutil.which(_PROGRAMS[entries.name], path=path) else None

    @override
    def default(self) -> StorePath | None:
        entries = self._entries()
        return entries.default() if entries else None

    @override
    def can_be_default(self, toplevel: StorePath) -> bool:
        # What GRUB starts by default its installer alone decides, and that knows generations only.
        entries = self._entries()
        is_known = isinstance(entries, SystemdBootEntries)
        return is_known and entries is not None and entries.entry_of(toplevel) is not None

    @override
    async def make_default(self, toplevel: StorePath) -> bool:
        # NixOS's installer does so for generations only, not for their specialisations.
        entries = self._entries()
        if not isinstance(entries, SystemdBootEntries) or not entries.make_default(toplevel):
            return False
        await self.forget_choices()
        return entries.default() == toplevel

    @override
    async def boot_once(self, toplevel: StorePath) -> bool:
        # A default that someone has chosen in the loader's menu (systemd-boot keeps it in a
        # variable, for ever) would stand above the one in its files: it is removed.
        entries = self._entries()
        entry = entries.entry_of(toplevel) if entries else None
        if entries is None or entry is None:
            return False
        if entries.name == "grub":
            return await self._run("grub-reboot", f"--boot-directory={self._boot}", entry)
        await self.forget_choices()
        return await self._run("bootctl", "set-oneshot", entry)

    @override
    async def forget_once(self) -> None:
        # An empty word removes systemd-boot's variable (bootctl(1)); grub-reboot(8) writes
        # `next_entry` into the environment block.
        entries = self._entries()
        if entries is None:
            return
        if entries.name == "grub":
            block = f"{self._boot}/grub/grubenv"
            await self._run("grub-editenv", block, "unset", "next_entry")
        else:
            await self._run("bootctl", "set-oneshot", "")

    @override
    async def forget_choices(self) -> None:
        entries = self._entries()
        if entries is not None and entries.name == "systemd-boot":
            await self._run("bootctl", "set-default", "")

    @override
    async def bless(self) -> None:
        # systemd-bless-boot(8): it takes the counter from the entry's name.
        entries = self._entries()
        if isinstance(entries, SystemdBootEntries) and entries.are_counted():
            await self._run("systemctl", "--no-block", "start", "systemd-bless-boot.service")

    def _entries(self) -> SystemdBootEntries | GrubEntries | None:
        """Return the files of the loader; None where there are none, or those of two."""
        found = [entries for entries in self._known if entries.are_there()]
        return found[0] if len(found) == 1 else None

    async def _run(self, *argv: str) -> bool:
        done = await self._runner.try_run(argv, timeout=_TIMEOUT)
        return done is not None and done.returncode == 0
