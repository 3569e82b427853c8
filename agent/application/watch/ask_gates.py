"""Asks the gates about a candidate: before anything is done, and again before what lasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.application.act.boot_cleaning import clean_boot_once
from agent.application.act.specialisation import ask_specialisation
from agent.application.watch.durations import (
    ClockState,
    ask_clock,
    forget_others,
    has_been_without_time,
    since_first_seen,
)
from agent.application.watch.observe import aged
from agent.application.watch.run_checks import run_checks
from agent.domain.errors import ActivationError, AgentError, JournalError, Kind, NixError
from agent.domain.gates import (
    NOTHING_TO_FETCH,
    Foreign,
    Gate,
    Judgement,
    Stage,
    judge_agent_removed,
    judge_boot_space,
    judge_booted,
    judge_clock,
    judge_denied,
    judge_downgrade,
    judge_foreign,
    judge_health,
    judge_host_upgrade,
    judge_paused,
    judge_store_space,
    judge_suspect,
    judge_window,
)
from agent.domain.ignored_gate import IgnoredGate
from agent.domain.unit_names import CONFIRM_UNIT

if TYPE_CHECKING:
    from agent.application.ports import Ports
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.confirmation import Reason
    from agent.domain.path_record import Standing
    from agent.domain.policy import Policy
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

_OF_THE_WORLD: Final = frozenset({Gate.HEALTH})
"""Gates whose facts are not the host's own at a late stage."""
_ROWS_OF_BOOT_DEFAULTS: Final = 50
"""Newest rows of the history among which a boot default is looked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """What all gates are asked about, at one stage of one run."""

    run: Run
    stage: Stage
    toplevel: StorePath
    """What is activated or booted; without a proof it may be another path than the candidate's."""
    candidate: Candidate | None
    """None where a person asks for the reboot: Hydra is not asked then."""
    keeps: bool = True
    """Whether what is seen is remembered; a status and a dry run leave no traces."""

    @property
    def ports(self) -> Ports:
        """The world of the run."""
        return self.run.ports

    @property
    def policy(self) -> Policy:
        """What the administrator of the run's host wants."""
        return self.run.policy

    @property
    def is_by_hand(self) -> bool:
        """Whether it is a person who asks for the reboot."""
        return self.candidate is None


Ask = Callable[[Question], Awaitable[Judgement | None]]
"""Collects the facts of one gate and judges them; None where it has no say on this host."""


async def ask_gates(run: Run, candidate: Candidate, *, every: bool) -> list[Judgement]:
    """Return what the gates say before anything is done, up to the first that holds.

    Past `health` the others are asked all the same: whether it alone holds is what is to be known.
    With `every`, all are asked, and one that cannot be is held with the fault as its reason;
    otherwise the fault is raised, and a boot partition that is full is cleaned once.
    """
    asked = Question(run, Stage.CHOOSE, candidate.toplevel, candidate, keeps=not every)
    judgements = []
    for gate in _asked_at(Stage.CHOOSE):
        judgement = await _answer(asked, gate, raises=not every)
        if judgement is None:
            continue
        if gate is Gate.BOOT_SPACE and not (judgement.is_open or every):
            judgement = await _cleaned(asked, judgement)
        event = events.GATE_PASSED if judgement.is_open else events.GATE_HELD
        run.ports.sink.emit(event, gate=judgement.gate, reason=judgement.reason)
        judgements.append(judgement)
        if not judgement.is_open and not every and gate is not Gate.HEALTH:
            break
    return judgements


def may_fetch_first(run: Run, candidate: Candidate, held: Sequence[Judgement]) -> bool:
    """Whether the candidate is to be fetched although it is held: its settings may open the gate.

    That is so where health alone holds, some other check could remain, and nobody has seen the
    candidate's settings yet. Before it is activated, health is asked again.
    """
    is_health_alone = [judgement.gate for judgement in held] == [Gate.HEALTH]
    may_leave_one = len(run.policy.checks) > 1
    return is_health_alone and may_leave_one and not run.ports.host.exists(candidate.toplevel)


