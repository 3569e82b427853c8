"""What systems say of their own confirmation and canaries, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import SystemSettings

if TYPE_CHECKING:
    from agent.domain.policy import ConfirmPolicy
    from agent.domain.store_path import StorePath


class FakeSystemSettings(SystemSettings):
    """Knows what a test says of a system, and of others nothing."""

    def __init__(self) -> None:
        self.confirms: dict[StorePath, ConfirmPolicy] = {}
        self.dropped: dict[StorePath, frozenset[str]] = {}

    @override
    def confirm_of(self, toplevel: StorePath) -> ConfirmPolicy | None:
        return self.confirms.get(toplevel)

    @override
    def dropped_canaries(self, toplevel: StorePath) -> frozenset[str]:
        return self.dropped.get(toplevel, frozenset())
