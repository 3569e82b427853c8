"""A boot loader in memory: which system is the default, and one to be started just once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Loader

from .samples import OLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.domain.store_path import StorePath


class FakeLoader(Loader):
    """Starts `once` at the next boot, if it is set, and `installed` otherwise.

    With `name` None it is none that could be set; `is_broken`: it cannot be set just now; with
    `is_silent` its default is unknown. What is `without_entry` cannot be fallen back to.

    Of specialisations, those in `entries` can be made the default.
    """

    def __init__(self) -> None:
        self.name: str | None = "systemd-boot"
        self.installed: StorePath | None = None
        self.entries: set[StorePath] = set()
        self.once: StorePath | None = None
        self.without_entry: set[StorePath | None] = set()
        self.is_broken = False
        self.is_silent = False
        self.choices_forgotten = 0
        self.blessed = 0

    @override
    def fallback(self, toplevel: StorePath | None = None) -> str | None:
        has_entry = self.default() is not None and toplevel not in self.without_entry
        return self.name if has_entry else None

    @override
    def default(self) -> StorePath | None:
        return None if self.is_silent else self.installed

    @override
    def can_be_default(self, toplevel: StorePath) -> bool:
        return self.name == "systemd-boot" and toplevel in self.entries

    @override
    async def make_default(self, toplevel: StorePath) -> bool:
        if self.is_broken or not self.can_be_default(toplevel):
            return False
        self.installed = toplevel
        return True

    @override
    async def boot_once(self, toplevel: StorePath) -> bool:
        if self.is_broken:
            return False
        self.once = toplevel
        return True

    @override
    async def forget_once(self) -> None:
        if not self.is_broken:
            self.once = None

    @override
    async def forget_choices(self) -> None:
        self.choices_forgotten += 1

    @override
    async def bless(self) -> None:
        self.blessed += 1

    def starts(self) -> StorePath | None:
        """Boot: return what is started, once or by default."""
        started, self.once = self.once or self.installed, None
        return started


class SlowLoader(FakeLoader):
    """Lets something happen while it is set to start a system once; `OLD` is its default."""

    def __init__(self, happening: Callable[[], object]) -> None:
        super().__init__()
        self.installed = OLD
        self.happening = happening

    @override
    async def boot_once(self, toplevel: StorePath) -> bool:
        self.happening()
        return await super().boot_once(toplevel)