async def ask_again(
    run: Run,
    stage: Stage,
    toplevel: StorePath,
    candidate: Candidate | None,
    *,
    is_world: bool | None = None,
) -> Judgement | None:
    """Return the gate that holds at a late stage, None if `toplevel` may go on.

    The gates that take their time are asked first, so that the answers of the others are fresh when
    the effect begins. One that cannot be asked holds: its earlier answer proves nothing any more.
    `is_world` asks only those that ask the world, or only those whose facts are the host's own.
    """
    asked = Question(run, stage, toplevel, candidate)
    for gate in reversed(_asked_at(stage)):
        if is_world is not None and is_world is not (gate in _OF_THE_WORLD):
            continue
        judgement = await _answer(asked, gate, raises=False)
        if judgement is not None and not judgement.is_open:
            run.ports.sink.emit(events.GATE_HELD, gate=gate, reason=judgement.reason)
            return judgement
    return None


async def _cleaned(asked: Question, judgement: Judgement) -> Judgement:
    """Return what `boot-space` says once the running system has cleaned its boot partition."""
    if not await clean_boot_once(asked.run):
        return judgement
    return await _answer(asked, Gate.BOOT_SPACE, raises=True) or judgement


def _asked_at(stage: Stage) -> tuple[Gate, ...]:
    return tuple(gate for gate in Gate if stage in gate.stages)


async def _answer(asked: Question, gate: Gate, *, raises: bool) -> Judgement | None:
    try:
        judgement = await QUESTIONS[gate](asked)
    except AgentError as fault:
        if raises:
            raise
        judgement = Judgement(gate, is_open=False, reason=str(fault), fault=fault.kind)
    return None if judgement is None else apply_override(asked.run, judgement)


def apply_override(run: Run, judgement: Judgement) -> Judgement:
    """Open a gate that the person who started this run ignores.

    It is in the run's row from then on, and in the history with the next phase or the run's end.
    What is taken past the gate `downgrade` is what later builds are measured by.
    """
    settings = run.settings
    if judgement.is_open or judgement.gate not in settings.ignored_gates:
        return judgement
    by = settings.ignored_by or settings.by
    run.ports.sink.emit(
        events.GATE_IGNORED,
        gate=judgement.gate,
        reason=judgement.reason,
        given_reason=settings.ignored_because,
        by=by,
    )
    passed = IgnoredGate(judgement.gate, by, settings.ignored_because, judgement.reason)
    others = (other for other in run.record.ignored_gates if other.gate != judgement.gate)
    run.record = replace(run.record, ignored_gates=(*others, passed))
    if judgement.gate is Gate.DOWNGRADE:
        run.record = replace(run.record, sets_measure=True)
    reason = f"ignored by {by} ({settings.ignored_because}): {judgement.reason}"
    return Judgement(judgement.gate, is_open=True, reason=reason)


async def find_intervention(ports: Ports, seen: Systems) -> Reason | None:
    """Return what another hand has done to the host since it was `seen`.

    It is no gate: a person who passes `foreign-system` means what was there before the run.

    Raises:
        ActivationError: another hand is at it just now, or may be (ACTIVATION_BUSY).
        HostError: the links cannot be read.
    """
    is_at_work = await ports.systemd.is_activating()
    if is_at_work is not False:
        what = (
            "an activation that this run has not started is at work"
            if is_at_work
            else "systemd does not say whether an activation is at work"
        )
        raise ActivationError(Kind.ACTIVATION_BUSY, what, hint="the next run tries again")
    now = ports.host.systems()
    for what, before, after in (
        ("running system", seen.running, now.running),
        ("profile", seen.profile, now.profile),
    ):
        if before != after:
            reason = (
                f"the {what} was {before or 'unknown'} when this run began, and is"
                f" {after or 'unknown'} now, which this run has not brought here"
            )
            return Gate.FOREIGN_SYSTEM, reason
    return None


