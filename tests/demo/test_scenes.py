from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from shutil import copytree
from types import SimpleNamespace

import pytest

from agent.demo import stage as of_stage
from agent.demo.layout import remove_tree
from agent.demo.loopback import Answer
from agent.demo.scenes import SCENES, play
from agent.demo.stage import open_stage
from end_to_end.preloaded_agent import PreloadedAgent
from faulty_host import inject, repair


def fail_activation(stage):
    inject(stage.layout, "stc-exit", "1")


def build_something_newer(stage):
    stage.build(stage.releases[2])


def heal_canary(stage):
    stage.canary.is_healthy = True


def let_red_build_be_good(stage):
    newest = max(stage.hydra.world.builds)
    stage.hydra.world.finish(newest, 0)


def let_the_flake_fit(stage):
    newest = max(stage.hydra.world.evals)
    evaluation = stage.hydra.world.evals[newest]
    stage.hydra.world.evals[newest] = replace(evaluation, flake=stage.releases[3].flake)


def heal_the_service(stage):
    stage.service.overrides["/"] = Answer(200)


def keep_hydra_up(stage):
    stage.hydra.is_down = lambda: False


def keep_it_from_rebooting(stage):
    inject(stage.layout, "fail-reboot")


SABOTAGE = {
    "new-kernel": keep_it_from_rebooting,
    "broken-service": heal_the_service,
    "hydra-outage": keep_hydra_up,
    "good-build": fail_activation,
    "nothing-to-do": build_something_newer,
    "unhealthy-canary": heal_canary,
    "failed-build": let_red_build_be_good,
    "other-flake": let_the_flake_fit,
}


def sabotaged(scene):
    def arrange(stage):
        scene.arrange(stage)
        SABOTAGE[scene.name](stage)

    return replace(scene, arrange=arrange)


class Saved:
    """All that a scene changes on a stage, to begin again from there."""

    _CHANGING = ("nix", "home", "boot", "run", "state", "log", "timers")

    def __init__(self, stage, directory):
        self._stage = stage
        self._directory = directory
        known = vars(stage.hydra.world).items()
        self._world = deepcopy({name: value for name, value in known if name != "lock"})
        for name in self._CHANGING:
            copytree(stage.layout.root / name, directory / name, symlinks=True)

    def restore(self):
        for name in self._CHANGING:
            remove_tree(self._stage.layout.root / name)
            (self._directory / name).rename(self._stage.layout.root / name)
        self._directory.rmdir()
        vars(self._stage.hydra.world).update(self._world)
        self._stage.hydra.is_down = lambda: False
        self._stage.service.overrides.clear()
        repair(self._stage.layout)


@pytest.fixture
def preloaded_agent(monkeypatch):
    """Have each run of the agent be one that need not load it first."""
    with PreloadedAgent() as agent:

        def watched(argv, *, env, timeout):
            ended = agent.run(argv[3:], env, timeout)
            return SimpleNamespace(
                returncode=ended.returncode, stdout=ended.stdout, tail=ended.stderr
            )

        monkeypatch.setattr(of_stage, "watch_now", watched)
        yield


# Each scene begins where the one before has ended.
@pytest.mark.usefixtures("preloaded_agent")
@pytest.mark.parametrize("count", [4, pytest.param(len(SCENES), marks=pytest.mark.long)])
def test_a_scene_that_is_broken_is_seen_to_fail(tmp_path, count):
    stages = tmp_path / "stages"
    stages.mkdir()
    with open_stage(stages) as stage:
        for scene in SCENES[:count]:
            before = Saved(stage, tmp_path / "saved")
            broken = play(stage, sabotaged(scene))
            assert not broken.is_ok, scene.name
            assert broken.outcome != scene.expected
            before.restore()
            played = play(stage, scene)
            assert played.is_ok, (scene.name, played.outcome)
    assert list(stages.iterdir()) == []


def test_every_scene_can_be_broken():
    assert {*SABOTAGE} == {scene.name for scene in SCENES}
