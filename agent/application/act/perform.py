"""Brings a candidate to the host: verify, fetch, build, check again, activate, look.

This is the part that changes the host. It is handed a serialised `Request` and trusts nothing
that it cannot check in it. What follows, the confirmation, is the new system's own task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.fetchable import require_fetchable
from agent.application.act.own_activation import disown, invocation_noted, stop_own
from agent.application.act.reboot import reboot
from agent.application.act.recover import forget
from agent.application.act.rival_activation import (
    await_rival,
    give_profile_back,
    take_losers_profile_back,
)
from agent.application.act.specialisation import (
    as_specialised,
    note_what_runs,
    running_specialisation,
    start_by_default,
    wanted_specialisation,
)
from agent.application.act.try_boot import keep_confirmed_default
from agent.application.confirm.confirm import report_decision
from agent.application.confirm.own_settings import judged_by_its_own
from agent.application.confirm.roll_back import roll_back
from agent.application.confirm.take_findings import started_by_timers, take_baseline
from agent.application.report import candidate_fields
from agent.application.watch.ask_gates import apply_override, ask_again, find_intervention
from agent.application.watch.observe import aged, find_inhibitors
from agent.domain.activation import (
    ActivationResult,
    fault_of_activation,
    fault_of_refusal,
    is_busy,
    judge_activation,
)
from agent.domain.confirmation import Baseline, new_failures, touched_among
from agent.domain.decide import Hold, Plan, plan
from agent.domain.errors import ActivationError, AgentError, HostError, Kind, NixError
from agent.domain.gates import Gate, Judgement, Stage
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault, fault_of_preparation
from agent.domain.policy import Action, OnFailure, Policy, Strategy
from agent.domain.request import Request
from agent.domain.systems import Systems, inhibitor_reason, reboot_need

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit, Ports
    from agent.application.report import Report
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.confirmation import Reason
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.policy import ConfirmPolicy
    from agent.domain.store_path import StorePath

_POLL = 1.0
_UNBEGUN = (1, 100)
"""Exit codes with which switch-to-configuration ends before it touches the services."""
_UNNAMED = ("as switch-to-configuration says",)
"""Stands for inhibitors that the agent could not compare itself."""


async def perform(run: Run, text: str) -> StorePath | None:
    """Carry out a serialised request; return the system that is pending now, if one is.

    Raises:
        AgentError: what went wrong; what the host shows then is in its message.
    """
    request = Request.parse(text, store_dir=run.settings.store_dir)
    found = request.candidate
    try:
        toplevel = await _prepare(run, found)
    except NixError as error:
        is_fetching = run.record.outcome == Outcome.VERIFIED
        fault = fault_of_preparation(error.kind, is_fetching=is_fetching)
        run.record = replace(run.record, fault=fault)
        raise
    _check_inhibitors(run, request.action, toplevel)
    with judged_by_its_own(run, toplevel) as own:
        chosen = await _activate(run, request, toplevel, own)
    if chosen is None:
        return None
    if run.report.outcome is Outcome.STAGED and chosen.reason:
        run.report.reasons = (("reboot", chosen.reason),)
    if chosen.reboots and run.report.outcome is Outcome.STAGED:
        await keep_confirmed_default(run, toplevel)
        await reboot(run, toplevel, chosen.reason, found, run.ports.host.systems())
    return toplevel if run.record.outcome == Outcome.PENDING else None


async def _prepare(run: Run, found: Candidate) -> StorePath:
    """Verify, fetch and build a candidate; return what is to be activated.

    Raises:
        AgentError: nothing on the host has changed but its store.
    """
    run.note(Outcome.SELECTED)
    await verify(run.ports, run.policy, found, run.report)
    run.note(Outcome.VERIFIED)
    await _fetch(run, found)
    run.note(Outcome.FETCHED)
    toplevel = await _build(run, found)
    _check_hostname(run, toplevel)
    return toplevel


async def _is_let_on(run: Run, request: Request, toplevel: StorePath) -> bool:
    """Return whether the host is still to be changed: fetching and building may have taken hours.

    Otherwise the run is held, and the report says why.
    """
    with run.report.step("recheck", run.ports.clock):
        judgement = await ask_again(run, Stage.BEFORE_ACTIVATION, toplevel, request.candidate)
    if judgement is not None:
        _hold(run, (judgement.gate, judgement.reason))
        return False
    return await _is_left_alone(run, request)


async def _is_left_alone(run: Run, request: Request) -> bool:
    """Return whether the host is as it was when its upgrade was decided on."""
    seen = Systems(running=request.running, booted=None, profile=request.profile)
    intervention = await find_intervention(run.ports, seen)
    if intervention is not None:
        _hold(run, intervention)
    return intervention is None


def _hold(run: Run, reason: Reason) -> None:
    name, sentence = reason
    run.ports.sink.emit(events.GATE_HELD, gate=name, reason=sentence)
    run.report.decision, run.report.outcome = Hold.name, Outcome.HELD
    run.report.reasons = (reason,)


async def _fetch(run: Run, found: Candidate) -> None:
    ports = run.ports
    with run.report.step("fetch", ports.clock):
        try:
            ports.sink.emit(events.FETCH_STARTED, toplevel=found.toplevel)
            fetched = await ports.nix.substitute(found.toplevel, ports.progress)
        except NixError as error:
            if run.policy.local_builds and error.kind is Kind.PATH_NOT_CACHED:
                return
            raise aged(error, found, ports.clock.now()) from error
    run.report.fetched = fetched
    ports.sink.emit(events.FETCH_FINISHED, paths=fetched.paths, bytes=fetched.size)


async def _build(run: Run, found: Candidate) -> StorePath:
    """Return the path to activate: Hydra's, unless verification is off and it differs."""
    if run.policy.strategy is Strategy.STORE_PATH:
        return found.toplevel
    with run.report.step("build", run.ports.clock):
        built = await run.ports.nixos_rebuild.build(_flake(found), run.policy.host)
    run.ports.sink.emit(events.BUILD_FINISHED, toplevel=built)
    if built != found.toplevel:
        if run.policy.verify:
            raise _mismatch("is built as", built, found)
        run.ports.sink.emit(events.BUILD_DIFFERS, toplevel=found.toplevel, built=built)
    return built


