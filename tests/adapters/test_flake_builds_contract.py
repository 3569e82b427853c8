"""What the ports FlakeBuilds and UpdateJobset promise, asked of the fakes and of the real ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from agent.adapters.hydra.update_jobset import HydraUpdateJobset
from agent.adapters.nix.flake import NixFlake
from agent.adapters.process import Runner
from agent.application.flake_update.ports import JobsetState
from agent.demo.hydra import EmbeddedHydra
from agent.domain.flake_update.comparison import Broken, Stage, System
from agent.domain.flake_update.hydra_proof import JobState
from agent.domain.job import Job
from fakes.events import RememberedEvents, SteppedClock
from fakes.flake_update import CHECKOUT, FakeBuilds, FakeJobset, Ground, lock_text, system

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.application.flake_update.ports import FlakeBuilds, UpdateJobset

HOSTS = ("db", "iso-minimal", "web")
OLD, NEW = "a" * 40, "b" * 40
LOCK = "flake.lock"


@dataclass
class World:
    builds: FlakeBuilds
    flake: Path
    lock: Callable[[], str]
    breaks: Callable[[], None]
    """Lets the newest input be one with which `db` does not build, and `web` changes."""


def fake_world(_request):
    ground = Ground()
    ground.directories[CHECKOUT][LOCK] = lock_text(OLD)
    old = {host: system(f"{host}-1") for host in HOSTS}
    new = {**old, "db": system("db-2"), "web": system("web-2")}
    builds = FakeBuilds(ground, {NEW: new, OLD: old})
    builds.upstream = OLD

    def breaks():
        builds.upstream = NEW
        builds.unbuildable[new["db"].derivation] = Broken(Stage.BUILD, "it failed", "cc: broken")

    return World(builds, CHECKOUT, lambda: ground.directories[CHECKOUT][LOCK], breaks)


def real_world(request):
    site = request.getfixturevalue("site")
    sink = RememberedEvents()
    builds = NixFlake(
        Runner(sink, SteppedClock(), site.environment),
        sink,
        store_dir=str(site.layout.store_dir),
        roots=request.getfixturevalue("tmp_path") / "roots",
        concurrency=2,
        hosts_at_once=4,
        local_builds=True,
        deadline=60.0,
    )
    breaks = lambda: site.release(linux="6.2", postgres="broken-9")  # noqa: E731
    return World(builds, site.path, (site.path / LOCK).read_text, breaks)


@pytest.fixture(params=[fake_world, real_world], ids=["fake", "nix"])
def world(request) -> World:
    return request.param(request)


def test_an_update_changes_what_hosts_evaluate_to_and_what_is_built(world):
    async def work():
        builds, flake = world.builds, world.flake
        assert tuple(sorted(await builds.host_names(flake))) == HOSTS
        before = await builds.evaluate(flake, HOSTS)
        assert await builds.realise(tuple(before.values())) == {}

        text = world.lock()
        await builds.update(flake, ())
        assert world.lock() == text, "there is nothing newer"
        world.breaks()
        await builds.update(flake, ("base",))
        assert world.lock() != text

        after = await builds.evaluate(flake, HOSTS)
        assert {type(side) for side in (*before.values(), *after.values())} == {System}
        assert {host for host in HOSTS if before[host] != after[host]} >= {"db", "web"}
        failed = await builds.realise(tuple(after.values()))
        assert set(failed) == {after["db"].derivation}
        assert failed[after["db"].derivation].stage is Stage.BUILD
        assert "broken" in failed[after["db"].derivation].tail
        changes = await builds.closure_diff(before["web"].toplevel, after["web"].toplevel)
        assert [change.name for change in changes] == ["linux"]

    asyncio.run(work())


REVISION = "1" * 40


def fake_jobset():
    jobset = FakeJobset()
    jobset.states = [None, JobsetState("", None)]
    jobset.evals = [None, 1]
    jobset.jobs = {"db": [JobState.GREEN], "web": [JobState.WAITING, JobState.RED]}
    yield jobset, lambda: None, lambda: None


def real_jobset():
    with EmbeddedHydra() as hydra:
        world = hydra.world
        world.projects.add("p")

        def appear():
            world.add_jobset("p", "j")

        def evaluate():
            eval_id = world.add_eval("p", "j", flake=f"git+file:///x?rev={REVISION}")
            world.add_build("db", "/nix/store/x-db", eval_id=eval_id)
            evaluate.build = world.add_build(
                "web", "/nix/store/x-web", eval_id=eval_id, status=None
            )

        jobset = HydraUpdateJobset(
            Job(hydra.url, "p", "j", "{host}"),
            timeout=5.0,
            deadline=5.0,
            sink=RememberedEvents(),
            clock=SteppedClock(),
        )
        yield (
            jobset,
            appear,
            lambda: world.finish(evaluate.build, 1) if hasattr(evaluate, "build") else evaluate(),
        )


@pytest.fixture(params=[fake_jobset, real_jobset], ids=["fake", "hydra"])
def jobset(request) -> tuple[UpdateJobset, Callable[[], None], Callable[[], None]]:
    yield from request.param()


def test_a_jobset_appears_evaluates_and_builds(jobset):
    asked, appear, go_on = jobset

    async def ask():
        assert await asked.state(("db", "web")) is None
        appear()
        assert (await asked.state(("db", "web"))).error == ""
        assert await asked.find_eval(REVISION) is None
        go_on()
        eval_id = await asked.find_eval(REVISION)
        assert (await asked.job_of(eval_id, "db")).state is JobState.GREEN
        assert (await asked.job_of(eval_id, "web")).state is JobState.WAITING
        go_on()
        red = await asked.job_of(eval_id, "web")
        assert (red.host, red.state, red.reason) == ("web", JobState.RED, "failed")
        assert red.link.startswith("http")

    asyncio.run(ask())
