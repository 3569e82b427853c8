from __future__ import annotations

import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A directory of packages: the agent of this tree, and what units start besides it."""
    directory = tmp_path_factory.mktemp("packages").resolve()
    for program, line in (
        ("nixos-hydra-agent/bin/agent", f"PYTHONPATH={CHECKOUT} exec {sys.executable} -m agent"),
        ("coreutils/bin/true", "true"),
    ):
        file = directory / program
        file.parent.mkdir(parents=True)
        file.write_text(f'#!/bin/sh\n{line} "$@"\n')
        file.chmod(0o755)
    return directory
