"""Sessions and inhibitors in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Logind

if TYPE_CHECKING:
    from agent.domain.reboot import Inhibitor


class FakeLogind(Logind):
    """Says what a test sets, None where nothing is known, and keeps what was told to people."""

    def __init__(self) -> None:
        self.inhibiting: tuple[Inhibitor, ...] | None = ()
        self.logged_in: tuple[str, ...] | None = ()
        self.told: list[str] = []

    @override
    async def inhibitors(self) -> tuple[Inhibitor, ...] | None:
        return self.inhibiting

    @override
    async def people(self) -> tuple[str, ...] | None:
        return self.logged_in

    @override
    async def notify_users(self, text: str) -> None:
        self.told.append(text)
