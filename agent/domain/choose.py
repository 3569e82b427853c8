"""Chooses what a run does: the only decision, asked by `upgrade`, its dry run and `status`.

Of the good builds that this host has seen, the newest that may be taken is chosen: a stream of new
builds does not keep a host from one for which it has waited long enough. A host never goes back:
what it is on, or has taken already, ends the search. Where it is unknown which build it is on, any
but Hydra's newest could be a step back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from agent.domain.candidate import OF_ONE_BUILD, Candidate, RefusedBuild
from agent.domain.gate import Judgement, Question, Stage
from agent.domain.gates import asked_at, denied, registered
from agent.domain.path_record import Standing
from agent.domain.policy import Action, Policy, RebootMode
from agent.domain.systems import reboot_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from agent.domain.errors import AgentError, HydraError
    from agent.domain.gate import Gate
    from agent.domain.path_record import TakenBuild
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of the host.

    `need` names what only a reboot would change between the booted system and the profile.
    `inhibitors` are those that differ between the running system and the profile's.
    """

    systems: Systems
    need: tuple[str, ...] = ()
    inhibitors: tuple[str, ...] = ()
    taken: TakenBuild | None = None
    """The newest build that this host has taken, or is on, whoever brought it here."""
    is_known: bool = True
    """Whether the agent knows what runs and what the profile's system is."""
    judgements: tuple[Judgement, ...] = ()
    """What the gates about the host say, as far as they have been asked."""
    ignored: frozenset[str] = frozenset()
    """The gates that this run ignores."""


@dataclass(frozen=True, slots=True)
class History:
    """What the journal remembers about a candidate: its path, or what was built in its place."""

    is_staged: bool = False
    """The agent has left it in the profile for the next boot, on purpose."""
    is_dry_activated: bool = False
    reboot_asked_in: str | None = None
    """The boot in which the agent asked for a reboot into it, if it did."""
    has_failed: bool = False
    """Its last activation failed or was cut short: whatever the links say, it is not done."""
    activated_as: StorePath | None = None
    """The other path that this build's flake gave, and that was activated for want of a proof."""


@dataclass(frozen=True, slots=True)
class Option:
    """A good build that may become this host's system, and what is known of it here.

    `equivalents` are the candidate's toplevel and its specialisations, as far as they are in the
    store: running one of them is running the candidate.
    """

    candidate: Candidate
    equivalents: frozenset[StorePath]
    history: History = field(default_factory=History)
    standing: Standing = field(default_factory=Standing)
    judgements: tuple[Judgement, ...] = ()
    """What the gates about this candidate say, as far as they have been asked."""
    fault: HydraError | None = None
    """What Hydra, asked again, says against it; or why it does not answer."""

    @property
    def build_id(self) -> int:
        """Its number: the order of candidates."""
        return self.candidate.build_id


@dataclass(frozen=True, slots=True)
class HeldCandidate:
    """A build that is not taken now, and what says so: gates, Hydra or the host's history."""

    candidate: Candidate | RefusedBuild
    judgements: tuple[Judgement, ...]

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Why, each as a machine-readable name and a sentence."""
        return tuple((one.name, one.reason) for one in self.judgements)

    @property
    def opens_at(self) -> datetime | None:
        """When it may be taken, if nothing else happens; None where that is unknown."""
        moments = [one.opens_at for one in self.judgements]
        known = [moment for moment in moments if moment is not None]
        return max(known) if known and len(known) == len(moments) else None


@dataclass(frozen=True, slots=True)
class Done:
    """The host is where the action would bring it."""

    name = "done"


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now: each candidate, the newest first, is held."""

    held: tuple[HeldCandidate, ...]

    name = "hold"

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Why, by the newest candidate first; what holds several is named once."""
        found: dict[str, str] = {}
        for one in self.held:
            build = "" if one is self.held[0] else f"build {one.candidate.build_id}: "
            for name, sentence in one.reasons:
                found.setdefault(name, build + sentence)
        return tuple(found.items())

    @property
    def opens_at(self) -> datetime | None:
        """The earliest moment at which a candidate may be taken, as far as that is known."""
        return min((one.opens_at for one in self.held if one.opens_at), default=None)

    @property
    def fault(self) -> AgentError | None:
        """The fault for which the newest build cannot be taken, if it is a fault."""
        faults = (one.fault for held in self.held[:1] for one in held.judgements)
        return next((fault for fault in faults if fault is not None), None)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Bring a candidate to this host; `newer` are the ones that are held."""

    candidate: Candidate
    action: Action
    newer: tuple[HeldCandidate, ...] = ()

    name = "upgrade"


