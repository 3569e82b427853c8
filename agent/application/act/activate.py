"""Carries out an `Activate`: announces, activates, looks what came of it, and undoes what failed.

Nothing in the request is trusted that can be checked: that this very run has fetched what it names,
that the request is not too old, and what the host's own gates say now. What follows, the
confirmation, is the new system's own task.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.application.act.answers import Activated, Failed, NotBegun
from agent.application.act.own_activation import Invocation, stop_own
from agent.application.act.recover import forget
from agent.application.act.rival_activation import take_losers_profile_back
from agent.application.act.specialisation import note_what_runs, start_by_default
from agent.application.act.try_boot import keep_confirmed_default
from agent.application.act.undo import decided_elsewhere, roll_back_staged, undo
from agent.application.facts.ask_gates import apply_override, ask_again
from agent.application.facts.foreign import find_intervention
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.facts.own_settings import own_policy
from agent.application.facts.specialisations import (
    as_it_runs,
    running_specialisation,
    specialisation_of,
)
from agent.application.facts.take_findings import started_by_timers
from agent.application.facts.verify import flake_of
from agent.application.row import commit, row_of, try_commit
from agent.domain import states
from agent.domain.activation import ActivationResult, is_busy, judge_activation
from agent.domain.confirmation import Baseline, new_failures, touched_among
from agent.domain.errors import ActivationError, AgentError, HostError, Kind, RequestError
from agent.domain.gate import Judgement, Stage
from agent.domain.gates import specialisation_lost
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.plan import Plan, plan
from agent.domain.policy import Action, Strategy
from agent.domain.request import Activate
from agent.domain.systems import Systems, reboot_need

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit, RunRecord
    from agent.application.run import Run
    from agent.domain.store_path import StorePath

_POLL = 1.0
_REACHED: Final = {Outcome.PENDING: states.Pending, Outcome.STAGED: states.Staged}
_UNNAMED = ("as switch-to-configuration says",)
"""Stands for inhibitors that the agent could not compare itself."""


async def activate(run: Run, text: str) -> Activated | NotBegun | Failed:
    """Carry out a serialised `Activate`, and return what the host has come to."""
    try:
        request = Activate.parse(text, store_dir=run.settings.store_dir)
        row = _require_fetched(run, request)
    except AgentError as error:
        return Failed(error)
    work = _Work(replace(run, policy=own_policy(run, request.toplevel)), request)
    chosen = _plan(work)
    try:
        return await _activate_as(work, chosen, row)
    except AgentError as error:
        return Failed(error, action=chosen.action)


@dataclass(frozen=True, slots=True)
class _Work:
    """A request, and the run that carries it out, by the settings of what is activated."""

    run: Run
    request: Activate


def _require_fetched(run: Run, request: Activate) -> RunRecord:
    """Return the row of the run that has fetched what is to be activated.

    Raises:
        RequestError: REQUEST_UNFETCHED, REQUEST_REPLAYED, and what is wrong with the envelope.
        JournalError: the history does not say.
    """
    envelope, found = request.envelope, request.candidate
    envelope.require_valid(run.policy.host, run.ports.clock.now())
    row = row_of(run.ports.journal, envelope.run_id)
    if row is None or (row.job, row.build_id, row.flake, row.toplevel) != (
        found.job.key,
        found.build_id,
        found.flake,
        request.toplevel,
    ):
        raise RequestError(
            Kind.REQUEST_UNFETCHED,
            f"the run {envelope.run_id!r} has not fetched {request.toplevel} of build"
            f" {found.build_id}",
        )
    if row.outcome != Outcome.FETCHED:
        raise RequestError(
            Kind.REQUEST_REPLAYED,
            f"the run {envelope.run_id!r} has nothing to activate: it is {row.outcome}",
        )
    others = (one for one in row.ignored_gates if one.gate not in {g.gate for g in request.ignored})
    return replace(row, ignored_gates=(*others, *request.ignored))


def _plan(work: _Work) -> Plan:
    """Return how to activate: a `switch` that NixOS will not do becomes `boot`."""
    run, toplevel = work.run, work.request.toplevel
    host = run.ports.host
    systems = host.systems()
    booted = host.boot_artifacts(systems.booted) if systems.booted else None
    need = reboot_need(booted, host.boot_artifacts(host.counterpart(toplevel)))
    policy = replace(run.policy, action=work.request.action)
    refused = _UNNAMED if work.request.is_switch_refused else ()
    inhibitors = refused or find_inhibitors(host, as_it_runs(run, toplevel))
    chosen = plan(policy, need, inhibitors, is_container=systems.is_container)
    if chosen.reason and not chosen.reboots:
        run.ports.sink.emit(events.REBOOT_NEEDED, reason=chosen.reason)
    return chosen


async def _activate_as(work: _Work, chosen: Plan, row: RunRecord) -> Activated | NotBegun | Failed:
    """Do as planned and look what came of it, if the host is still to be changed."""
    run, request = work.run, work.request
    ports, action, toplevel = run.ports, chosen.action, request.toplevel
    asked = await _ask_own_gates(run, request, row)
    if isinstance(asked, NotBegun):
        return replace(asked, action=action)
    row = asked
    name, special = specialisation_of(run, toplevel), as_it_runs(run, toplevel)
    if action is Action.BOOT:
        bootable = _require_bootable(run, row, name)
        if isinstance(bootable, NotBegun):
            return replace(bootable, action=action)
        row = bootable
    before = ports.host.systems()
    announced = await _announce_if_left_alone(work, row, action, before)
    if isinstance(announced, NotBegun):
        return replace(announced, action=action)
    row = commit(ports.journal, announced)
    exited, after, row = await _run_activation(work, row, action, name)
    baseline = Baseline.parse(request.baseline)
    ended = ActivationResult(
        action=action,
        toplevel=toplevel,
        equivalents=ports.host.equivalents(toplevel) if name is None else frozenset({special}),
        before=before,
        after=after,
        returncode=exited.returncode,
        tail=exited.tail,
        timed_out=exited.timed_out,
        refused=exited.refused,
        new_failures=await _newly_failed(run, exited, baseline, before, special),
        script_failed=exited.script_failed,
        is_home=ports.systemd.has_host_below,
        is_half_done=_is_half_done(run, action, exited),
    )
    return await _settle_ended(work, chosen, row, ended, name)


async def _settle_ended(
    work: _Work, chosen: Plan, row: RunRecord, ended: ActivationResult, name: str | None
) -> Activated | Failed:
    """Judge an activation that has ended: undo it, or leave what it has reached to be confirmed."""
    run, toplevel, action = work.run, work.request.toplevel, ended.action
    try:
        reached = judge_activation(ended)
    except ActivationError as error:
        failed = await undo(run, row, ended, error)
        is_refused = error.kind is Kind.SWITCH_INHIBITED and action is Action.SWITCH
        if is_refused and isinstance(failed.left, states.Failed):
            # It may still be staged, once everything was asked again.
            commit(run.ports.journal, replace(row, state=states.Fetched(toplevel)))
            return replace(failed, left=None, is_switch_refused=True)
        return failed
    if name is not None and action.moves_profile:
        lost = await _keep_by_default(run, row, toplevel, name, reached)
        if lost is not None:
            return lost
    return await _commit_reached(run, row, chosen, toplevel, reached)


async def _ask_own_gates(run: Run, request: Activate, row: RunRecord) -> RunRecord | NotBegun:
    """Ask the gates whose facts are the host's own, and return the row with those ignored.

    Fetching and building may have taken hours.
    """
    aside = replace(run, record=row)
    with run.step("recheck"):
        judgement = await ask_again(
            aside, Stage.BEFORE_ACTIVATION, request.toplevel, request.candidate, is_world=False
        )
    if judgement is not None:
        return replace(_hold(run, judgement.gate, judgement.reason), held=(judgement,))
    held = await _find_other_hand(run, request)
    return aside.record if held is None else held


async def _find_other_hand(run: Run, request: Activate) -> NotBegun | None:
    """Return what another hand has done to the host since its upgrade was decided on."""
    seen = Systems(running=request.running, booted=None, profile=request.profile)
    intervention = await find_intervention(run.ports, seen)
    return None if intervention is None else _hold(run, *intervention)


def _hold(run: Run, name: str, sentence: str) -> NotBegun:
    run.ports.sink.emit(events.GATE_HELD, gate=name, reason=sentence)
    return NotBegun(((name, sentence),))


def _require_bootable(run: Run, row: RunRecord, name: str | None) -> RunRecord | NotBegun:
    """Hold if the loader cannot be made to start a specialisation; else return the row.

    Before anything is changed, the entry of the running one is used.
    """
    ports = run.ports
    running = ports.host.systems().running
    if name is None or running is None or running_specialisation(ports) is None:
        return row
    if ports.loader.can_be_default(running):
        return row
    reason = f"the boot loader cannot be made to start the specialisation {name!r} by default"
    aside = replace(run, record=row)
    judgement = apply_override(
        aside, Judgement(specialisation_lost.GATE.name, is_open=False, reason=reason)
    )
    if not judgement.is_open:
        return _hold(run, judgement.gate, judgement.reason)
    return aside.record


async def _announce_if_left_alone(
    work: _Work, row: RunRecord, action: Action, before: Systems
) -> RunRecord | NotBegun:
    """Announce the activation and look once more; with nothing left of it, if it is held."""
    run = work.run
    announced = await _record_intent(work, row, action, before)
    # Programs were started since all that was asked: anybody who has come meanwhile goes first.
    held: NotBegun | None = None
    is_left_alone = False
    try:
        held = await _find_other_hand(run, work.request)
        is_left_alone = held is None
    finally:
        if not is_left_alone:
            await _withdraw(run, row)
    return announced if held is None else held


async def _withdraw(run: Run, unannounced: RunRecord) -> None:
    """Take back an announcement, in the history, too."""
    await forget(run.ports)
    row = replace(unannounced, state=states.failed(unannounced.state))
    try_commit(run.ports.journal, run.ports.sink, row)


async def _record_intent(work: _Work, row: RunRecord, action: Action, before: Systems) -> RunRecord:
    """Leave behind all that someone else needs to end this upgrade, before it begins."""
    run, toplevel = work.run, work.request.toplevel
    ports = run.ports
    change = states.Change(
        toplevel=toplevel,
        action=action,
        previous=before.running,
        boot_id=before.boot_id,
        baseline=Baseline.parse(work.request.baseline),
    )
    activating = replace(row, state=states.Activating(change))
    if not change.is_lasting:
        return activating
    row = commit(ports.journal, replace(row, state=states.Armed(change)))
    note_what_runs(ports)
    ports.marks.set(Mark.PENDING, toplevel)
    delay = run.policy.dead_man_delay
    try:
        await ports.systemd.arm(delay, run.settings.run_id, toplevel)
    except HostError:
        await _withdraw(run, row)
        raise
    ports.sink.emit(events.DEAD_MAN_ARMED, seconds=delay.total_seconds(), toplevel=toplevel)
    return activating


async def _run_activation(
    work: _Work, row: RunRecord, action: Action, name: str | None
) -> tuple[ActivationExit, Systems, RunRecord]:
    """Run nixos-rebuild and wait for what outlives it; return how the host is then, too."""
    run, request, toplevel = work.run, work.request, work.request.toplevel
    ports = run.ports
    ports.sink.emit(
        events.ACTIVATION_STARTED,
        action=action,
        toplevel=toplevel,
        reasons=list(request.reasons),
    )
    with run.step("activate"):
        invocation = Invocation(ports, row)
        async with invocation.noted(toplevel):
            exited = await _start(work, row, action, name)
        if is_busy(exited.returncode, exited.tail):
            invocation.disown()
        if exited.timed_out:
            await _await_activation(run, invocation.row, toplevel)
        await take_losers_profile_back(run, action, toplevel, exited)
    after = ports.host.systems()
    ports.sink.emit(
        events.ACTIVATION_FINISHED,
        action=action,
        returncode=exited.returncode,
        running=after.running,
        profile=after.profile,
    )
    return exited, after, invocation.row


async def _start(work: _Work, row: RunRecord, action: Action, name: str | None) -> ActivationExit:
    """Run nixos-rebuild; where it cannot even be started, take the announcement back.

    A specialisation, by name, is given only to actions that nixos-rebuild allows it for.
    """
    run, request = work.run, work.request
    rebuild = run.ports.nixos_rebuild
    special = name if action in (Action.SWITCH, Action.TEST) else None
    try:
        if run.policy.strategy is Strategy.STORE_PATH:
            return await rebuild.activate_store_path(action, request.toplevel, special)
        flake = flake_of(request.candidate)
        return await rebuild.activate_flake(action, flake, run.policy.host, special)
    except AgentError:
        await _withdraw(run, row)
        raise


async def _await_activation(run: Run, row: RunRecord, toplevel: StorePath) -> None:
    """Wait for an activation that outlives nixos-rebuild, then stop it if it is ours."""
    ports = run.ports
    if await ports.systemd.is_activating() is False:
        return
    ports.sink.emit(events.ACTIVATION_AWAITED)
    end = ports.clock.elapsed() + run.policy.confirm.deadline.total_seconds()
    while await ports.systemd.is_activating() is not False:
        if ports.clock.elapsed() >= end:
            await stop_own(run, row, toplevel)
            return
        await ports.clock.sleep(_POLL)


def _is_half_done(run: Run, action: Action, exited: ActivationExit) -> bool:
    """Whether it ended as a success, and has left units that it had yet to come to."""
    is_switch = action in (Action.SWITCH, Action.TEST)
    return exited.returncode == 0 and is_switch and run.ports.systemd.has_work_left()


async def _newly_failed(
    run: Run, ended: ActivationExit, baseline: Baseline, before: Systems, toplevel: StorePath
) -> frozenset[str] | None:
    if ended.returncode == 0 or before.running is None or baseline.failed_units is None:
        return None
    failed = await run.ports.systemd.failed_units()
    if failed is None:
        return None
    touched = run.ports.host.touched_units(before.running, toplevel)
    newly = touched_among(new_failures(baseline, failed, run.policy.confirm.ignored_units), touched)
    timer_jobs = await started_by_timers(run.ports, run.policy, newly)
    return None if timer_jobs is None else newly - timer_jobs


async def _keep_by_default(
    run: Run, row: RunRecord, toplevel: StorePath, name: str, reached: Outcome
) -> Failed | None:
    """Let the next boot be of the specialisation, too.

    Where it would not be, and the system only waits for that boot, it is undone.
    """
    ports = run.ports
    if await start_by_default(ports, toplevel, name):
        return None
    ports.sink.emit(events.DEFAULT_LEFT, toplevel=toplevel, default=ports.loader.default())
    if reached is not Outcome.STAGED or specialisation_lost.GATE.name in run.settings.ignored_gates:
        return None
    reason = f"the boot loader would not start the specialisation {name!r} of {toplevel}"
    return await roll_back_staged(
        run,
        row,
        toplevel,
        (specialisation_lost.GATE.name, reason),
        ActivationError(
            Kind.ACTIVATION_INEFFECTIVE,
            f"{reason}; it was staged, and is not any more",
            hint="has the boot partition an entry of it? `--ignore-gate specialisation-lost` goes"
            " on",
        ),
    )


async def _commit_reached(
    run: Run, row: RunRecord, chosen: Plan, toplevel: StorePath, reached: Outcome
) -> Activated:
    """Commit what was reached, unless the dead-man has decided first: then it ends the upgrade."""
    ports = run.ports
    if reached is Outcome.STAGED:
        if not ports.marks.move(Mark.PENDING, toplevel, Mark.STAGED):
            ports.sink.emit(events.CLAIM_LOST, toplevel=toplevel)
            return decided_elsewhere(run, row, toplevel, chosen.action)
        await ports.systemd.disarm()
    # What was reached is to be judged, whether or not that can be written.
    change = states.change_of(row.state) or states.Change(toplevel, chosen.action)
    state = _REACHED[reached](change) if reached in _REACHED else states.Ended(reached, change)
    try_commit(ports.journal, ports.sink, replace(row, state=state))
    if reached is not Outcome.STAGED or not chosen.reason:
        return Activated(toplevel, reached, chosen.action)
    if chosen.reboots:
        await keep_confirmed_default(run, toplevel)
    return Activated(
        toplevel,
        reached,
        chosen.action,
        reasons=(("reboot", chosen.reason),),
        reboot=chosen.reason if chosen.reboots else "",
    )
