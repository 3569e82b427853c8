"""The demo's command as an ordinary user, where there is no network at all but loopback."""

from __future__ import annotations

import json
import os
import sys

import pytest

from agent.adapters.process import watch_now
from agent.demo.scenes import SCENES

SCRIPT = """
import fcntl, os, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
os.execvp("unshare", [*as_user, {python!r}, "-m", "agent", "demo", *{options!r}])
"""


@pytest.fixture
def demo(tmp_path):
    """Play the demo without any capability, seen as user 1000 by nix and by all else."""

    def play(*options):
        home = tmp_path / "home"
        home.mkdir()
        program = SCRIPT.format(python=sys.executable, options=options)
        namespaces = ("--net",) if os.geteuid() == 0 else ("--user", "--map-root-user", "--net")
        ended = watch_now(
            ("unshare", *namespaces, sys.executable, "-c", program),
            env={**os.environ, "TMPDIR": str(tmp_path), "HOME": str(home), "COLUMNS": "200"},
        )
        if "unshare failed" in ended.tail or "unshare: " in ended.tail:
            pytest.skip(f"no namespace can be had here: {ended.tail.strip()}")
        assert ended.returncode == 0, ended.stdout + ended.tail
        assert list(tmp_path.rglob("*")) == [home]
        return ended.stdout

    return play


@pytest.mark.long
def test_the_demo_tells_a_person_what_happens_and_leaves_nothing_behind(demo):
    told = demo()
    for scene in SCENES:
        assert scene.name in told
        assert scene.expected in told


@pytest.mark.long
def test_the_demo_tells_a_program_how_each_scene_ended(demo):
    scenes = json.loads(demo("--json"))["scenes"]
    assert [scene["name"] for scene in scenes] == [scene.name for scene in SCENES]
    assert all(set(scene) == {"name", "expected", "outcome", "ok"} for scene in scenes)
    assert all(scene["ok"] is True for scene in scenes)
