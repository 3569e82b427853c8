from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from agent.adapters.process import watch_now

pytestmark = pytest.mark.checkout

CHECKOUT = Path(__file__).parents[2]
TOOLS = (
    *("sh", "dirname", "id", "cut", "sha256sum", "cat", "env", "make", "uname", "apt-get"),
    "getent",
)


@pytest.fixture
def public_path():
    """A directory that anybody may read; pytest's own are the runner's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def bare_path(public_path):
    """A PATH without nix, git and Python."""
    directory = public_path / "bin"
    directory.mkdir(mode=0o755)
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (directory / tool).symlink_to(found)
    return directory


def in_checkout(argv, path, **environment):
    env = {"PATH": str(path), "HOME": os.environ.get("HOME", "/"), **environment}
    return watch_now(argv, env={name: value for name, value in env.items() if value})


def as_ordinary_user():
    """Return the words that run a program as a user who is not root."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    return (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("home", ["/", ""])
def test_an_ordinary_user_is_told_what_to_install(bare_path, public_path, home):
    script = public_path / "checkout" / ".ci" / "setup"
    script.parent.mkdir(parents=True, mode=0o755)
    shutil.copy(CHECKOUT / ".ci/setup", script)
    ended = in_checkout((*as_ordinary_user(), "sh", str(script)), bare_path, HOME=home)
    assert ended.returncode == 1
    assert ended.tail.count("\n") == 1
    for package in ("nix-bin", "git", "python3", "python3-venv"):
        assert package in ended.tail


@pytest.mark.parametrize(("target", "told"), [("demo", "run .#demo"), ("test", "flake check")])
def test_on_nixos_the_flake_does_it(bare_path, tmp_path, target, told):
    mark = tmp_path / "NIXOS"
    mark.touch()
    nix = bare_path / "nix"
    nix.write_text('#!/bin/sh\necho "nix $*"\n')
    nix.chmod(0o755)
    argv = ("make", "-s", "-C", str(CHECKOUT), target, f"NIXOS_MARK={mark}")
    ended = in_checkout(argv, bare_path)
    assert ended.returncode == 0, ended.tail
    assert ended.stdout.strip().endswith(told)
    assert ended.stdout.startswith("nix ")
