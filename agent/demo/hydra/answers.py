"""Owns which path asks what of the world, and how Hydra refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from agent.demo.hydra import shapes
from agent.demo.hydra.replies import (
    JSON,
    NARINFO,
    Entity,
    Plain,
    Redirect,
    RefusalError,
    Reply,
    link,
    to_json,
)

if TYPE_CHECKING:
    from agent.demo.hydra.world import Build, Eval, Jobset, World
    from agent.demo.loopback import Request

_NARINFO: Final = re.compile(r"([a-z0-9]{32})\.narinfo")
_MAX_ID: Final = 2**31 - 1
_DAY: Final = 24 * 3600
_SIGN_IN: Final = "This page requires you to sign in."
_NO_BUILD: Final = "There is no successful build to redirect to."
_BROKE_OFF: Final = (
    "Content-Type application/json had a problem with your request.\n***ERROR***\n"
    "DBIx::Class::Storage::DBI::dbh_do(): DBI Connection failed: DBI "
    "connect('host=127.0.0.1;port=5442;dbname=hydra','hydra',...) failed: FATAL:  the database "
    "system is shutting down at /usr/share/perl5/DBIx/Class/Storage/DBI.pm line 1639.\n"
)
_DATABASE_DOWN: Final = (
    "DBIx::Class::Storage::DBI::catch {...} (): DBI Connection failed: DBI "
    "connect('host=127.0.0.1;port=5442;dbname=hydra','hydra',...) failed: connection to server at "
    '"127.0.0.1", port 5442 failed: Connection refused\n\tIs the server running on that host and '
    "accepting TCP/IP connections? at /usr/share/perl5/DBIx/Class/Storage/DBI.pm line 1639. at "
    "/hydra/app/script/../lib/Hydra/Helper/CatalystUtils.pm line 445\n"
)


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers one request; the world is locked meanwhile.

    Every method may raise RefusalError.
    """

    world: World
    request: Request

    def admit(self) -> None:
        """Refuse what Hydra refuses before it looks at the path (Root.pm, `begin`)."""
        if self.world.is_private:
            raise RefusalError(403, _SIGN_IN, is_early=True)
        if self.world.is_database_down:
            raise RefusalError(500, _DATABASE_DOWN, is_early=True)

    def reply(self) -> Reply:
        """Return Hydra's answer, or that its database went away while it was written."""
        reply = self._reply()
        if self.world.breaks_off and isinstance(reply, Entity):
            self.world.breaks_off -= 1
            return Plain(_BROKE_OFF, status=400)
        return reply

    def _reply(self) -> Reply:
        reply: Reply
        match self.request.segments:
            case ["job", project, jobset, job, *what]:
                reply = self._job(project, jobset, job, what)
            case ["project", project]:
                reply = self._project(project)
            case ["jobset", project, jobset, *what]:
                reply = self._jobset(project, jobset, what)
            case ["eval", number, *what]:
                reply = self._eval(number, what)
            case ["build", number, *what]:
                reply = self._build(number, what)
            case ["api", what]:
                reply = self._api(what)
            case ["nix-cache-info"]:
                text = f"StoreDir: {self.world.store_dir}\nWantMassQuery: 0\nPriority: 100\n"
                reply = Plain(text, max_age=_DAY)
            case [name] if found := _NARINFO.fullmatch(name):
                reply = self._narinfo(found[1])
            case _:
                raise RefusalError(404, "Page not found.")
        return reply

    def _job(self, project: str, name: str, job: str, what: list[str]) -> Reply:
        # A missing project is reported as a missing jobset (recorded job-latest-nosuch-project).
        found = self._named(project, name)
        if isinstance(found, Redirect):
            return found
        match what:
            case ["latest", *rest]:
                return self._to_build(self.world.latest(found, job), rest, _NO_BUILD)
            case ["latest-finished", *rest]:
                return self._to_build(self.world.latest_finished(found, job), rest, _NO_BUILD)
            case ["shield"]:
                if (last := self.world.last_finished(found, job)) is None:
                    raise RefusalError(404, f"No latest build for job {_quoted(job)}.")
                return Plain(to_json(shapes.shield(last)), JSON)
            case _:
                raise RefusalError(404, "Page not found.")

    def _project(self, name: str) -> Reply:
        self._require_project(name)
        return Entity(shapes.project(name, self.world), f"Project {name}")

    def _require_project(self, name: str) -> None:
        if name not in self.world.projects:
            raise RefusalError(404, f"Project {_quoted(name)} doesn't exist.")

    def _jobset(self, project: str, name: str, what: list[str]) -> Reply:
        self._require_project(project)
        found = self._named(project, name)
        if isinstance(found, Redirect):
            return found
        title = f"Jobset {project}:{name}"
        match what:
            case []:
                return Entity(shapes.jobset(found), title)
            case ["errors"]:
                return Entity(shapes.jobset(found, with_error=True), title)
            case ["evals"]:
                page = max(1, _number(self.request.query.get("page", "1")))
                evals = self.world.evals_with_news(found)
                return Entity(shapes.evaluations(evals, page), title)
            case ["latest-eval", *rest]:
                latest = self.world.latest_finished_eval(found)
                if latest is None:
                    raise RefusalError(404, "No evaluation found.")
                # The jobset's name gets into the parameters (recorded jobset-main-latest-eval).
                query = urlencode({**self.request.query, "name": name})
                return Redirect(link(self.request, "eval", latest.id, *rest, query=query))
            case _:
                raise RefusalError(404, "Page not found.")

    def _eval(self, number: str, what: list[str]) -> Reply:
        found = self.world.evals.get(_row_id(number))
        if found is None:
            raise RefusalError(404, f"Evaluation {number} doesn't exist.")
        match what:
            case []:
                return Entity(shapes.evaluation(found), f"Evaluation {number}")
            case ["job", job, *rest]:
                text = "This evaluation has no job with the specified name."
                return self._to_build(self._member(found, job), rest, text)
            case _:
                raise RefusalError(404, "Page not found.")

    def _member(self, found: Eval, job: str) -> Build | None:
        members = (self.world.builds.get(build_id) for build_id in found.builds)
        return next((build for build in members if build is not None and build.job == job), None)

    def _build(self, number: str, what: list[str]) -> Reply:
        if not re.fullmatch("[0-9]+", number):
            raise RefusalError(500, f"Invalid build ID {_quoted(number)}.")
        found = self.world.builds.get(_row_id(number))
        if found is None:
            raise RefusalError(404, f"Build with ID {number} doesn't exist.")
        match what:
            case []:
                job = f"{found.jobset.project}:{found.jobset.name}:{found.job}"
                return Entity(shapes.build(found, self.world), f"Build {found.id} of job {job}")
            case _:
                raise RefusalError(404, "Page not found.")

    def _api(self, what: str) -> Reply:
        query = self.request.query
        if what not in {"latestbuilds", "queue"}:
            raise RefusalError(404, "Page not found.")
        if "nr" not in query:
            raise RefusalError(500, "Parameter not defined!")
        if what == "queue":
            builds = self.world.queue()
        else:
            wanted = {name: query.get(name, "") for name in ("project", "jobset", "job", "system")}
            builds = [b for b in self.world.builds_newest_first() if b.finished and _has(b, wanted)]
        listed = [shapes.listed_build(build) for build in builds[: _number(query["nr"])]]
        return Plain(to_json(listed), JSON)

    def _narinfo(self, hash_part: str) -> Reply:
        text = self.world.narinfos.get(hash_part)
        if text is None:
            return Plain("does not exist\n", status=404, max_age=3600)
        return Plain(text, NARINFO, max_age=_DAY)

    def _named(self, project: str, name: str) -> Jobset | Redirect:
        """Return a jobset, or the redirect to where it has been renamed to."""
        found = self.world.jobset(project, name)
        if found is not None:
            return found
        renamed = self.world.renames.get((project, name))
        if renamed is None:
            raise RefusalError(404, f"Jobset {_quoted(name)} doesn't exist.")
        kind, _, _, *rest = self.request.segments
        query = self.request.query_string
        return Redirect(link(self.request, kind, project, renamed, *rest, query=query), status=301)

    def _to_build(self, found: Build | None, rest: list[str], otherwise: str) -> Reply:
        """Return the redirect to a build; the query is dropped, further segments are kept."""
        if found is None:
            raise RefusalError(404, otherwise)
        return Redirect(link(self.request, "build", found.id, *rest))


def _has(build: Build, wanted: dict[str, str]) -> bool:
    """Return whether a build is what a list was narrowed to; an empty wish is none."""
    found = {
        "project": build.jobset.project,
        "jobset": build.jobset.name,
        "job": build.job,
        "system": build.system,
    }
    return all(value in {"", found[name]} for name, value in wanted.items())


def _number(text: str) -> int:
    return int(_row_id(text))


def _row_id(text: str) -> int:
    """Return a number as the database takes it; it refuses others with the SQL in its text."""
    if not re.fullmatch("[0-9]{1,18}", text):
        problem = f'invalid input syntax for type integer: "{text}"'
    elif int(text) > _MAX_ID:
        problem = f'value "{text}" is out of range for type integer'
    else:
        return int(text)
    statement = "SELECT me.id, me.timestamp FROM … WHERE ( me.id = ? )"
    raise RefusalError(
        500,
        "DBIx::Class::Storage::DBI::_dbh_execute(): DBI Exception: DBD::Pg::st execute failed: "
        f"ERROR:  {problem} [for Statement \"{statement}\" with ParamValues: 1='{text}']",
    )


def _quoted(name: str) -> str:
    return f"‘{name}’"  # noqa: RUF001 - Hydra's own quotation marks
