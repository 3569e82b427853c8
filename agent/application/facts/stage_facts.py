"""Looks up the facts of one stage for its gates: each when it is needed, and once."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from typing_extensions import override

from agent.application import events
from agent.application.facts.durations import ask_clock, forget_others, since_first_seen
from agent.application.facts.foreign import find_foreign, find_unexpected
from agent.application.facts.not_cached import aged
from agent.application.facts.run_checks import run_checks
from agent.application.facts.specialisations import wanted_specialisation
from agent.application.ports import ProbePorts
from agent.domain.errors import NixError
from agent.domain.facts import (
    NOTHING_TO_FETCH,
    AgentUnits,
    Booted,
    ClockState,
    Facts,
    Specialisations,
    SystemBelow,
)
from agent.domain.gate import Question, Stage
from agent.domain.gates import booted_unexpected, foreign_system
from agent.domain.reboot import RebootConditions
from agent.domain.unit_names import CONFIRM_UNIT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from agent.application.ports import FactPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.check import CheckResult
    from agent.domain.facts import FetchPlan, Foreign, FreeSpace
    from agent.domain.path_record import Standing, TakenBuild
    from agent.domain.pause import Pause
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath

KnownT = TypeVar("KnownT")


def _once(
    look: Callable[[StageFacts], Coroutine[Any, Any, KnownT]],
) -> Callable[[StageFacts], Coroutine[Any, Any, KnownT]]:
    """Look a fact up when it is asked for first; one that cannot be known is looked up again."""

    @wraps(look)
    async def known(facts: StageFacts) -> KnownT:
        if look.__name__ not in facts.known:
            facts.known[look.__name__] = await look(facts)
        return cast("KnownT", facts.known[look.__name__])

    return known


class StageFacts(Facts):
    """The facts of one stage of one run.

    With `keeps`, what is seen is remembered; a status and a dry run leave no traces. `taken` is the
    newest build that the host has taken or is on, where more than the history is known of that.
    """

    def __init__(
        self,
        run: Run[FactPorts],
        stage: Stage,
        toplevel: StorePath,
        candidate: Candidate | None,
        *,
        keeps: bool = True,
        taken: TakenBuild | None = None,
    ) -> None:
        self.run = run
        self.stage = stage
        self._toplevel = toplevel
        self._candidate = candidate
        self._keeps = keeps
        self._taken = taken
        self.known: dict[str, object] = {}

    def question(self) -> Question:
        """Return what a gate is asked just now."""
        now = self._ports.clock.now()
        return Question(self.stage, self._policy, self._toplevel, self._candidate, now)

    def forget(self) -> None:
        """Let every fact be looked up anew."""
        self.known.clear()

    @property
    def is_by_hand(self) -> bool:
        """Whether it is a person who asks for the reboot."""
        return self._candidate is None

    @property
    def _ports(self) -> FactPorts:
        return self.run.ports

    @property
    def _policy(self) -> Policy:
        return self.run.policy

    @override
    @_once
    async def pause(self) -> Pause | None:
        return self._ports.journal.pause(self._ports.clock.now())

    @override
    @_once
    async def system_below(self) -> SystemBelow | None:
        systemd = self._ports.systemd
        return SystemBelow(await systemd.is_host_upgrading()) if systemd.has_host_below else None

    @override
    @_once
    async def booted(self) -> Booted | None:
        systems = self._ports.host.systems()
        if systems.booted is None:
            return None
        found = find_unexpected(self._ports, systems)
        return Booted(await self._aged(booted_unexpected.GATE.name, found))

    @override
    @_once
    async def foreign(self) -> Foreign | None:
        waiting = self._toplevel if self.stage is Stage.BEFORE_REBOOT else None
        return await self._aged(foreign_system.GATE.name, find_foreign(self._ports, waiting))

    async def _aged(self, name: str, found: Foreign | None) -> Foreign | None:
        """Return what was found with the time since which it has been there, whatever the boots."""
        if self._keeps:
            forget_others(self._ports, name, found)
        if found is None:
            return None
        return await since_first_seen(self._ports, name, found, keeps=self._keeps)

    @override
    @_once
    async def standings(self) -> Sequence[Standing]:
        ports, now = self._ports, self._ports.clock.now()
        paths = [self._toplevel, *((self._candidate.toplevel,) if self._candidate else ())]
        return [ports.journal.standing_of(path, now) for path in dict.fromkeys(paths)]

    @override
    @_once
    async def newest_taken(self) -> TakenBuild | None:
        found = self._candidate
        if found is None or self._taken is not None:
            return self._taken
        return self._ports.journal.newest_taken(found.job)

    @override
    @_once
    async def clock(self) -> ClockState:
        if not self.question().schedule.windows:
            return ClockState(is_synchronised=None)
        return await ask_clock(self._ports, keeps=self._keeps)

    @override
    @_once
    async def free_space(self) -> FreeSpace:
        return self._ports.host.free_space()

    @override
    @_once
    async def fetch_plan(self) -> FetchPlan:
        if self.stage.is_late:
            return NOTHING_TO_FETCH
        try:
            return await self._ports.nix.plan_fetch(self._toplevel)
        except NixError as error:
            raise aged(error, self._candidate, self._ports.clock.now()) from error

    @override
    @_once
    async def health(self) -> Sequence[CheckResult]:
        dropped = self._ports.system_settings.dropped_canaries(self._toplevel)
        assert isinstance(self._ports, ProbePorts)  # noqa: S101 - the side that acts asks no health
        return await take_health(self._ports, self._policy, dropped)

    @override
    @_once
    async def agent_units(self) -> AgentUnits:
        host = self._ports.host
        running = host.systems().running
        return AgentUnits(
            has_it=running is not None and host.has_unit(running, CONFIRM_UNIT),
            would_have_it=host.has_unit(self._toplevel, CONFIRM_UNIT),
        )

    @override
    @_once
    async def specialisations(self) -> Specialisations:
        wanted = wanted_specialisation(self.run)
        found = () if wanted is None else self._ports.host.specialisations(self._toplevel)
        return Specialisations(wanted, sorted(found))

    @override
    @_once
    async def reboot_conditions(self) -> RebootConditions:
        logind = self._ports.logind
        seen = RebootConditions(
            plan=self._ports.journal.reboot_plan(self._toplevel),
            inhibitors=await logind.inhibitors(),
            people=await logind.people(),
        )
        return seen.as_of(self._ports.clock.now(), self._policy.reboot)


async def take_health(
    ports: ProbePorts, policy: Policy, dropped: frozenset[str] = frozenset()
) -> tuple[CheckResult, ...]:
    """Run the health checks; those that are `dropped`, only where need be.

    A canary that is to be named no more is not asked, if another check is there and well: a host is
    not held for ever by one that was taken down, nor upgraded with nothing looked at.
    """
    kept = tuple(check for check in policy.checks if check.name not in dropped)
    others = tuple(check for check in policy.checks if check.name in dropped)
    results = await run_checks(ports.prober, kept, policy.health_deadline, ports.sink)
    if others and not any(result.is_well for result in results):
        asked = await run_checks(ports.prober, others, policy.health_deadline, ports.sink)
        return (*results, *asked)
    for check in others:
        ports.sink.emit(events.CANARY_DROPPED, check=check.name, target=check.target)
    return tuple(results)
