"""Looks at Hydra and at the host, and changes neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.report import candidate_fields, error_fields, held_fields
from agent.domain.build import Build, admit
from agent.domain.candidate import OF_ONE_BUILD, Candidate, RefusedBuild
from agent.domain.choose import Observation, held_builds
from agent.domain.errors import HydraError, Kind
from agent.domain.policy import Policy, Strategy
from agent.domain.systems import reboot_need

if TYPE_CHECKING:
    from agent.application.ports import EventSink, HostFacts, Hydra, Outlook
    from agent.domain.choose import Decision
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class Found:
    """What Hydra names as its newest good build: a candidate, or why it is none.

    `build` is what it was made from, None if Hydra has none of that number.
    """

    newest: Candidate | RefusedBuild
    build: Build | None


async def find_newest(hydra: Hydra, host: HostFacts, policy: Policy, store_dir: str) -> Found:
    """Return Hydra's newest good build for this host.

    Raises:
        HydraError: there is none, or Hydra does not say; the kind says why.
    """
    build_id = await hydra.newest_good_build(policy.job, policy.select)
    build = toplevel = None
    try:
        build = await hydra.build(build_id)
        toplevel = admit(build, policy.job, store_dir=store_dir, system=host.platform())
        return Found(await _candidate(hydra, policy, build, toplevel), build)
    except HydraError as fault:
        # A build of another job is no answer about this one.
        if fault.kind not in OF_ONE_BUILD or fault.kind is Kind.BUILD_OTHER_JOB:
            raise
        return Found(RefusedBuild(policy.job, build_id, fault, toplevel), build)


async def _candidate(hydra: Hydra, policy: Policy, build: Build, toplevel: StorePath) -> Candidate:
    eval_id, flake = (
        await hydra.locked_flake(build) if policy.strategy is Strategy.FLAKE else (None, None)
    )
    return Candidate(
        job=policy.job,
        build_id=build.id,
        toplevel=toplevel,
        system=build.system,
        finished_at=build.finished_at,
        eval_id=eval_id,
        flake=flake,
    )


async def look_again(
    hydra: Hydra, host: HostFacts, candidate: Candidate, store_dir: str
) -> HydraError | None:
    """Return the objection to a build that was good when it was seen; None: nothing."""
    try:
        build = await hydra.build(candidate.build_id)
        toplevel = admit(build, candidate.job, store_dir=store_dir, system=host.platform())
    except HydraError as error:
        return error
    if toplevel != candidate.toplevel:
        what = f"build {build.id} has the output {toplevel} now, and had {candidate.toplevel}"
        return HydraError(Kind.PATH_MISMATCH, what)
    return None


def look_at_host(host: HostFacts) -> Observation:
    """Return what a choice needs to know of the host."""
    systems = host.systems()
    booted = host.boot_artifacts(systems.booted) if systems.booted else None
    wanted = host.boot_artifacts(host.counterpart(systems.profile)) if systems.profile else None
    return Observation(
        systems=systems,
        need=reboot_need(booted, wanted),
        inhibitors=find_inhibitors(host, systems.profile and host.counterpart(systems.profile)),
    )


def log_candidate(sink: EventSink, candidate: Candidate) -> None:
    """Log the candidate, and bind its build to what follows."""
    sink.emit(
        events.BUILD_SELECTED,
        **candidate_fields(candidate),
        finished_at=candidate.finished_at and candidate.finished_at.isoformat(),
    )
    sink.bind(build_id=candidate.build_id)


def log_choice(
    sink: EventSink,
    newest: Candidate | RefusedBuild,
    chosen: Candidate | None,
    decision: Decision,
) -> None:
    """Log what is done, and, where that is about an older build, why not about the newer ones."""
    if chosen is not None and chosen != newest:
        sink.emit(
            events.OLDER_BUILD_CHOSEN,
            **candidate_fields(chosen),
            newer=held_fields(held_builds(decision)),
        )
        sink.bind(build_id=chosen.build_id)
    sink.emit(events.DECISION_MADE, decision=decision.name, reason=getattr(decision, "reason", ""))


def log_upcoming_builds(sink: EventSink, outlook: Outlook) -> None:
    """Warn where no newer build will come although all looks well."""
    if outlook.newer_build_failed:
        sink.emit(events.NEWER_BUILD_RED)
    if outlook.gone_since_eval is not None:
        sink.emit(events.JOB_GONE, eval_id=outlook.gone_since_eval)
    if outlook.is_jobset_disabled:
        sink.emit(events.JOBSET_IS_DISABLED)
    if outlook.is_project_disabled:
        sink.emit(events.PROJECT_IS_DISABLED)
    if outlook.evaluation_error:
        sink.emit(events.EVALUATION_BROKEN, message=outlook.evaluation_error)
    if outlook.fault is not None:
        sink.emit(events.OUTLOOK_UNKNOWN, **error_fields(outlook.fault))
