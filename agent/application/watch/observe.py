"""Looks at Hydra and at the host, and changes neither."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.application import events
from agent.application.report import candidate_fields, error_fields
from agent.domain.build import Build, admit
from agent.domain.candidate import Candidate
from agent.domain.decide import Observation
from agent.domain.errors import Kind, NixError
from agent.domain.policy import Policy, Strategy
from agent.domain.systems import changed_inhibitors, reboot_need

if TYPE_CHECKING:
    from datetime import datetime

    from agent.application.ports import EventSink, Host, Hydra, Outlook
    from agent.domain.store_path import StorePath


@dataclass(frozen=True, slots=True)
class Found:
    """The candidate, and the build it was made from."""

    candidate: Candidate
    build: Build


async def find_candidate(hydra: Hydra, host: Host, policy: Policy, store_dir: str) -> Found:
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


def look_at_host(host: Host, candidate: Candidate) -> Observation:
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


def find_inhibitors(host: Host, toplevel: StorePath | None) -> tuple[str, ...]:
    """Return the switch inhibitors that differ between the running system and `toplevel`."""
    running = host.systems().running
    if running is None or toplevel is None or running == toplevel:
        return ()
    return changed_inhibitors(host.switch_inhibitors(running), host.switch_inhibitors(toplevel))


_UPLOADED_BY: Final = timedelta(days=1)
"""How long after a build its upload to a cache may take, generously."""


def aged(error: NixError, found: Candidate | None, now: datetime) -> NixError:
    """Return the fault of a path that is in no cache with what the age of its build says of it."""
    finished = None if found is None else found.finished_at
    if error.kind is not Kind.PATH_NOT_CACHED or found is None or finished is None:
        return error
    age = now - finished
    if age <= _UPLOADED_BY:
        return error
    return NixError(
        error.kind,
        f"{error.message}, although build {found.build_id} was finished {age.days} day(s) ago,"
        f" on {finished:%Y-%m-%d}",
        hint="the cache has never received it, or has removed it as garbage since: have Hydra build"
        " it again, and let the cache keep what hosts still need",
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
