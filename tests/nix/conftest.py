from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.demo.host import Layout, remove_tree

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A directory of packages: the agent of this tree, and what units start besides it."""
    directory = tmp_path_factory.mktemp("packages").resolve()
    for program, line in (
        ("nixos-hydra-agent/bin/agent", f"PYTHONPATH={CHECKOUT} exec {sys.executable} -m agent"),
        ("coreutils/bin/rm", "exec rm"),
        ("coreutils/bin/true", "true"),
        ("systemd/bin/systemd-analyze", "exec systemd-analyze"),
    ):
        file = directory / program
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\n{line} "$@"\n')
        file.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def build_checks(tmp_path_factory):
    """Build the `checks` of an expression with the real nix and the real agent."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    root = tmp_path_factory.mktemp("checks").resolve()
    layout = Layout(root)
    layout.make()
    layout.write_nix_conf((), ())

    def built(made):
        argv = ["nix-build", "--no-out-link", "--keep-going", "--expr", f"({made}).checks"]
        environment = {**os.environ, **layout.environment()}
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    yield built
    remove_tree(root)
