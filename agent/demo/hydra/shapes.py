"""Owns the shapes of Hydra's answers: its JSON entities and its HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agent.demo.hydra.world import Build, Eval, Jobset, World

EVALS_PER_PAGE: Final = 20


def build(row: Build, world: World) -> dict[str, Any]:
    """Return a build as `/build/N` shows it (recorded build-*)."""
    return {
        "id": row.id,
        "finished": row.finished,
        "timestamp": row.timestamp,
        "starttime": row.starttime,
        "stoptime": row.stoptime,
        "project": row.jobset.project,
        "jobset": row.jobset.name,
        "job": row.job,
        "nixname": row.nixname,
        "system": row.system,
        "priority": row.priority,
        "buildstatus": row.buildstatus,
        "releasename": row.releasename,
        "drvpath": row.drvpath,
        "jobsetevals": world.evals_of(row.id),
        "buildoutputs": {name: {"path": path} for name, path in row.outputs.items()},
        "buildproducts": dict(row.products),
        "buildmetrics": {},
    }


def listed_build(row: Build) -> dict[str, Any]:
    """Return a build as the lists under `/api` show it: a status or a priority, never both."""
    return {
        "id": row.id,
        "project": row.jobset.project,
        "jobset": row.jobset.name,
        "job": row.job,
        "system": row.system,
        "nixname": row.nixname,
        "finished": row.finished,
        "timestamp": row.timestamp,
        **({"buildstatus": row.buildstatus} if row.finished else {"priority": row.priority}),
    }


def evaluation(row: Eval) -> dict[str, Any]:
    """Return an eval as `/eval/N` shows it (recorded eval-*)."""
    return {
        "id": row.id,
        "flake": row.flake,
        "timestamp": row.timestamp,
        "hasnewbuilds": row.hasnewbuilds,
        "checkouttime": 0,
        "evaltime": 0,
        "builds": list(row.builds),
        "jobsetevalinputs": dict(row.inputs),
    }


def evaluations(rows: list[Eval], page: int) -> dict[str, Any]:
    """Return one page of a jobset's evals (recorded jobset-main-evals)."""
    last = -(-len(rows) // EVALS_PER_PAGE)
    start = (page - 1) * EVALS_PER_PAGE
    return {
        "evals": [evaluation(row) for row in rows[start : start + EVALS_PER_PAGE]],
        "first": "?page=1",
        "last": f"?page={last}",
        **({"previous": f"?page={page - 1}"} if page > 1 else {}),
        **({"next": f"?page={page + 1}"} if page < last else {}),
    }


def jobset(row: Jobset, *, with_error: bool = False) -> dict[str, Any]:
    """Return a jobset; its error's text is shown by `…/errors` alone (recorded jobset-broken*)."""
    return {
        "project": row.project,
        "name": row.name,
        "description": "",
        "enabled": row.enabled,
        "visible": True,
        "type": row.type,
        "flake": row.flake,
        "nixexprinput": row.nixexprinput,
        "nixexprpath": row.nixexprpath,
        "inputs": {},
        "errormsg": row.errormsg if with_error else "",
        "fetcherrormsg": row.fetcherrormsg,
        "errortime": row.errortime,
        "lastcheckedtime": row.lastcheckedtime,
        "starttime": row.starttime,
        "triggertime": row.triggertime,
        "checkinterval": row.checkinterval,
        "schedulingshares": 100,
        "keepnr": 3,
        "enableemail": False,
        "emailoverride": "",
        "enable_dynamic_run_command": False,
    }


def project(name: str, world: World) -> dict[str, Any]:
    """Return a project as `/project/P` shows it (Project.pm, `as_json`)."""
    is_declarative = name in world.declarative_projects
    return {
        "name": name,
        "displayname": name,
        "description": "",
        "homepage": "",
        "owner": "admin",
        "enabled": name not in world.disabled_projects,
        "hidden": False,
        "jobsets": sorted(jobset for project, jobset in world.jobsets if project == name),
        **({"declarative": {"file": "spec.json", "type": "git"}} if is_declarative else {}),
    }


def shield(last: Build) -> dict[str, Any]:
    """Return the badge of a job's last finished build (recorded job-alpha-shield)."""
    color, message = {0: ("green", "passing"), 4: ("yellow", "cancelled")}.get(
        last.buildstatus or 0, ("red", "failing")
    )
    return {"schemaVersion": 1, "label": "hydra build", "color": color, "message": message}


def page(title: str, value: object) -> str:
    """Return a page for a person: nothing in it is meant to be read by a program."""
    text = html.escape(str(value))
    return (
        '<!DOCTYPE html>\n\n<html lang="en">\n\n  <head>\n'
        f"    <title>Hydra - {html.escape(title)}</title>\n  </head>\n\n"
        f'  <body>\n    <div class="page-header">{html.escape(title)}</div>\n'
        f"    <pre>{text}</pre>\n  </body>\n\n</html>\n"
    )


def moved(location: str) -> str:
    """Return the body of every redirect, whatever the client would accept."""
    return (
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">\n'
        '    <html xmlns="http://www.w3.org/1999/xhtml">\n    <head>\n    <title>Moved</title>\n'
        "    </head>\n    <body>\n"
        f'   <p>This item has moved <a href="{html.escape(location)}">here</a>.</p>\n'
        "</body>\n</html>\n"
    )