def _check_hostname(run: Run, toplevel: StorePath) -> None:
    """Without an evaluation, the host name is what tells another host's system from ours."""
    host = run.ports.host
    if run.policy.strategy is Strategy.FLAKE or not run.policy.verify:
        return
    running = host.systems().running
    ours = running and host.hostname_of(running)
    theirs = host.hostname_of(toplevel)
    if ours is None or ours != theirs:
        raise NixError(
            Kind.HOST_MISMATCH,
            f"{toplevel} is for {theirs or 'what has no name'}, and this is"
            f" {ours or 'without a name'}",
            hint="check hydra.job; verify = false takes it as it is",
        )


def _check_inhibitors(run: Run, action: Action, toplevel: StorePath) -> None:
    """Hold a `test`, where NixOS would refuse it.

    A `switch` becomes `boot` instead, and a `dry-activate` is refused by some releases alone.
    """
    inhibitors = find_inhibitors(run.ports.host, _as_it_runs(run, toplevel))
    if inhibitors and action is Action.TEST:
        raise ActivationError(
            Kind.SWITCH_INHIBITED,
            f"{inhibitor_reason(inhibitors)}: only a reboot can start {toplevel},"
            " and `test` starts it without one",
            hint="`switch` and `boot` stage it for a reboot",
        )


def _plan(run: Run, request: Request, toplevel: StorePath, refused: tuple[str, ...] = ()) -> Plan:
    """Return how to activate; `refused` is what NixOS has said against a `switch` already."""
    host = run.ports.host
    systems = host.systems()
    booted = host.boot_artifacts(systems.booted) if systems.booted else None
    need = reboot_need(booted, host.boot_artifacts(host.counterpart(toplevel)))
    policy = replace(run.policy, action=request.action)
    inhibitors = refused or find_inhibitors(host, _as_it_runs(run, toplevel))
    chosen = plan(policy, need, inhibitors, is_container=systems.is_container)
    if chosen.reason and not chosen.reboots:
        run.ports.sink.emit(events.REBOOT_NEEDED, reason=chosen.reason)
    run.report.action = chosen.action
    return chosen


async def _activate(
    run: Run, request: Request, toplevel: StorePath, own: ConfirmPolicy
) -> Plan | None:
    """Activate and return the plan; None if nothing was begun, for reasons in the report.

    A `switch` that NixOS will not do becomes `boot`. The run's settings of the confirmation are
    those of `toplevel`; `own` are the agent's.
    """
    chosen = _plan(run, request, toplevel)
    try:
        is_begun = await _do(run, request, toplevel, chosen, own)
    except ActivationError as error:
        if error.kind is not Kind.SWITCH_INHIBITED or chosen.action is not Action.SWITCH:
            raise
        chosen = _plan(run, request, toplevel, refused=_UNNAMED)
        is_begun = await _do(run, request, toplevel, chosen, own)
    return chosen if is_begun else None


