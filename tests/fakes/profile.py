"""The profile of a host in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import Profile

if TYPE_CHECKING:
    from agent.domain.errors import HostError
    from agent.domain.store_path import StorePath

    from .host import FakeHost


class FakeProfile(Profile):
    """Changes the generations of a `FakeHost`; while `fault` is set, no change succeeds."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self.fault: HostError | None = None

    @override
    async def set(self, toplevel: StorePath) -> None:
        if self._host.profile != toplevel:
            self._refuse()
            self._host.profile = toplevel

    @override
    async def remove_generations(self, toplevel: StorePath) -> int:
        generations, present = self._host.generations, self._host.generation
        found = [
            number for number, path in generations.items() if path == toplevel and number != present
        ]
        if found:
            self._refuse()
        for number in found:
            del generations[number]
        return len(found)

    @override
    def generation_before(self) -> StorePath | None:
        older = [n for n in self._host.generations if n < (self._host.generation or 0)]
        return self._host.generations[max(older)] if older else None

    def _refuse(self) -> None:
        if self.fault is not None:
            raise self.fault
