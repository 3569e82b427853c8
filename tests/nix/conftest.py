from __future__ import annotations

import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def agent_package(tmp_path_factory):
    """A directory that stands for the package: its `bin/agent` is the agent of this tree."""
    directory = tmp_path_factory.mktemp("package").resolve()
    program = directory / "bin/agent"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m agent "$@"\n')
    program.chmod(0o755)
    return directory
