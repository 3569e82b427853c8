"""The demo as an ordinary user, and where there is no network at all but loopback."""

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
os.execvp("unshare", [*as_user, {python!r}, "-m", "agent", "demo", "--json"])
"""


def test_the_demo_needs_no_network_and_no_privilege(tmp_path):
    """Without any capability, and seen as user 1000 by nix and by all else."""
    program = SCRIPT.format(python=sys.executable)
    namespaces = ("--net",) if os.geteuid() == 0 else ("--user", "--map-root-user", "--net")
    ended = watch_now(
        ("unshare", *namespaces, sys.executable, "-c", program),
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    if "unshare failed" in ended.tail or "unshare: " in ended.tail:
        pytest.skip(f"no namespace can be had here: {ended.tail.strip()}")
    assert ended.returncode == 0, ended.stdout + ended.tail
    scenes = json.loads(ended.stdout)["scenes"]
    assert [scene["name"] for scene in scenes] == [scene.name for scene in SCENES]
    assert all(set(scene) == {"name", "expected", "outcome", "ok"} for scene in scenes)
    assert all(scene["ok"] is True for scene in scenes)
    assert list(tmp_path.iterdir()) == []
