"""The activations that the agent starts: they are remembered, and the only ones it stops."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.row import try_commit
from agent.domain.activation_unit import NOT_BEGUN, ActivationSeen, is_ours
from agent.domain.errors import ActivationError, Kind
from agent.domain.run_record import altered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.application.ports import HostPorts, RunRecord
    from agent.application.run import Run
    from agent.domain.store_path import StorePath

_POLL = 1.0


class Invocation:
    """The activation that a row is about, as systemd knows it; `row` says which it is."""

    def __init__(self, ports: HostPorts, row: RunRecord) -> None:
        self._ports = ports
        self.row = row

    @asynccontextmanager
    async def noted(self, toplevel: StorePath) -> AsyncIterator[None]:
        """Write the InvocationID of the activation of `toplevel` into the row, once it has begun.

        Nothing that goes wrong with that ends the activation.
        """

        async def note() -> None:
            paths = self._ports.host.equivalents(toplevel)
            self._note(await self._ports.systemd.begun(paths))

        task = asyncio.create_task(note())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def disown(self) -> None:
        """Note that the activation was refused: what was seen in its place is another's."""
        self._note(NOT_BEGUN)

    def _note(self, invocation: str) -> None:
        self.row = altered(self.row, invocation=invocation)
        try_commit(self._ports.journal, self._ports.sink, self.row)


def is_own(run: Run, row: RunRecord, toplevel: StorePath, seen: ActivationSeen) -> bool:
    """Return whether an activation is proven to be of the upgrade to `toplevel`, or its roll-back.

    `row` is the upgrade's.
    """
    host, marks = run.ports.host, run.ports.marks.read()
    paths = host.equivalents(toplevel)
    if toplevel == marks.left and marks.confirmed is not None:
        paths |= host.equivalents(marks.confirmed)
    return is_ours(seen, paths, row.invocation)


async def stop_own(run: Run, row: RunRecord, toplevel: StorePath) -> None:
    """Stop the activation that is running if it is proven to be our own, and nothing else."""
    seen = await run.ports.systemd.activation()
    if is_own(run, row, toplevel, seen):
        run.ports.sink.emit(events.ACTIVATION_STOPPED)
        await run.ports.systemd.stop_activation(seen.invocation)


async def make_way(run: Run, row: RunRecord, toplevel: StorePath) -> None:
    """Stop an own activation that hangs, and wait for anybody else's to end.

    If it is unknown whether there is one, the caller goes on: systemd and switch-to-configuration
    themselves refuse a second one.

    Raises:
        ActivationError: ACTIVATION_BUSY, if it goes on for longer than any activation may.
    """
    ports = run.ports
    if not await ports.systemd.is_activating():
        return
    await stop_own(run, row, toplevel)
    end = ports.clock.elapsed() + run.policy.activate_deadline.total_seconds()
    while await ports.systemd.is_activating():
        if ports.clock.elapsed() >= end:
            raise ActivationError(
                Kind.ACTIVATION_BUSY,
                f"an activation that this agent has not started, or cannot stop, has been running"
                f" for {run.policy.activate_deadline.total_seconds():g} s",
                hint="the agent tries again; `systemctl status"
                " nixos-rebuild-switch-to-configuration` shows what it does",
            )
        await ports.clock.sleep(_POLL)
