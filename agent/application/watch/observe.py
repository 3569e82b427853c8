"""Looks at Hydra and at the host, and changes neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.facts.inhibitors import find_inhibitors
from agent.application.report import candidate_fields, error_fields
from agent.domain.build import Build, admit
from agent.domain.candidate import Candidate
from agent.domain.decide import Observation
from agent.domain.policy import Policy, Strategy
from agent.domain.systems import reboot_need

if TYPE_CHECKING:
    from agent.application.ports import EventSink, HostFacts, Hydra, Outlook


@dataclass(frozen=True, slots=True)
class Found:
    """The candidate, and the build it was made from."""

    candidate: Candidate
    build: Build


async def find_candidate(hydra: Hydra, host: HostFacts, policy: Policy, store_dir: str) -> Found:
    """Return Hydra's newest good build for this host as a candidate.

    Raises:
        HydraError: there is none, or Hydra cannot tell; the kind says why.
    """
    build_id = await hydra.newest_good_build(policy.job, policy.select)
    build = await hydra.build(build_id)
    toplevel = admit(build, policy.job, store_dir=store_dir, system=host.platform())
    eval_id, flake = (
        await hydra.locked_flake(build) if policy.strategy is Strategy.FLAKE else (None, None)
    )
    candidate = Candidate(
        job=policy.job,
        build_id=build.id,
        toplevel=toplevel,
        system=build.system,
        finished_at=build.finished_at,
        eval_id=eval_id,
        flake=flake,
    )
    return Found(candidate, build)


def look_at_host(host: HostFacts, candidate: Candidate) -> Observation:
    """Return where the host stands with respect to a candidate."""
    systems = host.systems()
    booted = host.boot_artifacts(systems.booted) if systems.booted else None
    wanted = host.boot_artifacts(host.counterpart(systems.profile)) if systems.profile else None
    return Observation(
        candidate=candidate,
        systems=systems,
        equivalents=host.equivalents(candidate.toplevel),
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
