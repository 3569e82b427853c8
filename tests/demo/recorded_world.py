"""Rebuilds, from the recorded exchanges themselves, the Hydra that they were recorded from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from agent.demo.hydra.server import EmbeddedHydra
from agent.demo.hydra.world import Build, Eval, Jobset, World
from demo.hydra_changes import disable_jobset, rename_jobset, restart

RECORDED = Path(__file__).parent.parent / "fixtures" / "hydra-recorded"
PROJECT = "nix-config"

# What takes a user of Hydra, which the agent never is.
OF_USERS = ("current-user-", "login-", "private-cookie-", "private-login", "restart-2-admin-")

# What the agent never asks, and the embedded Hydra does not know.
NEVER_ASKED = re.compile("/(latest-for|prometheus|constituents)(/|$)")

# Recorded at other moments than most, when some rows were not what they became, or had been.
EARLIER = frozenset({"build-queued", "build-repointed-unfinished-again"})
LATER = frozenset(
    {
        "build-cancelled",
        "eval-flake-pathflake",
        "eval-flake-subdir",
        "eval-flake-tarball",
        "job-removed-eval-job",
        "job-removed-latest",
        "restart-3-build-after",
        "restart-4-latest-regressed",
    }
)
# The jobset of an eval, where no recorded list of evals says it.
JOBSET_OF_EVAL = {2: "main", 20: "disabled", 22: "legacy", 3356: "main"}


@dataclass(frozen=True)
class Recording:
    name: str
    method: str
    path: str
    sent: dict[str, str]
    sent_body: str
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def location(self) -> str | None:
        return self.headers.get("Location")

    @property
    def host(self) -> str:
        """What the client was told, or said itself, that Hydra is called."""
        told = urlsplit(self.location or self.sent.get("Origin", "")).netloc
        return self.sent.get("Host") or told or "127.0.0.1:3000"

    @property
    def session(self) -> str | None:
        found = re.match("hydra_session=([0-9a-f]{40});", self.headers.get("Set-Cookie", ""))
        return found and found[1]

    @property
    def known_session(self) -> str | None:
        """The session that was sent, if Hydra kept it."""
        return self.session if f"={self.session}" in self.sent.get("Cookie", "") else None


def load(name: str) -> Recording:
    data = json.loads((RECORDED / f"{name}.json").read_text())
    asked = data["request"]
    return Recording(
        name,
        asked["method"],
        asked["path"],
        asked["headers"],
        asked.get("body", ""),
        data["status"],
        data["headers"],
        data["body"],
    )


def all_recordings() -> list[Recording]:
    """Return all but what takes a user."""
    names = (path.stem for path in sorted(RECORDED.glob("*.json")))
    return [load(name) for name in names if not name.startswith(OF_USERS)]


def hydra_of(recording: Recording) -> EmbeddedHydra:
    """The embedded Hydra as it must have been when this was recorded."""
    hydra = EmbeddedHydra(world_of(recording))
    known = (one.known_session for one in all_recordings())
    hydra.sessions.update(session for session in known if session is not None)
    return hydra


def world_of(recording: Recording) -> World:
    world = usual_world()
    name = recording.name
    world.is_private = name.startswith("private-")
    world.is_database_down = name.startswith("dbdown-")
    if name in EARLIER:
        _go_back_to(world, recording)
    elif name in {"restart-3-build-after", "restart-4-latest-regressed"}:
        restart(world, 32)
    elif name == "build-cancelled":
        queued = dict.fromkeys(("buildstatus", "starttime", "stoptime"))
        world.put_build(_build(world, {**recording.body, **queued, "finished": 0}))
        world.now = lambda: recording.body["stoptime"]
        world.finish(41, status=4)
    elif name.startswith("eval-flake-"):
        where = _jobset(world, name.removeprefix("eval-flake-"))
        _put_eval(world, recording.body, where)
    elif name.startswith("job-removed-"):
        # The newest eval has the jobs of the one before, `metrics` aside.
        builds = [
            number for number in world.evals[18].builds if world.builds[number].job != "metrics"
        ]
        world.evals[3356] = Eval(3356, _jobset(world, "main"), None, 1795215218, builds)
    return world


def usual_world() -> World:
    """What most of the recordings saw."""
    world = World()
    recordings = [one for one in all_recordings() if one.name not in EARLIER | LATER]
    for one in recordings:
        _take_jobset(world, one)
    for name in ("empty", "legacy", "disabled", "oldname"):
        _jobset(world, name)
    disable_jobset(world, PROJECT, "disabled")
    rename_jobset(world, PROJECT, "oldname", "newname")
    for take in (_take_evals, _take_builds):
        for one in recordings:
            take(world, one)
    # Since finished: `latest-finished` found an eval of theirs that had nothing unfinished.
    for body in (load(name).body for name in EARLIER):
        _put_if_unknown(world, {**body, "finished": 1, "buildstatus": 0})
    for one in all_recordings():
        _take_redirect(world, one)
    for number in {number for one in world.evals.values() for number in one.builds}:
        _put_if_unknown(world, {"id": number, "finished": 1, "buildstatus": 1})
    world.narinfos["vc5mmzcxri0id7279640wvk9jsv7ylqy"] = load("narinfo").body
    return world


def _take_jobset(world: World, one: Recording) -> None:
    if one.status == 200 and re.fullmatch("/jobset/[^/]+/[^/]+(/errors)?", one.path):
        body = one.body
        known = world.jobset(PROJECT, body["name"])
        row = Jobset(**{key: body[key] for key in Jobset.__slots__})
        row.errormsg = row.errormsg or (known.errormsg if known else "")
        world.put_jobset(row)


def _take_evals(world: World, one: Recording) -> None:
    if one.status != 200 or not isinstance(one.body, dict):
        return
    if one.path.startswith("/eval/"):
        _put_eval(world, one.body, _jobset(world, JOBSET_OF_EVAL.get(one.body["id"], "main")))
    elif one.path.endswith("/evals"):
        for body in one.body["evals"]:
            _put_eval(world, body, _jobset(world, "main"))


def _put_eval(world: World, body: dict[str, Any], where: Jobset) -> None:
    world.evals[body["id"]] = Eval(
        body["id"],
        where,
        body["flake"],
        body["timestamp"],
        list(body["builds"]),
        body["hasnewbuilds"],
        body["jobsetevalinputs"],
    )


def _take_builds(world: World, one: Recording) -> None:
    if one.status != 200 or isinstance(one.body, str):
        return
    if found := re.fullmatch("/build/([0-9]+)/constituents", one.path):
        _put_if_unknown(world, {"id": int(found[1])})
        bodies = one.body
    elif one.path.startswith("/build/"):
        bodies = [one.body]
    elif one.path.startswith("/api/"):
        bodies = [body for body in one.body if body["id"] not in world.builds]
    else:
        return
    for body in bodies:
        world.put_build(_build(world, body))


def _take_redirect(world: World, one: Recording) -> None:
    """A redirect of `latest` says that a build is a good one of a job, if nothing else tells."""
    found = re.fullmatch("/job/([^/]+)/main/([^/]+)/latest.*", one.path)
    target = re.search("/build/([0-9]+)$", one.location or "")
    if found and target:
        body = {"id": int(target[1]), "job": unquote(found[2]), "finished": 1, "buildstatus": 0}
        _put_if_unknown(world, body)


def _put_if_unknown(world: World, body: dict[str, Any]) -> None:
    if body["id"] not in world.builds:
        world.put_build(_build(world, body))


def _build(world: World, body: dict[str, Any]) -> Build:
    """A row from a body, or from what little a list says; the rest is made up."""
    return Build(
        id=body["id"],
        jobset=_jobset(world, body.get("jobset", "main")),
        job=body.get("job", f"unknown-{body['id']}"),
        nixname=body.get("nixname", ""),
        system=body.get("system", ""),
        drvpath=body.get("drvpath", ""),
        outputs={name: output["path"] for name, output in body.get("buildoutputs", {}).items()},
        timestamp=body.get("timestamp", 0),
        finished=body.get("finished", 0),
        buildstatus=body.get("buildstatus"),
        starttime=body.get("starttime"),
        stoptime=body.get("stoptime"),
        priority=body.get("priority", 100),
        releasename=body.get("releasename"),
        products=body.get("buildproducts", {}),
    )


def _jobset(world: World, name: str) -> Jobset:
    return world.jobset(PROJECT, name) or world.add_jobset(PROJECT, name)


def _go_back_to(world: World, recording: Recording) -> None:
    """Undo what came after a build was recorded: newer evals, and the build's own end."""
    newest = max(recording.body["jobsetevals"])
    for eval_id in [number for number in world.evals if number > newest]:
        del world.evals[eval_id]
    world.put_build(_build(world, recording.body))
