"""A world in which the upgrade from `OLD` to `NEW` waits to be confirmed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agent.application.act.recover import record_of
from agent.application.run import begin, carry_out
from agent.domain.confirmation import Baseline
from agent.domain.errors import JournalError, Kind
from agent.domain.marks import Mark
from agent.domain.policy import Action

from .runs import a_run
from .samples import OLD
from .systemd import Armed
from .world import CACHE, WATCHFUL, World, system

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.application.ports import Ports
    from agent.application.report import Report, Result
    from agent.application.run import Run, RunSettings
    from agent.domain.policy import Policy

NEW = system(1)
STRANGE = system(7)
"""What a person has brought here."""
WELL = Baseline({"service": True}, frozenset(), hydra=True, outside_world=True, clock=True)
FULL = JournalError(Kind.STATE_FULL, "no room")


def pending_world(action: Action = Action.SWITCH, **facts: Any) -> World:
    """Return a world right after the activation; `facts` are of its row in the history."""
    world = World()
    world.publish(1, NEW)
    world.nix.caches = (CACHE,)
    world.host.activate(action, NEW)
    world.marks.set(Mark.CONFIRMED, OLD)
    world.marks.set(Mark.PENDING, NEW)
    world.systemd.timer = Armed(timedelta(minutes=40), "run-0", NEW)
    given: dict[str, Any] = {
        "outcome": "pending",
        "finished_at": None,
        "action": action,
        "build_id": 1,
        "toplevel": NEW,
        "previous": OLD,
        "baseline": WELL.serialise(),
    }
    world.journal.record(a_run(0, **(given | facts)))
    return world


def carry_out_with(
    world: World,
    body: Callable[[Run], Awaitable[Result]],
    policy: Policy = WATCHFUL,
    *,
    about_the_upgrade: bool = True,
    **asked: Any,
) -> Report:
    """Let one run do `body`; it goes on with the row of the upgrade unless told not to."""

    async def use_case(ports: Ports, policy: Policy, settings: RunSettings) -> Report:
        run = begin(ports, policy, settings)
        if about_the_upgrade:
            run.record = record_of(run, NEW)
        return await carry_out(run, body)

    return world.carry_out(use_case, policy, **asked)


def row_of_upgrade(world: World) -> Any:
    """Return the row that the upgrade has in the history."""
    return next(row for row in world.journal.rows if row.run_id == "run-0")