def find_foreign(ports: Ports, waiting: StorePath | None = None) -> Foreign | None:
    """Return the system that the agent has not brought here, None where it knows all.

    Before the agent has marked anything there is nothing to compare with. The system that is
    `waiting` for its reboot is not foreign to that reboot, however it came into the profile.
    """
    marks, systems = ports.marks.read(), ports.host.systems()
    if not marks.known:
        return None
    ours = [*marks.known, *((waiting,) if waiting else ())]
    known = {path for mark in ours for path in ports.host.equivalents(mark)}
    if systems.booted is not None and marks.staged is not None and marks.staged == marks.confirmed:
        # It lost its power while it was confirmed, and has booted the one confirmed before.
        known.add(systems.booted)
    for what, path in (("running system", systems.running), ("profile", systems.profile)):
        if path is not None and path not in known:
            return Foreign(what, path, ports.host.changed_at() or ports.clock.now())
    default = ports.loader.default()
    if default is None or default in known or _is_remembered(ports, default):
        return None
    return Foreign("boot default", default, ports.host.changed_at() or ports.clock.now())


def _is_remembered(ports: Ports, path: StorePath) -> bool:
    """Whether the agent has left that system, or one that it brought, as the boot default itself.

    A loader that could not be written has what was there before. Neither a history that cannot be
    read nor one in which the agent has changed nothing proves that anybody was here since.
    """
    try:
        rows = ports.journal.runs(_ROWS_OF_BOOT_DEFAULTS)
    except JournalError:
        return True
    acts = [row for row in rows if row.previous is not None]
    return not acts or any(path in (row.toplevel, row.previous) for row in acts)


def find_unexpected(ports: Ports, systems: Systems) -> Foreign | None:
    """Return the booted system, if it runs and is neither the profile's nor to be left for it."""
    marks = ports.marks.read()
    booted, profile = systems.booted, systems.profile
    if booted is None or profile is None or booted != systems.running:
        return None
    if profile == marks.staged or booted in ports.host.equivalents(profile):
        return None
    since, changed = ports.host.booted_at(), ports.host.changed_at()
    if since is None or (changed is not None and changed > since):
        return None  # the profile has moved after the boot
    return Foreign("booted system", booted, since)


async def forget_what_is_gone(ports: Ports) -> None:
    """Note what is not there any more, also in runs that ask no gate: if it comes, it is new.

    Raises:
        HostError: marks or links cannot be read.
    """
    forget_others(ports, Gate.FOREIGN_SYSTEM, find_foreign(ports))
    forget_others(ports, Gate.BOOTED_UNEXPECTED, find_unexpected(ports, ports.host.systems()))
    if has_been_without_time(ports):
        await ask_clock(ports, keeps=True)


async def ask_health(
    ports: Ports, policy: Policy, dropped: frozenset[str] = frozenset()
) -> Judgement:
    """Run the health checks and judge them; those that are `dropped`, only where need be.

    A canary that is to be named no more is not asked, if another check is there and well: a host is
    not held for ever by one that was taken down, nor upgraded with nothing looked at.
    """
    kept = tuple(check for check in policy.checks if check.name not in dropped)
    others = tuple(check for check in policy.checks if check.name in dropped)
    results = await run_checks(ports.prober, kept, policy.health_deadline, ports.sink)
    if others and not any(result.is_well for result in results):
        asked = await run_checks(ports.prober, others, policy.health_deadline, ports.sink)
        return judge_health((*results, *asked))
    for check in others:
        ports.sink.emit(events.CANARY_DROPPED, check=check.name, target=check.target)
    return judge_health(results)


async def _paused(asked: Question) -> Judgement:
    return judge_paused(asked.ports.agenda.pause(asked.ports.clock.now()))


async def _host_upgrade(asked: Question) -> Judgement | None:
    systemd = asked.ports.systemd
    if not systemd.has_host_below:
        return None
    return judge_host_upgrade(is_at_work=await systemd.is_host_upgrading())


async def _booted(asked: Question) -> Judgement | None:
    ports = asked.ports
    systems = ports.host.systems()
    if systems.booted is None or asked.is_by_hand:
        return None
    unexpected = await _aged(asked, Gate.BOOTED_UNEXPECTED, find_unexpected(ports, systems))
    return judge_booted(unexpected, ports.clock.now(), asked.policy)


