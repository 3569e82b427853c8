from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from agent.adapters.process import watch_now
from agent.demo.scenes import SCENES, play
from agent.demo.stage import open_stage

EARLIER = {scene.name: SCENES[:number] for number, scene in enumerate(SCENES)}


def fail_activation(stage):
    stage.host.inject("stc-exit", "1")


def build_something_newer(stage):
    stage.build(stage.releases[2])


def heal_canary(stage):
    stage.canary.is_well = True


def let_red_build_be_good(stage):
    newest = max(stage.hydra.world.builds)
    stage.hydra.world.finish(newest, 0)


def let_the_flake_fit(stage):
    newest = max(stage.hydra.world.evals)
    evaluation = stage.hydra.world.evals[newest]
    stage.hydra.world.put_eval(replace(evaluation, flake=stage.releases[3].flake))


def heal_the_service(stage):
    stage.service.answers_anyway = True


def keep_hydra_up(stage):
    stage.hydra.is_down = lambda: False


SABOTAGE = {
    "broken-service": heal_the_service,
    "hydra-outage": keep_hydra_up,
    "good-build": fail_activation,
    "nothing-to-do": build_something_newer,
    "unhealthy-canary": heal_canary,
    "failed-build": let_red_build_be_good,
    "other-flake": let_the_flake_fit,
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_scene_that_is_broken_is_seen_to_fail(scene, tmp_path):
    with open_stage(tmp_path) as stage:
        for earlier in EARLIER[scene.name]:
            assert play(stage, earlier).is_ok
        broken = play(stage, scene, sabotage=SABOTAGE[scene.name])
    assert not broken.is_ok
    assert broken.outcome != scene.expected
    assert list(tmp_path.iterdir()) == []


def test_the_demo_tells_a_person_what_happens_and_leaves_nothing_behind(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    ended = watch_now(
        (sys.executable, "-m", "agent", "demo"),
        env={**os.environ, "TMPDIR": str(tmp_path), "HOME": str(home), "COLUMNS": "200"},
    )
    assert ended.returncode == 0, ended.tail
    for scene in SCENES:
        assert scene.name in ended.stdout
        assert scene.expected in ended.stdout
    assert list(tmp_path.rglob("*")) == [home]