async def _do(
    run: Run, request: Request, toplevel: StorePath, chosen: Plan, own: ConfirmPolicy
) -> bool:
    """Do as planned and look what came of it; False if nothing was begun."""
    ports, action = run.ports, chosen.action
    baseline = await _take_baseline(run, action, own)
    if not await _is_let_on(run, request, toplevel):
        return False
    name = _specialisation(run, toplevel)
    special = _as_it_runs(run, toplevel)
    if action is Action.BOOT and not _can_boot(run, name):
        return False
    before = ports.host.systems()
    if not await _has_announced(run, request, toplevel, action, before=before, baseline=baseline):
        return False
    run.note(Outcome.ACTIVATING)
    exited, after = await _run_activation(run, request, toplevel, action, name)
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
        is_half_done=_is_half_done(run, action, exited),
    )
    reached = await _judge_or_undo(run, ended)
    if name is not None and action.moves_profile:
        await _keep_by_default(run, toplevel, name, reached)
    await _arrive(run, toplevel, reached)
    return True


def _is_half_done(run: Run, action: Action, exited: ActivationExit) -> bool:
    """Whether it ended as a success, and has left units that it had yet to come to."""
    is_switch = action in (Action.SWITCH, Action.TEST)
    return exited.returncode == 0 and is_switch and run.ports.systemd.has_work_left()


async def _has_announced(
    run: Run,
    request: Request,
    toplevel: StorePath,
    action: Action,
    *,
    before: Systems,
    baseline: Baseline,
) -> bool:
    """Announce the activation and look once more; False, with nothing left, if it is held."""
    unannounced = run.record
    await _announce(run, toplevel, action, before, baseline)
    # Programs were started since all that was asked: anybody who has come meanwhile goes first.
    is_left_alone = False
    try:
        is_left_alone = await _is_left_alone(run, request)
    finally:
        if not is_left_alone:
            await forget(run.ports)
            run.record = replace(unannounced, outcome=Outcome.FAILED)
    return is_left_alone


async def _run_activation(
    run: Run, request: Request, toplevel: StorePath, action: Action, name: str | None
) -> tuple[ActivationExit, Systems]:
    """Run nixos-rebuild and wait for what outlives it; return how the host is then, too."""
    ports = run.ports
    ports.sink.emit(
        events.ACTIVATION_STARTED,
        action=action,
        toplevel=toplevel,
        reasons=list(request.reasons),
    )
    with run.report.step("activate", ports.clock):
        async with invocation_noted(run, toplevel):
            exited = await _start(run, action, request.candidate, toplevel, name)
        if is_busy(exited.returncode, exited.tail):
            disown(run)
        if exited.timed_out:
            await _await_activation(run, toplevel)
        await take_losers_profile_back(run, action, toplevel, exited)
    after = ports.host.systems()
    ports.sink.emit(
        events.ACTIVATION_FINISHED,
        action=action,
        returncode=exited.returncode,
        running=after.running,
        profile=after.profile,
    )
    return exited, after


async def _judge_or_undo(run: Run, ended: ActivationResult) -> Outcome:
    """Return what was reached.

    Raises:
        ActivationError: not what was wanted; a lasting action was undone.
    """
    try:
        return judge_activation(ended)
    except ActivationError as error:
        if ended.action is not Action.DRY_ACTIVATE:
            await _undo(run, ended, error)
        elif error.kind is Kind.SWITCH_INHIBITED:
            run.record = replace(run.record, outcome=Outcome.FAILED, previous=None)
        raise


def _specialisation(run: Run, toplevel: StorePath) -> str | None:
    """Return which specialisation is to run, if the system has it: its gate was passed by now."""
    name = wanted_specialisation(run)
    return name if name in run.ports.host.specialisations(toplevel) else None


def _as_it_runs(run: Run, toplevel: StorePath) -> StorePath:
    """Return what of a system is to run: itself, or its specialisation of the wanted name."""
    return as_specialised(run.ports, toplevel, _specialisation(run, toplevel)) or toplevel


def _can_boot(run: Run, name: str | None) -> bool:
    """Return whether the loader can be made to start a specialisation; otherwise the run is held.

    Before anything is changed, the entry of the one that runs tells.
    """
    ports = run.ports
    running = ports.host.systems().running
    if name is None or running is None or running_specialisation(ports) is None:
        return True
    if ports.loader.can_be_default(running):
        return True
    reason = f"the boot loader cannot be made to start the specialisation {name!r} by default"
    judgement = apply_override(
        run, Judgement(Gate.SPECIALISATION_LOST, is_open=False, reason=reason)
    )
    if not judgement.is_open:
        _hold(run, (judgement.gate, judgement.reason))
    return judgement.is_open


