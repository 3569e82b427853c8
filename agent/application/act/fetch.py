"""Carries out a `Fetch`: verifies, fetches and builds a candidate; the host stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.act.answers import Failed, Ready
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.facts.not_cached import aged
from agent.application.facts.specialisations import as_it_runs
from agent.application.facts.verify import flake_of, mismatch, verify
from agent.application.ports import RunRecord
from agent.application.row import commit, row_of
from agent.domain import states
from agent.domain.errors import ActivationError, AgentError, Kind, NixError, RequestError
from agent.domain.gates import downgrade
from agent.domain.path_record import fault_of_preparation
from agent.domain.policy import Action, Strategy
from agent.domain.request import Fetch
from agent.domain.systems import inhibitor_reason

if TYPE_CHECKING:
    from agent.application.ports import Fetched
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.store_path import StorePath


async def fetch(run: Run, text: str) -> Ready | Failed:
    """Bring the candidate of a serialised `Fetch` into the store; of the host nothing is changed.

    Phases of the run are written before their effects: what is found in the history may be
    activated by an `Activate` of the same run.
    """
    try:
        request = Fetch.parse(text, store_dir=run.settings.store_dir)
        _require_new(run, request)
        row = commit(run.ports.journal, _row_of(request))
    except AgentError as error:
        return Failed(error)
    return await _fetch_and_build(run, request, row)


def _require_new(run: Run, request: Fetch) -> None:
    """Make sure that the request is for this host and job, and was not carried out before.

    Raises:
        RequestError: it is not.
        JournalError: the history does not say.
    """
    request.envelope.require_valid(run.policy.host, run.ports.clock.now())
    if request.candidate.job != run.policy.job:
        raise RequestError(
            Kind.REQUEST_MISDIRECTED,
            f"a request for a build of {request.candidate.job.key}; this host follows"
            f" {run.policy.job.key}",
        )
    if run.policy.strategy is Strategy.FLAKE and request.candidate.flake is None:
        raise RequestError(Kind.REQUEST_MALFORMED, "a request without the flake of its build")
    run_id = request.envelope.run_id
    row = row_of(run.ports.journal, run_id)
    if row is not None and row.build_id is not None:
        raise RequestError(
            Kind.REQUEST_REPLAYED, f"the run {run_id!r} has fetched before: it is {row.outcome}"
        )


def _row_of(request: Fetch) -> RunRecord:
    envelope, found = request.envelope, request.candidate
    return RunRecord(
        run_id=envelope.run_id,
        started_at=request.started_at,
        host=envelope.host,
        job=found.job.key,
        state=states.Selected(found.toplevel),
        decision=request.decision,
        build_id=found.build_id,
        eval_id=found.eval_id,
        flake=found.flake,
        ignored_gates=request.ignored,
        sets_measure=any(passed.gate == downgrade.GATE.name for passed in request.ignored),
    )


async def _fetch_and_build(run: Run, request: Fetch, row: RunRecord) -> Ready | Failed:
    found, fetched, is_fetching = request.candidate, None, False
    journal = run.ports.journal
    try:
        await verify(run, found)
        row = commit(journal, replace(row, state=states.Verified(found.toplevel)))
        is_fetching = True
        fetched = await _substitute(run, found)
        row = commit(journal, replace(row, state=states.Fetched(found.toplevel)))
        is_fetching = False
        toplevel = await _build(run, found)
        _check_hostname(run, toplevel)
        if toplevel != found.toplevel:
            commit(journal, replace(row, state=states.Fetched(toplevel)))
        _check_inhibitors(run, request.action, toplevel)
    except NixError as error:
        fault = fault_of_preparation(error.kind, is_fetching=is_fetching)
        return Failed(error, left=states.Failed(found.toplevel, fault), fetched=fetched)
    except AgentError as error:
        return Failed(error, fetched=fetched)
    return Ready(toplevel, fetched)


async def _substitute(run: Run, found: Candidate) -> Fetched | None:
    """Return what came from the substituters; None for what is to be built here."""
    ports = run.ports
    with run.step("fetch"):
        try:
            ports.sink.emit(events.FETCH_STARTED, toplevel=found.toplevel)
            fetched = await ports.nix.substitute(found.toplevel, ports.progress)
        except NixError as error:
            if run.policy.local_builds and error.kind is Kind.PATH_NOT_CACHED:
                return None
            raise aged(error, found, ports.clock.now()) from error
    ports.sink.emit(events.FETCH_FINISHED, paths=fetched.paths, bytes=fetched.size)
    return fetched


async def _build(run: Run, found: Candidate) -> StorePath:
    """Return the path to activate: Hydra's, unless verification is off and it differs."""
    if run.policy.strategy is Strategy.STORE_PATH:
        return found.toplevel
    with run.step("build"):
        built = await run.ports.nixos_rebuild.build(flake_of(found), run.policy.host)
    run.ports.sink.emit(events.BUILD_FINISHED, toplevel=built)
    if built != found.toplevel:
        if run.policy.verify:
            raise mismatch("is built as", built, found)
        run.ports.sink.emit(events.BUILD_DIFFERS, toplevel=found.toplevel, built=built)
    return built


def _check_hostname(run: Run, toplevel: StorePath) -> None:
    """Without an evaluation, only the host name distinguishes another host's system from ours."""
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
    """Refuse a `test`, where NixOS would refuse it.

    A `switch` becomes `boot` instead, and a `dry-activate` is refused by some releases alone.
    """
    inhibitors = find_inhibitors(run.ports.host, as_it_runs(run, toplevel))
    if inhibitors and action is Action.TEST:
        raise ActivationError(
            Kind.SWITCH_INHIBITED,
            f"{inhibitor_reason(inhibitors)}: only a reboot can start {toplevel},"
            " and `test` starts it without one",
            hint="`switch` and `boot` stage it for a reboot",
        )
