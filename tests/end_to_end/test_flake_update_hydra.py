"""`agent flake-update run` with `verify = "hydra"`: a Hydra that evaluates what is pushed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from agent.demo.hydra import EmbeddedHydra
from demo.hydra_changes import disable_jobset, disable_project, fail_evaluation

PROJECT = "nix-config"


CANDIDATE = "flake-update-candidate"


def branch():
    return f"flake-update-{datetime.now(UTC):%Y%m%d}"


class WhenPushed(threading.Thread):
    """What Hydra does once there is a branch to evaluate: `act` gets its locked flake."""

    def __init__(self, site, act):
        super().__init__()
        self.site = site
        self.act = act
        self.revision = None

    def run(self):
        while (revision := self.site.checkout.tips().get(CANDIDATE)) is None:
            threading.Event().wait(0.02)
        self.revision = revision
        self.act(f"git+file://{self.site.checkout.remote}?ref={CANDIDATE}&rev={revision}")


class Evaluator(WhenPushed):
    """An eval, and a build of every host."""

    def __init__(self, site, world, status, *, has_db):
        super().__init__(site, self.evaluate)
        self.world = world
        self.status = status
        self.has_db = has_db

    def evaluate(self, flake):
        with self.world.lock:
            eval_id = self.world.add_eval(PROJECT, CANDIDATE, flake=flake)
            if self.has_db:
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


def run(desk, hydra, status, *, has_db=True):
    evaluator = Evaluator(desk.site, hydra.world, status, has_db=has_db)
    evaluator.start()
    told = desk("run", "--json")
    evaluator.join()
    return told, evaluator


@pytest.mark.long
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


def test_hydra_need_not_build_a_host_that_did_not_evaluate_before(desk, hydra):
    site = desk.site
    site.release(postgres=None)
    site.nix("flake", "update")
    site.checkout.commit({}, "Lock")
    site.checkout.git("push", "--quiet", "origin", "main")
    site.release(postgres=None, linux="6.95")
    told, evaluator = run(desk, hydra, 0, has_db=False)
    assert (told.code, told.json["outcome"]) == (0, "pushed"), told.err
    assert (told.json["changed"], told.json["broken"]) == (["web"], ["db"])
    assert site.checkout.tips()[branch()] == evaluator.revision


@pytest.mark.long
def test_an_update_that_hydra_cannot_build_is_taken_back_with_a_link(desk, hydra):
    desk.site.release(linux="6.91")
    told, evaluator = run(desk, hydra, 1)
    assert (told.code, told.json["error.kind"]) == (1, "jobs-red")
    assert f"web failed: {hydra.url}/build/{evaluator.build_id}" in told.json["error.message"]
    assert (told.json["broken"], told.json["branch"]) == (["web"], None)
    assert set(desk.site.checkout.tips()) == {"main"}


def test_a_jobset_that_is_missing_or_disabled_is_told_before_anything_is_pushed(
    desk, hydra, preloaded_agent
):
    desk.site.release(linux="6.94")

    def refused(kind):
        told = desk.in_a_process(preloaded_agent, "run", "--json")
        assert (told.code, told.json["error.kind"], told.json["branch"]) == (66, kind, None)
        assert "flake_update.branch_pushed" not in told.err
        assert set(desk.site.checkout.tips()) == {"main"}
        return told.json["error.message"]

    disable_project(hydra.world, PROJECT)
    assert "the project is disabled" in refused("jobset-disabled")
    hydra.world.disabled_projects.clear()
    disable_jobset(hydra.world, PROJECT, CANDIDATE)
    assert "the jobset is disabled" in refused("jobset-disabled")
    hydra.world.jobsets.clear()
    assert CANDIDATE in refused("jobset-missing")


# What Hydra says of a branch is told at once: the deadline is far away.

OWN = "in job 'web':\nerror:\n  … while evaluating\n  error: attribute 'ngnix' missing\n"
OTHERS = "in job 'mail':\nerror: of another job\n"
OVERSIZED = OTHERS + OWN + "  trace of a module\n" * 250_000


@pytest.fixture(name="red")
def _red(desk, hydra, preloaded_agent):  # noqa: ARG001 - the desk asks it
    """Return a function that runs while Hydra acts on the branch, and returns what is told."""

    def run(act):
        desk.set("flake_update.hydra", deadline="1h")
        desk.site.release(linux="6.95")
        pushed = WhenPushed(desk.site, act)
        pushed.start()
        told = desk.in_a_process(preloaded_agent, "run", "--json")
        pushed.join()
        assert set(desk.site.checkout.tips()) == {"main"}
        assert told.json["branch"] is None
        assert told.code == told.json["exit_code"]
        return told, told.json["error.kind"], told.json["error.message"]

    return run


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OTHERS + OWN, id="short"),
        pytest.param(OVERSIZED, id="above 4 MiB", marks=pytest.mark.long),
    ],
)
def test_a_failed_evaluation_that_nothing_repeats_is_the_end(hydra, red, text):
    assert hydra.world.jobset(PROJECT, CANDIDATE).checkinterval == 0
    told, kind, message = red(lambda _: fail_evaluation(hydra.world, PROJECT, CANDIDATE, text))
    assert (told.code, kind) == (1, "evaluation-red")
    assert message.endswith("web does not evaluate: error: attribute 'ngnix' missing")


def test_a_jobset_that_is_disabled_meanwhile_is_the_end(hydra, red):
    told, kind, message = red(lambda _: disable_jobset(hydra.world, PROJECT, CANDIDATE))
    assert (told.code, kind) == (66, "jobset-disabled")
    assert "disabled before it evaluated" in message


def test_a_host_that_is_in_no_eval_does_not_evaluate(hydra, red):
    """The database goes away within an answer, too: asked again, and quoted nowhere."""

    def evaluate(flake):
        with hydra.world.lock:
            eval_id = hydra.world.add_eval(PROJECT, CANDIDATE, flake=flake)
            hydra.world.add_build("db", "/nix/store/x-db", eval_id=eval_id)
            fail_evaluation(hydra.world, PROJECT, CANDIDATE, OWN)
            hydra.world.breaks_off = 1

    told, kind, message = red(evaluate)
    assert (told.code, kind, told.json["broken"]) == (1, "jobs-red", ["web"])
    assert "web does not evaluate: error: attribute 'ngnix' missing" in message
    assert hydra.world.breaks_off == 0
    assert "DBI" not in told.out + told.err


@pytest.mark.long
@pytest.mark.usefixtures("hydra")
def test_a_hydra_that_never_looks_is_waited_for_until_the_deadline(desk):
    desk.set("flake_update.hydra", deadline="200ms", poll="50ms")
    desk.site.release(linux="6.92")
    told = desk("run", "--json")
    assert (told.code, told.json["error.kind"]) == (1, "proof-overdue")
    assert set(desk.site.checkout.tips()) == {"main"}
