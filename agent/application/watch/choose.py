"""Asks what the choice needs: the gates, and Hydra again about a build that is not its newest.

`upgrade`, its dry run and `status` all choose here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agent.application.facts.ask_gates import ask_gates
from agent.application.facts.foreign import knows_systems
from agent.application.watch.observe import look_again, look_at_host
from agent.domain.candidate import NO_LONGER, Candidate, RefusedBuild
from agent.domain.choose import Done, Hold, Observation, Option, Reboot, Upgrade, choose
from agent.domain.gates import registered
from agent.domain.good_builds import remember
from agent.domain.path_record import TakenBuild
from agent.domain.policy import Strategy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from agent.application.ports import WatchPorts
    from agent.application.run import Run
    from agent.domain.choose import Decision
    from agent.domain.errors import HydraError
    from agent.domain.gate import Judgement
    from agent.domain.job import Job
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

_MOST_ASKED: Final = 3
"""How many builds, besides the newest, one run asks Hydra about."""


CleanBoot = Callable[[], Awaitable[bool]]
"""Makes room on the boot partition, if it can."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a run does, about which candidate, and what it was chosen from."""

    decision: Decision
    candidate: Candidate | None
    """The one that the decision is about: the newest, if that is one, or an older one."""
    seen: Observation
    options: tuple[Option | RefusedBuild, ...]
    is_settled: bool = False
    """Whether nothing is to be upgraded, whatever the gates say."""

    @property
    def gates(self) -> list[Judgement]:
        """The judgements about the candidate, in the order of the gates."""
        own = [
            judgement
            for one in self.options
            if isinstance(one, Option) and one.candidate == self.candidate
            for judgement in one.judgements
        ]
        judgements = {judgement.gate: judgement for judgement in (*self.seen.judgements, *own)}
        return [judgements[gate] for gate in registered() if gate in judgements]

    def has_older(self, candidate: Candidate) -> bool:
        """Whether there is an older build to take if this candidate is held."""
        measure = -1 if self.seen.taken is None else self.seen.taken.build_id
        numbers = (one.build_id for one in self.options)
        return self.seen.is_known and any(
            measure < number < candidate.build_id for number in numbers
        )


async def make_choice(
    run: Run[WatchPorts],
    newest: Candidate | RefusedBuild,
    *,
    every: bool = False,
    clean_boot: CleanBoot | None = None,
) -> Choice:
    """Return what to do, given what Hydra names as its newest good build, and those seen before.

    With `every` nothing is remembered, and all gates are asked about the candidate, whatever is to
    be done; otherwise only what the decision needs, and up to the first that holds.

    Raises:
        AgentError: host or history cannot be read, or, without `every`, a gate cannot be asked, for
            a reason that is not the candidate's alone.
    """
    ports, policy = run.ports, run.policy
    known = ports.good_builds.read(policy.job)
    offered = (newest,) if isinstance(newest, Candidate) else ()
    taken = newest_taken(ports, policy.job, (*offered, *known))
    builds = remember(known, newest, taken)
    older = [one for one in builds if one.build_id < newest.build_id and _is_complete(run, one)]
    seen = replace(look_at_host(ports.host), taken=taken, ignored=run.settings.ignored_gates)
    options: list[Option | RefusedBuild] = [
        _option(ports, newest) if isinstance(newest, Candidate) else newest
    ]
    is_settled = not isinstance(choose(options, seen, policy, ports.clock.now(), ()), Upgrade)
    is_settled = is_settled and isinstance(newest, Candidate)
    if not is_settled and older:
        paths = [one.toplevel for one in (*offered, *builds)]
        seen = replace(seen, is_known=knows_systems(ports, paths, taken))
        options += [_option(ports, one) for one in older]
    choice = _choice(run, seen, options)
    if every:
        choice = await _ask(run, choice, every=True, clean_boot=None)
        return replace(choice, is_settled=is_settled)
    is_done = isinstance(choice.decision, Done)
    known = _keep(ports, policy.job, known, () if is_done else builds)
    if not is_settled:
        choice = await _ask(run, choice, every=False, clean_boot=clean_boot)
        _keep(ports, policy.job, known, _still_good(choice, builds))
    return replace(choice, is_settled=is_settled)


def newest_taken(ports: WatchPorts, job: Job, builds: Iterable[Candidate]) -> TakenBuild | None:
    """Return the newest build of `job` that this host has taken, or is on, whoever brought it here.

    `builds` are those that it may be on.
    """
    taken, systems = ports.journal.newest_taken(job), ports.host.systems()
    for one in sorted(builds, key=lambda build: build.build_id, reverse=True):
        if taken is not None and one.build_id <= taken.build_id:
            break
        if _is_here(ports, systems, one.toplevel):
            return TakenBuild(one.build_id, one.toplevel, None)
    return taken


def _is_here(ports: WatchPorts, systems: Systems, toplevel: StorePath) -> bool:
    """Whether a system runs, is the profile's or was booted.

    One that was booted does not count once it was rolled back from: only its kernel is still here.
    """
    paths = ports.host.equivalents(toplevel)
    if systems.running in paths or systems.profile in paths:
        return True
    if systems.booted not in paths:
        return False
    standing = ports.journal.standing_of(toplevel, ports.clock.now())
    return standing.denial is None and not standing.roll_backs


