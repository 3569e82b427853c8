"""What the embedded Hydra chooses among its builds and evals."""

from __future__ import annotations

import pytest

from agent.demo.hydra.world import World
from demo.hydra_changes import fail_evaluation, rename_jobset, restart

PATH = "/nix/store/00000000000000000000000000000000-nixos-system-alpha-1"


class Hydra:
    """A world with one jobset, and short names for what tests do to it."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.world = World(now=lambda: self.seconds)
        self.jobset = self.world.add_jobset("p", "j", flake="git+file:///srv/x?ref=main")

    def evaluate(self, *builds: int, is_cached: bool = False) -> int:
        return self.world.add_eval(
            "p", "j", flake="git+file:///srv/x?rev=1", builds=builds, is_cached=is_cached
        )

    def build(self, eval_id: int, status: int | None = 0, **more) -> int:
        return self.world.add_build("alpha", PATH, eval_id=eval_id, status=status, **more)

    def latest(self) -> int | None:
        found = self.world.latest(self.jobset, "alpha")
        return found and found.id

    def latest_finished(self) -> int | None:
        found = self.world.latest_finished(self.jobset, "alpha")
        return found and found.id


@pytest.fixture
def hydra():
    return Hydra()


def test_latest_is_the_good_build_of_the_highest_id(hydra):
    good = [hydra.build(hydra.evaluate()) for _ in range(3)]
    assert hydra.latest() == max(good)


@pytest.mark.parametrize("status", [1, 2, 4, 6, None])
def test_a_newer_build_that_is_not_good_is_not_latest(hydra, status):
    good = hydra.build(hydra.evaluate())
    hydra.build(hydra.evaluate(), status)
    assert hydra.latest() == good


def test_a_build_of_another_job_or_jobset_is_not_latest(hydra):
    eval_id = hydra.evaluate()
    hydra.world.add_build("beta", PATH, eval_id=eval_id)
    hydra.world.add_jobset("p", "other")
    hydra.build(hydra.world.add_eval("p", "other"))
    assert hydra.latest() is None


def test_latest_finished_waits_for_every_build_of_the_eval(hydra):
    done = hydra.build(hydra.evaluate())
    under_way = hydra.evaluate()
    hydra.build(under_way)
    slow = hydra.world.add_build("slow", PATH, eval_id=under_way, status=None)
    assert hydra.latest_finished() == done

    hydra.world.finish(slow, status=1)
    assert hydra.latest_finished() == hydra.latest() != done


def test_a_good_build_beside_an_unfinished_one_is_latest_but_not_latest_finished(hydra):
    eval_id = hydra.evaluate()
    good = hydra.build(eval_id)
    hydra.world.add_build("slow", PATH, eval_id=eval_id, status=None)
    assert hydra.latest() == good
    assert hydra.latest_finished() is None


def test_one_finished_eval_is_enough_for_latest_finished(hydra):
    kept = hydra.build(hydra.evaluate())
    newer = hydra.evaluate(kept)
    hydra.world.add_build("slow", PATH, eval_id=newer, status=None)
    assert hydra.latest_finished() == kept


def test_a_build_without_an_eval_is_latest_finished(hydra):
    eval_id = hydra.evaluate()
    build_id = hydra.build(eval_id)
    del hydra.world.evals[eval_id]
    assert hydra.latest_finished() == build_id


def test_the_latest_finished_eval_passes_over_cached_and_unfinished_ones(hydra):
    finished = hydra.evaluate()
    hydra.build(finished)
    hydra.build(hydra.evaluate(), None)
    hydra.evaluate(is_cached=True)
    found = hydra.world.latest_finished_eval(hydra.jobset)
    assert found is not None
    assert found.id == finished


def test_a_cached_eval_has_no_builds_and_is_not_listed(hydra):
    with_news = hydra.evaluate(hydra.build(hydra.evaluate()))
    cached = hydra.evaluate(*hydra.world.builds, is_cached=True)
    assert hydra.world.evals[cached].builds == []
    assert hydra.world.evals[cached].hasnewbuilds == 0
    assert hydra.world.evals_with_news(hydra.jobset)[0].id == with_news


def test_the_newest_of_several_evals_does_not_come_first(hydra):
    first = hydra.evaluate()
    build_id = hydra.build(first)
    others = [hydra.evaluate(build_id) for _ in range(3)]
    assert hydra.world.evals_of(build_id) == [others[1], others[2], others[0], first]


def test_a_restarted_build_keeps_its_status_and_times(hydra):
    build_id = hydra.build(hydra.evaluate())
    hydra.seconds = 2000
    restart(hydra.world, build_id)
    build = hydra.world.builds[build_id]
    assert (build.finished, build.buildstatus, build.starttime, build.stoptime) == (
        0,
        0,
        1000,
        1000,
    )
    assert hydra.latest() is None


def test_a_restarted_build_ends_with_new_times(hydra):
    build_id = hydra.build(hydra.evaluate())
    restart(hydra.world, build_id)
    hydra.seconds = 2000
    hydra.world.finish(build_id)
    assert hydra.world.builds[build_id].stoptime == 2000
    assert hydra.latest() == build_id


def test_a_build_can_be_added_as_one_that_is_being_built_again(hydra):
    build_id = hydra.build(hydra.evaluate(), 0, finished=False)
    build = hydra.world.builds[build_id]
    assert (build.finished, build.buildstatus) == (0, 0)


def test_a_queued_build_has_its_outputs_but_no_times(hydra):
    build = hydra.world.builds[hydra.build(hydra.evaluate(), None)]
    assert build.outputs == {"out": PATH}
    assert (build.starttime, build.stoptime) == (None, None)


def test_a_derivation_is_a_store_path_named_as_the_output(hydra):
    build = hydra.world.builds[hydra.build(hydra.evaluate())]
    assert build.nixname == "nixos-system-alpha-1"
    assert build.drvpath.startswith("/nix/store/")
    assert build.drvpath.endswith("-nixos-system-alpha-1.drv")
    assert len(build.drvpath) == len(PATH) + len(".drv")


def test_a_renamed_jobset_keeps_its_builds(hydra):
    build_id = hydra.build(hydra.evaluate())
    rename_jobset(hydra.world, "p", "j", "k")
    assert hydra.world.jobset("p", "j") is None
    assert hydra.world.jobset("p", "k") is hydra.jobset
    assert hydra.latest() == build_id


def test_a_failed_evaluation_leaves_a_text_and_no_eval(hydra):
    fail_evaluation(hydra.world, "p", "j", "syntax error")
    assert hydra.jobset.errormsg == "syntax error"
    assert hydra.world.evals == {}
    hydra.evaluate()
    assert hydra.jobset.errormsg == ""


def test_the_queue_is_ordered_by_priority_and_then_by_id(hydra):
    eval_id = hydra.evaluate()
    first, second, third = (hydra.build(eval_id, None) for _ in range(3))
    hydra.world.builds[third].priority = 200
    assert [build.id for build in hydra.world.queue()] == [third, first, second]
