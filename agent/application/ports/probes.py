"""The port that runs health checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.domain.check import Check, CheckResult


class Prober(Protocol):
    """Runs health checks."""

    def room_for(self, check: Check) -> AbstractAsyncContextManager[None]:
        """Wait until `check` may run: sockets are limited. Its time begins inside.

        What it needs is loaded by the call, not within: it takes no time from others. Never raises.
        """

    async def probe(self, check: Check) -> CheckResult:
        """Return the result of one check; never raises, never takes longer than its timeout."""