async def _keep_by_default(run: Run, toplevel: StorePath, name: str, reached: Outcome) -> None:
    """Let the next boot be of the specialisation, too.

    Raises:
        ActivationError: it would not be, and the system only waits for that boot: it was undone.
    """
    ports = run.ports
    if await start_by_default(ports, toplevel, name):
        return
    ports.sink.emit(events.DEFAULT_LEFT, toplevel=toplevel, default=ports.loader.default())
    if reached is not Outcome.STAGED or Gate.SPECIALISATION_LOST in run.settings.ignored_gates:
        return
    reason = f"the boot loader would not start the specialisation {name!r} of {toplevel}"
    reasons = ((Gate.SPECIALISATION_LOST, reason),)
    if not await roll_back(run, toplevel, Action.BOOT, Fault.SUSPECT, reasons):
        report_decision(run, toplevel)
    raise ActivationError(
        Kind.ACTIVATION_INEFFECTIVE,
        f"{reason}; it was staged, and is not any more",
        hint="has the boot partition an entry of it? `--ignore-gate specialisation-lost` goes on",
    )


async def _take_baseline(run: Run, action: Action, own: ConfirmPolicy) -> Baseline:
    if action is Action.DRY_ACTIVATE:
        return Baseline()
    with run.report.step("baseline", run.ports.clock):
        return await take_baseline(run.ports, run.policy, own)


async def _announce(
    run: Run, toplevel: StorePath, action: Action, before: Systems, baseline: Baseline
) -> None:
    """Leave behind all that somebody else needs to end this upgrade, before it begins."""
    ports = run.ports
    is_lasting = action is not Action.DRY_ACTIVATE
    run.record = replace(
        run.record,
        action=action,
        toplevel=toplevel,
        previous=before.running or "unknown",
        boot_id=before.boot_id,
        baseline=baseline.serialise() if is_lasting else None,
    )
    if is_lasting:
        run.note(Outcome.ARMED)
        note_what_runs(ports)
        ports.marks.set(Mark.PENDING, toplevel)
        delay = run.policy.dead_man_delay
        try:
            await ports.systemd.arm(delay, run.settings.run_id, toplevel)
        except HostError:
            await forget(ports)
            run.record = replace(run.record, outcome=Outcome.FAILED)
            raise
        ports.sink.emit(events.DEAD_MAN_ARMED, seconds=delay.total_seconds(), toplevel=toplevel)


async def _start(
    run: Run, action: Action, found: Candidate, toplevel: StorePath, name: str | None
) -> ActivationExit:
    """Run nixos-rebuild; where it cannot even be started, take the announcement back.

    A specialisation, by name, is given only to actions that nixos-rebuild allows it for.
    """
    rebuild = run.ports.nixos_rebuild
    special = name if action in (Action.SWITCH, Action.TEST) else None
    try:
        if run.policy.strategy is Strategy.STORE_PATH:
            return await rebuild.activate_store_path(action, toplevel, special)
        return await rebuild.activate_flake(action, _flake(found), run.policy.host, special)
    except AgentError:
        await forget(run.ports)
        run.record = replace(run.record, outcome=Outcome.FAILED)
        raise


async def _await_activation(run: Run, toplevel: StorePath) -> None:
    """Wait for an activation that outlives nixos-rebuild, then stop it if it is ours."""
    ports = run.ports
    if await ports.systemd.is_activating() is False:
        return
    ports.sink.emit(events.ACTIVATION_AWAITED)
    end = ports.clock.elapsed() + run.policy.confirm.deadline.total_seconds()
    while await ports.systemd.is_activating() is not False:
        if ports.clock.elapsed() >= end:
            await stop_own(run, run.record, toplevel)
            return
        await ports.clock.sleep(_POLL)


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


