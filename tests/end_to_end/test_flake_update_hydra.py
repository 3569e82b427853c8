"""`agent flake-update run` with `verify = "hydra"`: a Hydra that evaluates what is pushed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from agent.demo.hydra import EmbeddedHydra

pytestmark = pytest.mark.long

PROJECT = "nix-config"


CANDIDATE = "flake-update-candidate"


def branch():
    return f"flake-update-{datetime.now(UTC):%Y%m%d}"


class Evaluator(threading.Thread):
    """What Hydra does with a branch that appears: an eval, and a build of every host."""

    def __init__(self, site, world, status):
        super().__init__()
        self.site = site
        self.world = world
        self.status = status
        self.revision = None

    def run(self):
        while (revision := self.site.checkout.tips().get(CANDIDATE)) is None:
            threading.Event().wait(0.02)
        self.revision = revision
        flake = f"git+file://{self.site.checkout.remote}?ref={CANDIDATE}&rev={revision}"
        with self.world.lock:
            eval_id = self.world.add_eval(PROJECT, CANDIDATE, flake=flake)
            self.world.add_build("db", "/nix/store/x-db", eval_id=eval_id)
            self.build_id = self.world.add_build(
                "web", "/nix/store/x-web", eval_id=eval_id, status=None
            )
        if self.status == 0:  # into the store that is the cache as well
            attribute = "nixosConfigurations.web.config.system.build.toplevel"
            base = f"git+file://{self.site.checkout.remote}?ref=main"
            self.site.nix("build", "--no-link", f"{flake}#{attribute}", f"{base}#{attribute}")
        self.world.finish(self.build_id, self.status)


@pytest.fixture
def hydra(desk):
    with EmbeddedHydra() as server:
        desk.set("flake_update", verify="hydra")
        desk.set(
            "flake_update.hydra", instance=server.url, project=PROJECT, poll="50ms", deadline="30s"
        )
        server.world.add_jobset(PROJECT, CANDIDATE)
        yield server


def run(desk, hydra, status):
    evaluator = Evaluator(desk.site, hydra.world, status)
    evaluator.start()
    told = desk("run", "--json")
    evaluator.join()
    return told, evaluator


def test_an_update_that_hydra_builds_is_pushed_and_compared(desk, hydra):
    # What no test has built before is fetched from where Hydra has left it, and not built here.
    desk.site.release(linux="6.90")
    told, evaluator = run(desk, hydra, 0)
    assert (told.code, told.json["outcome"]) == (0, "pushed"), told.err
    assert told.json["revision"] == evaluator.revision
    web = told.json["hosts"][1]
    assert web["packages"] == [{"name": "linux", "before": ["6.1"], "after": ["6.90"], "size": 0}]
    tips = desk.site.checkout.tips()
    assert set(tips) == {"main", branch()}
    assert tips[branch()] == evaluator.revision


def test_an_update_that_hydra_cannot_build_is_taken_back_with_a_link(desk, hydra):
    desk.site.release(linux="6.91")
    told, evaluator = run(desk, hydra, 1)
    assert (told.code, told.json["error.kind"]) == (1, "jobs-red")
    assert f"web failed: {hydra.url}/build/{evaluator.build_id}" in told.json["error.message"]
    assert (told.json["broken"], told.json["branch"]) == (["web"], None)
    assert set(desk.site.checkout.tips()) == {"main"}


def test_a_jobset_that_is_missing_or_disabled_is_told_before_anything_is_pushed(desk, hydra):
    desk.site.release(linux="6.94")
    hydra.world.disable_project(PROJECT)
    told = desk("run", "--json")
    assert (told.code, told.json["error.kind"]) == (66, "jobset-disabled")
    hydra.world.jobsets.clear()
    hydra.world.disabled_projects.clear()
    told = desk("run", "--json")
    assert (told.code, told.json["error.kind"], told.json["branch"]) == (66, "jobset-missing", None)
    assert "flake_update.branch_pushed" not in told.err
    assert set(desk.site.checkout.tips()) == {"main"}


@pytest.mark.long
@pytest.mark.usefixtures("hydra")
def test_a_hydra_that_never_looks_is_waited_for_until_the_deadline(desk):
    desk.set("flake_update.hydra", deadline="200ms", poll="50ms")
    desk.site.release(linux="6.92")
    told = desk("run", "--json")
    assert (told.code, told.json["error.kind"]) == (1, "proof-overdue")
    assert set(desk.site.checkout.tips()) == {"main"}
