from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD, NEW = (f"/nix/store/{hash_part}-nixos-system-machine" for hash_part in ("1" * 32, "2" * 32))


@pytest.fixture
def hydra(tmp_path):
    """The Hydra of the VM tests, as its unit starts it; two builds, and a cache."""
    (tmp_path / "builds").write_text(f"{OLD}\n{NEW}\n")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/nix-cache-info").write_text("StoreDir: /nix/store\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, ROOT / "nix/tests/hydra.py", tmp_path, str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and server.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def get(url):
    """Return the final address and the text of what is there."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.url, answer.read().decode()


def test_the_newest_listed_path_is_the_newest_build_of_the_machine(hydra):
    url, build = get(f"{hydra}/job/nix-config/main/machine/latest")
    assert url == f"{hydra}/build/2"
    assert NEW in build


def test_the_cache_is_served_beside_the_builds(hydra):
    assert get(f"{hydra}/nix-cache-info")[1] == "StoreDir: /nix/store\n"