async def _undo(run: Run, ended: ActivationResult, error: ActivationError) -> None:
    """Bring the host back to where it was, as far as the activation has changed it."""
    ports, toplevel = run.ports, ended.toplevel
    if error.kind is Kind.ACTIVATION_BUSY or ended.is_overtaken:
        await _leave_to_rival(run, ended)
        return
    if ended.refusal is not None and ports.loader.default() != toplevel:
        await _take_back(run, ended, error)
        return
    is_unmoved = (ended.after.running, ended.after.profile) == (
        ended.before.running,
        ended.before.profile,
    )
    is_unbegun = ended.code in _UNBEGUN and not ended.has_begun
    if is_unmoved and (ended.refused or is_unbegun):
        await forget(ports)
        run.record = replace(run.record, outcome=Outcome.FAILED, fault=Fault.SUSPECT)
        return
    cause, reasons = fault_of_activation(error.kind, ended), ((error.kind, error.message),)
    if run.policy.confirm.on_failure is OnFailure.HOLD and ended.is_running:
        # Its services may have begun to migrate their data.
        _stay(run, toplevel, cause, reasons)
    elif not await roll_back(run, toplevel, _action_back(ended), cause, reasons):
        report_decision(run, toplevel)


async def _leave_to_rival(run: Run, ended: ActivationResult) -> None:
    """Keep what another activation has brought, and take back what ours has moved before it.

    While the other goes on, nobody knows what it brings: the row stays as it is, and the next run
    sees what has come of it.
    """
    if await await_rival(run, ended) and await give_profile_back(run, ended):
        await forget(run.ports)
        run.record = replace(run.record, outcome=Outcome.FAILED)


async def _take_back(run: Run, ended: ActivationResult, error: ActivationError) -> None:
    """Undo an activation that was refused before it began: nothing but the profile has moved."""
    if not await give_profile_back(run, ended):
        return  # the next run tries again
    await forget(run.ports)
    fault = fault_of_refusal(error.kind)
    run.record = replace(
        run.record,
        outcome=Outcome.FAILED,
        fault=fault,
        previous=run.record.previous if fault else None,
    )


def _stay(run: Run, toplevel: StorePath, cause: Fault, reasons: tuple[Reason, ...]) -> None:
    """Leave a system whose activation failed to a person."""
    run.ports.sink.emit(
        events.CONFIRMATION_BROKEN,
        toplevel=toplevel,
        reasons=[{"name": name, "reason": reason} for name, reason in reasons],
        rolls_back=False,
    )
    run.try_note(Outcome.PENDING, fault=cause, reasons=reasons)


def _action_back(ended: ActivationResult) -> Action:
    """Return how to undo: the services are left alone where the activation has not begun."""
    is_unbegun = not (ended.has_begun or ended.is_running)
    if ended.action is Action.SWITCH and ended.code == 1 and is_unbegun:
        return Action.BOOT
    return ended.action


async def _arrive(run: Run, toplevel: StorePath, reached: Outcome) -> None:
    """Commit what was reached, unless the dead-man has decided first: then it ends the upgrade."""
    ports = run.ports
    if reached is Outcome.STAGED:
        if not ports.marks.move(Mark.PENDING, toplevel, Mark.STAGED):
            ports.sink.emit(events.CLAIM_LOST, toplevel=toplevel)
            report_decision(run, toplevel)
            return
        await ports.systemd.disarm()
    run.report.outcome = reached
    run.try_note(reached)  # what was reached is to be judged, whether or not that can be written


async def verify(ports: Ports, policy: Policy, found: Candidate, report: Report) -> None:
    """Prove, before anything is fetched or built, that Hydra built this host's configuration.

    Without that proof, too, nix is handed only a flake that may be fetched with all its inputs.

    Raises:
        NixError: PATH_MISMATCH, FLAKE_INSECURE, FLAKE_HAS_LOGIN, or why the flake cannot be
            evaluated.
    """
    if policy.strategy is Strategy.FLAKE:
        with report.step("verify", ports.clock):
            await require_fetchable(ports, policy.allow_insecure, _flake(found))
    if not policy.verify:
        ports.sink.emit(events.VERIFY_SKIPPED)
        return
    if policy.strategy is Strategy.STORE_PATH:
        return  # nothing is evaluated; the host name is compared once the system is there
    ports.sink.emit(events.VERIFY_STARTED, **candidate_fields(found))
    with report.step("verify", ports.clock):
        evaluated = await ports.nix.evaluate_toplevel(_flake(found), policy.host)
    if evaluated != found.toplevel:
        raise _mismatch("evaluates to", evaluated, found)
    ports.sink.emit(events.VERIFY_PASSED, **candidate_fields(found))


def _flake(found: Candidate) -> LockedFlakeReference:
    assert found.flake is not None  # noqa: S101 - the flake strategy always asks for it
    return found.flake


def _mismatch(how: str, other: StorePath, found: Candidate) -> NixError:
    return NixError(
        Kind.PATH_MISMATCH,
        f"{found.flake} {how} {other}, but Hydra's build {found.build_id} is {found.toplevel}",
        hint="is hydra.job the job of this very configuration, and the flake pure?",
    )