async def _foreign(asked: Question) -> Judgement | None:
    ports = asked.ports
    if asked.is_by_hand:
        return None  # what a person has brought here, a person may reboot
    waiting = asked.toplevel if asked.stage is Stage.BEFORE_REBOOT else None
    foreign = await _aged(asked, Gate.FOREIGN_SYSTEM, find_foreign(ports, waiting))
    return judge_foreign(foreign, ports.clock.now(), asked.policy)


async def _aged(asked: Question, gate: Gate, found: Foreign | None) -> Foreign | None:
    """Return what was found with the time since which it has been there, whatever the boots."""
    if asked.keeps:
        forget_others(asked.ports, gate, found)
    if found is None:
        return None
    return await since_first_seen(asked.ports, gate, found, keeps=asked.keeps)


async def _denied(asked: Question) -> Judgement:
    judgements = [judge_denied(standing) for standing in _standings(asked)]
    return next((judgement for judgement in judgements if not judgement.is_open), judgements[0])


async def _suspect(asked: Question) -> Judgement:
    now = asked.ports.clock.now()
    judgements = [judge_suspect(standing, now) for standing in _standings(asked)]
    return next((judgement for judgement in judgements if not judgement.is_open), judgements[0])


def _standings(asked: Question) -> list[Standing]:
    """Return what the path has earned here, and the candidate's, where that is another one."""
    ports, now = asked.ports, asked.ports.clock.now()
    paths = [asked.toplevel, *((asked.candidate.toplevel,) if asked.candidate else ())]
    return [ports.journal.standing_of(path, now) for path in dict.fromkeys(paths)]


async def _downgrade(asked: Question) -> Judgement | None:
    found = asked.candidate
    if found is None:
        return None
    return judge_downgrade(found, asked.ports.journal.newest_taken(found.job))


async def _window(asked: Question) -> Judgement:
    return judge_window(asked.ports.clock.now(), asked.policy)


async def _clock(asked: Question) -> Judgement:
    policy, clock = asked.policy, ClockState(is_synchronised=None)
    if policy.upgrade_schedule.windows:
        clock = await ask_clock(asked.ports, keeps=asked.keeps)
    return judge_clock(
        is_synchronised=clock.is_synchronised, unknown_for=clock.unknown_for, policy=policy
    )


async def _boot_space(asked: Question) -> Judgement | None:
    free = asked.ports.host.free_space().boot
    return None if free is None else judge_boot_space(free, asked.policy)


async def _store_space(asked: Question) -> Judgement:
    ports = asked.ports
    is_here = asked.stage.is_late
    try:
        plan = NOTHING_TO_FETCH if is_here else await ports.nix.plan_fetch(asked.toplevel)
    except NixError as error:
        raise aged(error, asked.candidate, ports.clock.now()) from error
    return judge_store_space(plan, ports.host.free_space(), asked.policy)


async def _health(asked: Question) -> Judgement:
    dropped = asked.ports.system_settings.dropped_canaries(asked.toplevel)
    return await ask_health(asked.ports, asked.policy, dropped)


async def _agent_removed(asked: Question) -> Judgement:
    host = asked.ports.host
    running = host.systems().running
    return judge_agent_removed(
        has_it=running is not None and host.has_unit(running, CONFIRM_UNIT),
        would_have_it=host.has_unit(asked.toplevel, CONFIRM_UNIT),
    )


async def _specialisation(asked: Question) -> Judgement | None:
    return ask_specialisation(asked.run, asked.toplevel)


QUESTIONS: Final[Mapping[Gate, Ask]] = {
    Gate.PAUSED: _paused,
    Gate.HOST_UPGRADE: _host_upgrade,
    Gate.BOOTED_UNEXPECTED: _booted,
    Gate.FOREIGN_SYSTEM: _foreign,
    Gate.DENIED: _denied,
    Gate.SUSPECT: _suspect,
    Gate.DOWNGRADE: _downgrade,
    Gate.WINDOW: _window,
    Gate.CLOCK: _clock,
    Gate.BOOT_SPACE: _boot_space,
    Gate.STORE_SPACE: _store_space,
    Gate.HEALTH: _health,
    Gate.AGENT_REMOVED: _agent_removed,
    Gate.SPECIALISATION_LOST: _specialisation,
}
"""How each gate is asked; the tests hold it to be whole."""
