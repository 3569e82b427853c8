"""What may happen to an embedded Hydra, or to a server on loopback, besides what the demo shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.demo.loopback import Answer, HangUp, LoopbackServer, Request

if TYPE_CHECKING:
    from agent.demo.hydra.world import World


def disable_jobset(world: World, project: str, name: str) -> None:
    """Its builds stay, and `latest` goes on answering the last good one."""
    with world.lock:
        world.jobsets[project, name].enabled = 0


def disable_project(world: World, project: str) -> None:
    """Nothing in it is evaluated, though its jobsets stay enabled."""
    with world.lock:
        world.disabled_projects.add(project)


def rename_jobset(world: World, project: str, old: str, new: str) -> None:
    """Requests for the old name are redirected from now on."""
    with world.lock:
        jobset = world.jobsets.pop((project, old))
        jobset.name = new
        world.jobsets[project, new] = jobset
        world.renames[project, old] = new


def fail_evaluation(world: World, project: str, name: str, errormsg: str) -> None:
    """It leaves no eval, only the jobset's error text ("" lifts it)."""
    with world.lock:
        jobset = world.jobsets[project, name]
        jobset.errormsg = errormsg
        jobset.errortime = jobset.lastcheckedtime = int(world.now())


def restart(world: World, build_id: int) -> None:
    """Build a finished build again; its old status and times stay (recorded restart-3)."""
    with world.lock:
        world.builds[build_id] = replace(world.builds[build_id], finished=0)


def stay_silent_on(server: LoopbackServer, path: str) -> None:
    """Take requests for `path` and never answer; they end when the server is closed."""

    def silence(_: Request) -> Answer:
        server.stopping.wait()
        raise HangUp

    server.overrides[path] = silence