def _keep(
    ports: WatchPorts, job: Job, known: tuple[Candidate, ...], builds: tuple[Candidate, ...]
) -> tuple[Candidate, ...]:
    """Remember `builds` instead of what is `known`, and return them."""
    if builds != known:
        ports.good_builds.keep(job, builds)
    return builds


def _option(ports: WatchPorts, candidate: Candidate) -> Option:
    return Option(
        candidate=candidate,
        equivalents=ports.host.equivalents(candidate.toplevel),
        history=ports.journal.history_of(candidate),
        standing=ports.journal.standing_of(candidate.toplevel, ports.clock.now()),
    )


def _is_complete(run: Run[WatchPorts], candidate: Candidate) -> bool:
    """Whether nothing but the build itself is to be asked again before it is taken."""
    return run.policy.strategy is Strategy.STORE_PATH or candidate.flake is not None


def _choice(
    run: Run[WatchPorts], seen: Observation, options: Sequence[Option | RefusedBuild]
) -> Choice:
    decision = choose(options, seen, run.policy, run.ports.clock.now())
    about = options[0].candidate if isinstance(options[0], Option) else None
    if isinstance(decision, Upgrade | Reboot):
        about = decision.candidate
    return Choice(decision, about, seen, tuple(options))


async def _ask(
    run: Run[WatchPorts], choice: Choice, *, every: bool, clean_boot: CleanBoot | None
) -> Choice:
    """Ask about the candidate that would be taken, until all of one is known, or all are held.

    The caches are asked first: Hydra is not, about what is in none of them.
    """
    newest = choice.options[0].build_id
    asked: set[int] = set()
    confirmed = {newest}
    while (candidate := choice.candidate) is not None:
        number = candidate.build_id
        if isinstance(choice.decision, Reboot) and not every:
            break  # its gates are asked at the stage of the reboot
        if number not in asked:
            asked.add(number)
            judgements = await ask_gates(
                run,
                candidate,
                every=every,
                is_newest=number == newest,
                taken=choice.seen.taken,
                known=frozenset(judgement.gate for judgement in choice.seen.judgements),
                clean_boot=clean_boot,
            )
            choice = _with_answers(run, choice, judgements)
        elif number in confirmed or not isinstance(choice.decision, Upgrade):
            break
        elif len(confirmed) > _MOST_ASKED:
            newer = [one for one in choice.options if one.build_id > number]
            choice = _choice(run, choice.seen, newer)
        else:
            confirmed.add(number)
            choice = _with_option(run, choice, fault=await _look_again(run, candidate))
    return choice if every else await _past_settings(run, choice, asked, confirmed)


async def _look_again(run: Run[WatchPorts], candidate: Candidate) -> HydraError | None:
    ports = run.ports
    return await look_again(ports.hydra, ports.host, candidate, run.settings.store_dir)


def _with_answers(run: Run[WatchPorts], choice: Choice, judgements: Sequence[Judgement]) -> Choice:
    """Return the choice once gates have been asked about its candidate."""
    gates = registered()
    of_host = tuple(one for one in judgements if not gates[one.gate].is_of_candidate)
    of_candidate = tuple(one for one in judgements if gates[one.gate].is_of_candidate)
    seen = replace(choice.seen, judgements=(*choice.seen.judgements, *of_host))
    return _with_option(run, replace(choice, seen=seen), judgements=of_candidate)


def _with_option(run: Run[WatchPorts], choice: Choice, **changes: Any) -> Choice:
    """Return the choice, made anew, with `changes` to what is known of its candidate."""
    options = [
        replace(one, **changes)
        if isinstance(one, Option) and one.candidate == choice.candidate
        else one
        for one in choice.options
    ]
    return _choice(run, choice.seen, options)


async def _past_settings(
    run: Run[WatchPorts], choice: Choice, asked: Collection[int], confirmed: Collection[int]
) -> Choice:
    """Return a choice that takes a candidate although it is held: its settings may open the gate.

    That is so where nothing else holds, some other check could remain, and nobody has seen the
    candidate's settings yet. Before it is activated, the gate is asked again; Hydra is not, so that
    it is asked here.
    """
    has_other_check = len(run.policy.checks) > 1
    if not isinstance(choice.decision, Hold) or not has_other_check:
        return choice
    gates = registered()
    others = tuple(
        one for one in choice.seen.judgements if not gates[one.gate].may_open_once_fetched
    )
    past = _choice(run, replace(choice.seen, judgements=others), choice.options)
    if not isinstance(past.decision, Upgrade):
        return choice
    found = past.decision.candidate
    if found.build_id not in asked or run.ports.host.exists(found.toplevel):
        return choice
    fault = None if found.build_id in confirmed else await _look_again(run, found)
    if fault is None:
        return past
    return _with_option(run, replace(choice, candidate=found), fault=fault)


def _still_good(choice: Choice, builds: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return `builds` without those that Hydra says are good no longer."""
    gone = {
        one.build_id
        for one in choice.options
        if one.fault is not None and one.fault.kind in NO_LONGER
    }
    return tuple(one for one in builds if one.build_id not in gone)
