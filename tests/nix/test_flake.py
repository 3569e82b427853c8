from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from agent.adapters.process import run_now
from agent.demo.host import Layout, remove_tree

CHECKOUT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "stub"
NIX = ("nix", "--extra-experimental-features", "nix-command flakes")


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """Evaluate an attribute of the flake, with nixpkgs overridden by a stub."""
    root = tmp_path_factory.mktemp("flake").resolve()
    layout = Layout(root / "host")
    layout.make()
    layout.write_nix_conf((), ())
    flake = root / "flake"
    flake.mkdir()
    # Without the lock file: nix 2.8 cannot read that of a tarball, and nixpkgs is overridden.
    for name in ("flake.nix", "module.nix", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, flake)
    for name in ("agent", "nix"):
        shutil.copytree(CHECKOUT / name, flake / name)

    def evaluated(attribute, apply):
        argv = (
            *(*NIX, "eval", "--json", f"path:{flake}#{attribute}", "--apply", apply),
            *("--override-input", "nixpkgs", f"path:{STUB}", "--no-write-lock-file"),
        )
        return json.loads(run_now(argv, env={**os.environ, **layout.environment()}))

    yield evaluated
    remove_tree(root)


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        ("packages.x86_64-linux", ["default", "demo"]),
        ("packages.aarch64-linux", ["default", "demo"]),
        ("nixosModules", ["default", "flake-updater", "nixos-hydra-upgrade"]),
        ("overlays", ["default"]),
        ("apps.x86_64-linux", ["demo"]),
        ("checks.x86_64-linux", ["default", "demo", "tests"]),
        ("devShells.x86_64-linux", ["default"]),
    ],
)
def test_the_flake_has_what_users_import(evaluate, attribute, names):
    assert evaluate(attribute, "builtins.attrNames") == names


def test_the_demo_app_is_a_program(evaluate):
    program = evaluate("apps.x86_64-linux.demo", "app: app.program")
    assert program.endswith("/bin/agent-demo")


def test_the_lock_file_pins_nixpkgs():
    locked = json.loads((CHECKOUT / "flake.lock").read_text())["nodes"]["nixpkgs"]["locked"]
    assert locked["narHash"].startswith("sha256-")
    assert locked["rev"] in locked["url"] or locked["rev"][:12] in locked["url"]