@dataclass(frozen=True, slots=True)
class AwaitReboot:
    """The candidate waits for a reboot that the agent may not do; `reason` is why it is needed."""

    reason: str

    name = "await-reboot"


@dataclass(frozen=True, slots=True)
class Reboot:
    """A candidate waits for a reboot that the agent may do; `newer` are the ones that are held."""

    candidate: Candidate
    reason: str
    newer: tuple[HeldCandidate, ...] = ()

    name = "reboot"


Decision = Done | Hold | Upgrade | AwaitReboot | Reboot


def held_builds(decision: Decision | None) -> tuple[HeldCandidate, ...]:
    """Return the builds that are held: all, or those that are newer than the candidate."""
    match decision:
        case Hold(held):
            return held
        case Upgrade(newer=newer) | Reboot(newer=newer):
            return newer
        case _:
            return ()


OwnGate = Callable[[Option, Observation, Policy, "datetime"], Judgement | None]
"""A gate that can be asked of each candidate, since the choice has all that it has to know."""


def _own_gates() -> tuple[OwnGate, ...]:
    return tuple(map(_own_gate, asked_at(Stage.CHOOSE)))


def _own_gate(gate: Gate[Any]) -> OwnGate:
    def ask(option: Option, seen: Observation, policy: Policy, now: datetime) -> Judgement | None:
        if gate.facts_of_option is None:
            return None
        found = option.candidate
        question = Question(Stage.CHOOSE, policy, found.toplevel, found, now)
        return gate.judgement(question, gate.facts_of_option(option, seen))

    return ask


def choose(
    options: Sequence[Option | RefusedBuild],
    seen: Observation,
    policy: Policy,
    now: datetime,
    gates: Sequence[OwnGate] | None = None,
) -> Decision:
    """Return what to do, given the good builds of this host's job, the newest first.

    `gates` are asked of each candidate, instead of the registered ones that can be. What is denied
    is never completed. What is in doubt ends the search: nobody knows what holds the candidate.
    """
    own = _own_gates() if gates is None else gates
    held: tuple[HeldCandidate, ...] = ()
    for option in options:
        if isinstance(option, RefusedBuild):
            held = (*held, HeldCandidate(option, (_objection(option.fault),)))
            continue
        decision = _step(option, seen, policy)
        if held and not _goes_on(decision, option, seen):
            return Hold(held)
        if isinstance(decision, Done | AwaitReboot):
            return decision
        if isinstance(decision, Hold):
            return Hold((*held, *decision.held))
        # What is about to be rebooted into is asked about at that stage, by all gates anew.
        asked = own if isinstance(decision, Upgrade) else ()
        judged = [gate(option, seen, policy, now) for gate in asked]
        closed = _closed(decision, option, seen, judged)
        if option.fault is not None:
            closed = [_objection(option.fault)]
        if not closed:
            return _with(decision, held)
        held = (*held, HeldCandidate(option.candidate, tuple(closed)))
        if isinstance(decision, Reboot) or any(map(_is_doubt, closed)):
            break
    return Hold(held)


def _objection(fault: HydraError) -> Judgement:
    return Judgement(fault.kind, is_open=False, reason=fault.message, fault=fault)


def _is_doubt(judgement: Judgement) -> bool:
    return judgement.fault is not None and judgement.fault.kind not in OF_ONE_BUILD


def _goes_on(decision: Decision, option: Option, seen: Observation) -> bool:
    """Whether an older candidate may be taken: none that is here, and none older than was here."""
    match decision:
        case Upgrade():
            taken = seen.taken
            return seen.is_known and (taken is None or option.build_id > taken.build_id)
        case Reboot():
            return True
        case Done() | AwaitReboot() | Hold():
            return False
        case _:
            assert_never(decision)


def _closed(
    decision: Upgrade | Reboot,
    option: Option,
    seen: Observation,
    judged: Iterable[Judgement | None],
) -> list[Judgement]:
    """Return the closed gates that bear on a decision: on an upgrade any, on a reboot its own.

    A gate that was asked knows better than what follows from the facts.
    """
    judgements = {judgement.gate: judgement for judgement in judged if judgement is not None}
    judgements |= {asked.gate: asked for asked in (*seen.judgements, *option.judgements)}
    order = list(registered())
    return [
        judgement
        for judgement in sorted(judgements.values(), key=lambda one: order.index(one.gate))
        if not judgement.is_open
        and judgement.gate not in seen.ignored
        and (isinstance(decision, Upgrade) or _bears_on_reboot(judgement))
    ]


