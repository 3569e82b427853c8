"""Asks what the choice needs: the gates, and Hydra again about a build that is not its newest.

`upgrade`, its dry run and `status` all choose here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agent.application.facts.ask_gates import ask_gates
from agent.application.watch.observe import NO_LONGER, look_again, look_at_host
from agent.domain.choose import Done, Hold, Observation, Option, Reboot, Upgrade, choose
from agent.domain.gates import registered
from agent.domain.good_builds import remember
from agent.domain.policy import Strategy

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.application.ports import WatchPorts
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.choose import Decision
    from agent.domain.errors import HydraError
    from agent.domain.gate import Judgement
    from agent.domain.job import Job

_MOST_ASKED: Final = 3
"""How many builds, besides the newest, one run asks Hydra and the caches about."""


CleanBoot = Callable[[], Awaitable[bool]]
"""Makes room on the boot partition, if it can."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a run does, about which candidate, and what it was chosen from."""

    decision: Decision
    candidate: Candidate
    """The one that the decision is about: the newest, unless an older one is taken."""
    seen: Observation
    options: tuple[Option, ...]
    is_settled: bool = False
    """Whether nothing is to be upgraded, whatever the gates say."""

    @property
    def gates(self) -> list[Judgement]:
        """The judgements about the candidate, in the order of the gates."""
        own = (one.judgements for one in self.options if one.candidate == self.candidate)
        judgements = {
            judgement.gate: judgement for judgement in (*self.seen.judgements, *next(own))
        }
        return [judgements[gate] for gate in registered() if gate in judgements]


async def make_choice(
    run: Run[WatchPorts],
    newest: Candidate,
    *,
    every: bool = False,
    clean_boot: CleanBoot | None = None,
) -> Choice:
    """Return what to do, given Hydra's newest good build, and those that were seen before.

    With `every` nothing is remembered, and all gates are asked about the candidate, whatever is to
    be done; otherwise only what the decision needs, and up to the first that holds.

    Raises:
        AgentError: host or history cannot be read, or, without `every`, a gate cannot be asked.
    """
    ports, policy = run.ports, run.policy
    known = ports.good_builds.read(policy.job)
    taken = ports.journal.newest_taken(policy.job)
    builds = remember(known, newest, taken)
    seen = replace(look_at_host(ports.host), taken=taken, ignored=run.settings.ignored_gates)
    options = [_option(ports, newest)]
    is_settled = not isinstance(choose(options, seen, policy, ports.clock.now(), ()), Upgrade)
    if not is_settled:
        options += [_option(ports, one) for one in builds[1:] if _is_complete(run, one)]
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


def _choice(run: Run[WatchPorts], seen: Observation, options: Sequence[Option]) -> Choice:
    decision = choose(options, seen, run.policy, run.ports.clock.now())
    newest = options[0].candidate
    about = decision.candidate if isinstance(decision, Upgrade | Reboot) else newest
    return Choice(decision, about, seen, tuple(options))


async def _ask(
    run: Run[WatchPorts], choice: Choice, *, every: bool, clean_boot: CleanBoot | None
) -> Choice:
    """Ask about the candidate that would be taken, until all of one is known, or all are held."""
    asked: set[int] = set()
    newest = choice.options[0].candidate.build_id
    while (number := choice.candidate.build_id) not in asked:
        if isinstance(choice.decision, Reboot) and not every:
            break  # its gates are asked at the stage of the reboot
        if number != newest and len(asked - {newest}) == _MOST_ASKED:
            few = [one for one in choice.options if one.candidate.build_id in {newest, *asked}]
            choice = _choice(run, choice.seen, few)
            continue
        asked.add(number)
        fault = None
        if number != newest and isinstance(choice.decision, Upgrade):
            fault = await _look_again(run, choice.candidate)
        if fault is not None:
            choice = _with_option(run, choice, fault=fault)
        else:
            known = frozenset(judgement.gate for judgement in choice.seen.judgements)
            judgements = await ask_gates(
                run,
                choice.candidate,
                every=every,
                is_newest=number == newest,
                known=known,
                clean_boot=clean_boot,
            )
            choice = _with_answers(run, choice, judgements)
    return choice if every else _past_settings(run, choice, asked)


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
        replace(one, **changes) if one.candidate == choice.candidate else one
        for one in choice.options
    ]
    return _choice(run, choice.seen, options)


def _past_settings(run: Run[WatchPorts], choice: Choice, asked: Collection[int]) -> Choice:
    """Return a choice that takes a candidate although it is held: its settings may open the gate.

    That is so where nothing else holds, some other check could remain, and nobody has seen the
    candidate's settings yet. Before it is activated, the gate is asked again.
    """
    has_other_check = len(run.policy.checks) > 1
    if not isinstance(choice.decision, Hold) or not has_other_check:
        return choice
    gates = registered()
    others = tuple(
        one for one in choice.seen.judgements if not gates[one.gate].may_open_once_fetched
    )
    past = _choice(run, replace(choice.seen, judgements=others), choice.options)
    may_open = isinstance(past.decision, Upgrade) and past.candidate.build_id in asked
    if may_open and not run.ports.host.exists(past.candidate.toplevel):
        return past
    return choice


def _still_good(choice: Choice, builds: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return `builds` without those that Hydra says are good no longer."""
    gone = {
        one.candidate.build_id
        for one in choice.options
        if one.fault is not None and one.fault.kind in NO_LONGER
    }
    return tuple(one for one in builds if one.build_id not in gone)
