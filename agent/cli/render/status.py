"""Renders a status as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.render.columns import in_columns
from agent.domain.choose import Hold
from agent.domain.errors import ExitCode
from agent.domain.recovery import Step
from agent.domain.target import NIXOS

if TYPE_CHECKING:
    from agent.application.status import Status
    from agent.domain.target import Target

_VERDICTS = {
    "done": "do nothing",
    "hold": "hold",
    "upgrade": "upgrade",
    "await-reboot": "wait for a reboot",
    "reboot": "reboot",
}


def for_person(status: Status, name: str, target: Target = NIXOS) -> str:
    """Return the status as lines of facts; the last says what a run would do now.

    `name` is the name of the host or home.
    """
    return in_columns(_rows(status, name, target))


def _rows(status: Status, name: str, target: Target) -> list[tuple[str, str]]:
    rows = [(target.noun, name)]
    if status.systems is not None:
        rows.append(("running", status.systems.running or "unknown"))
        if target.may_reboot:
            rows.append(("booted", status.systems.booted or "unknown"))
        rows.append(("profile", status.systems.profile or "unknown"))
    rows += [
        (mark, path)
        for mark in ("confirmed", "pending", "staged")
        if (path := getattr(status.marks, mark)) is not None
    ]
    if status.recovery is not Step.NOTHING:
        rows.append(("recovery", f"begins with: {status.recovery}"))
    if status.error is None and target.may_reboot:
        rows.append(("loader fallback", status.loader_fallback or "none"))
    found = status.candidate
    if found is not None:
        rows.append(("candidate", f"{found.toplevel} (build {found.build_id} of {found.job})"))
        if found.flake is not None:
            rows.append(("flake", f"{found.flake} (eval {found.eval_id})"))
    rows += [("held", line) for line in _held(status)]
    rows += [("Hydra", line) for line in _outlook(status)]
    rows += [
        (
            f"gate {one.name}" if one.fault is None else one.name,
            f"{'open' if one.is_open else 'HELD'}: {one.reason}",
        )
        for one in status.gates
    ]
    if status.postponed is not None:
        rows.append(("reboot", f"waits: {status.postponed.reason}"))
    last = status.last_run
    if last is not None:
        when = (last.finished_at or last.started_at).isoformat(timespec="seconds")
        what = f"{last.outcome} {last.toplevel or ''}".strip()
        why = f": {last.error_message}" if last.error_message else ""
        rows.append(("last run", f"{when} {what}{why}"))
    rows.append(("a run would", _verdict(status)))
    return rows


def _held(status: Status) -> list[str]:
    """Return why each build other than the candidate is held."""
    return [
        f"build {one.candidate.build_id}: {'; '.join(reason for _, reason in one.reasons)}"
        for one in status.held
        if one.candidate != status.candidate
    ]


def _outlook(status: Status) -> list[str]:
    outlook, pending = status.outlook, status.pending
    newest = pending.newest
    lines = []
    if newest is not None and not newest.is_good:
        lines.append(f"build {newest.id} is newer: it {newest.state}")
    elif outlook.newer_build_failed:
        lines.append("the job's newest build failed; this is an older one")
    if pending.waiting is not None:
        lines.append(
            f"build {pending.waiting} is newer and good, and is taken once its eval is finished: if"
            " a build of the eval can never start, such as one for a platform without a builder,"
            " that is never (hydra.select)"
        )
    if outlook.gone_since_eval is not None:
        lines.append(f"the job is gone since eval {outlook.gone_since_eval}")
    if outlook.is_jobset_disabled:
        lines.append("the jobset is disabled")
    if pending.is_project_disabled:
        lines.append("the project is disabled: no new build will come")
    if outlook.evaluation_error:
        lines.append(f"evaluation fails: {outlook.evaluation_error}")
    return lines


def _verdict(status: Status) -> str:
    if status.error is not None:
        verb = "hold" if status.error.exit_code is ExitCode.HELD else "fail"
        return f"{verb}: {status.error} [{status.error.kind}]"
    verdict = _VERDICTS.get(status.verdict or "", "fail")
    why = getattr(status.decision, "reason", "")
    if isinstance(status.decision, Hold):
        why = _why_held(status, status.decision)
    return f"{verdict}: {why}" if why else verdict


def _why_held(status: Status, hold: Hold) -> str:
    """Return the names of gates, whose reasons are shown beside them, and other reasons whole."""
    shown = {one.name for one in status.gates}
    return "; ".join(name if name in shown else reason for name, reason in hold.reasons)
