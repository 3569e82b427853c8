"""Plays scenes of pings and names in a network namespace of their own.

Whether a process may ping depends on the machine (net.ipv4.ping_group_range, capabilities); in a
namespace of its own a test decides. Works as root and, where user namespaces are allowed, as an
ordinary user.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PINGS = Path(__file__).with_name("icmp_in_namespace.py")
NAMES = Path(__file__).with_name("dns_in_namespace.py")
_ROOT = Path(__file__).parents[2]

DATAGRAM = {"ping_group_range": "0 0", "may_open_raw": False}
"""Only datagram sockets are permitted."""
RAW = {"ping_group_range": "", "may_open_raw": True}
"""Only raw sockets are permitted."""
NEITHER = {"ping_group_range": "", "may_open_raw": False}
BOTH = {"ping_group_range": "0 0", "may_open_raw": True}

needs_iproute2 = pytest.mark.skipif(shutil.which("ip") is None, reason="no ip (iproute2) here")


def play(
    scene: str, *, ping_group_range: str = "", may_open_raw: bool = False, script: Path = PINGS
) -> list[Any]:
    """Return the reasons with which the scene's checks ended; an empty one is a check that is well.

    In the namespace nothing but the loopback interface exists, and the group is 0. An empty range
    is a new namespace's own: it permits datagram sockets to nobody.
    """
    if fault := _why_no_namespace():
        pytest.skip(f"no network namespace can be had here: {fault}")
    drop = [] if may_open_raw else ["setpriv", "--bounding-set=-net_raw"]
    ended = subprocess.run(
        [
            *_unshare(),
            *drop,
            sys.executable,
            "-W",
            "default",
            str(script),
            scene,
            ping_group_range,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tests'}"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def _unshare() -> list[str]:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, "--net", "--mount", "--"]


@functools.cache
def _why_no_namespace() -> str:
    for program in ("unshare", "setpriv"):
        if shutil.which(program) is None:
            return f"no {program} on PATH"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""