def _bears_on_reboot(judgement: Judgement) -> bool:
    """Whether a gate that was asked about an upgrade holds a reboot, too.

    Those about the moment of a reboot are asked about that by themselves.
    """
    gate = registered()[judgement.gate]
    return Stage.BEFORE_REBOOT in gate.stages and not gate.postpones


def _held(option: Option, name: str, reason: str) -> HeldCandidate:
    return HeldCandidate(option.candidate, (Judgement(name, is_open=False, reason=reason),))


def _with(decision: Upgrade | Reboot, newer: tuple[HeldCandidate, ...]) -> Upgrade | Reboot:
    if isinstance(decision, Upgrade):
        return Upgrade(decision.candidate, decision.action, newer)
    return Reboot(decision.candidate, decision.reason, newer)


def _step(option: Option, seen: Observation, policy: Policy) -> Decision:
    """Return what would be done about one candidate, gates aside."""
    decision = _next(option, seen, policy)
    denial = option.standing.denial
    if denial is not None and isinstance(decision, Done | AwaitReboot | Reboot):
        return Hold((_held(option, denied.GATE.name, denied.why_denied(denial)),))
    return decision


def _next(option: Option, seen: Observation, policy: Policy) -> Decision:
    history = option.history
    goal = _goal(option, policy)
    has_rebooted = history.reboot_asked_in not in (None, seen.systems.boot_id)
    if _is_reached(option, seen, policy.action, goal):
        reason = _reboot_reason(seen, goal) if policy.action.moves_profile else ""
        return _complete(option, seen, policy, reason, has_rebooted=has_rebooted)
    # Where it did come up with it, someone has changed the running system since.
    if has_rebooted and seen.systems.booted not in goal and policy.action.moves_profile:
        return _ineffective(option, "it is not what the host came up with")
    return Upgrade(option.candidate, policy.action)


def _complete(
    option: Option, seen: Observation, policy: Policy, reason: str, *, has_rebooted: bool
) -> Done | AwaitReboot | Hold | Reboot:
    """Return what is left to do where the candidate is, but for a reboot if there is a `reason`."""
    if not reason:
        return Done()
    if policy.reboot_mode is RebootMode.NEVER or seen.systems.is_container:
        return AwaitReboot(reason)
    if has_rebooted:
        return _ineffective(option, reason)
    return Reboot(option.candidate, reason)


def _goal(option: Option, policy: Policy) -> frozenset[StorePath]:
    """Return the paths of which running one is running the candidate.

    Without verification what nixos-rebuild built in its place counts, too: the host would be
    upgraded to it again on each run.
    """
    built = option.history.activated_as
    return option.equivalents if policy.verify or built is None else option.equivalents | {built}


def _ineffective(option: Option, what: str) -> Hold:
    toplevel = option.candidate.toplevel
    reason = f"the host was rebooted for {toplevel} before, and still {what}"
    return Hold((_held(option, "reboot-ineffective", reason),))


def _is_reached(
    option: Option, seen: Observation, action: Action, goal: frozenset[StorePath]
) -> bool:
    """Whether the action has nothing left to do ("done when" of the design's table)."""
    history, systems = option.history, seen.systems
    if history.has_failed:
        return False
    is_running = systems.running in goal
    is_profile = systems.profile == option.candidate.toplevel or (
        systems.profile is not None and systems.profile in goal - option.equivalents
    )
    match action:
        case Action.SWITCH:
            # One that was booted and left since is not waited for, unless only a boot can start it.
            is_startable = systems.booted in goal and not seen.inhibitors
            is_staged = history.is_staged and not is_startable
            return is_profile and (is_running or is_staged)
        case Action.BOOT:
            return is_profile
        case Action.TEST:
            return is_running
        case Action.DRY_ACTIVATE:
            return is_running or history.is_dry_activated
        case _:
            assert_never(action)


def _reboot_reason(seen: Observation, goal: frozenset[StorePath]) -> str:
    need = () if seen.systems.is_container else seen.need
    return reboot_reason(need, seen.inhibitors, is_running=seen.systems.running in goal)
