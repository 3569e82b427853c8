"""The demo where there is no network at all but loopback."""

from __future__ import annotations

import os
import sys

import pytest

from agent.adapters.process import watch_now

SCRIPT = """
import fcntl, os, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
os.execv({python!r}, [{python!r}, "-m", "agent", "demo", "--json"])
"""


def test_the_demo_needs_no_network(tmp_path):
    program = SCRIPT.format(python=sys.executable)
    namespaces = ("--net",) if os.geteuid() == 0 else ("--user", "--map-root-user", "--net")
    ended = watch_now(
        ("unshare", *namespaces, sys.executable, "-c", program),
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    if "unshare failed" in ended.tail:
        pytest.skip(f"no network namespace can be had here: {ended.tail.strip()}")
    assert ended.returncode == 0, ended.stdout + ended.tail
