from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nix.offline import CHECKOUT, OfflineNix

SYSTEM = "x86_64-linux"
VM_TESTS = ["vm-canary", "vm-loader-fallback", "vm-reboot", "vm-roll-back", "vm-upgrade"]
CHECKS = ["demo", "documentation", "formatting", "module", "package", "templates", "tests"]
NAMES = "builtins.attrNames"


@pytest.fixture(scope="module")
def nix(tmp_path_factory):
    offline = OfflineNix(tmp_path_factory.mktemp("flake").resolve())
    yield offline
    offline.close()


def test_nix_takes_every_output_for_what_it_is_called(nix):
    nix.check()


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        (f"packages.{SYSTEM}", ["default", "demo"]),
        ("packages.aarch64-linux", ["default", "demo"]),
        ("nixosModules", ["default", "flake-updater", "nixos-hydra-upgrade"]),
        ("homeModules", ["default"]),
        ("overlays", ["default"]),
        (f"apps.{SYSTEM}", ["agent", "default", "demo"]),
        (f"checks.{SYSTEM}", sorted(CHECKS + VM_TESTS)),
        (f"devShells.{SYSTEM}", ["default"]),
        ("formatter", ["aarch64-linux", SYSTEM]),
        ("templates", ["default", "fleet", "host"]),
    ],
)
def test_the_flake_has_what_users_and_contributors_ask_for(nix, attribute, names):
    assert nix.eval(attribute, NAMES) == names


def test_the_apps_are_programs(nix):
    programs = nix.eval(f"apps.{SYSTEM}", "builtins.mapAttrs (_: app: app.program)")
    assert programs["default"].endswith("/bin/agent")
    assert programs["demo"].endswith("/bin/agent-demo")


def test_the_overlay_has_the_package(nix):
    file = "overlay: toString (overlay { callPackage = file: _: file; } { }).nixos-hydra-agent"
    assert nix.eval("overlays.default", file).endswith("/nix/package.nix")


def test_the_package_installs_man_pages_and_completions(nix):
    from agent import __version__

    made = nix.eval(f"packages.{SYSTEM}.default.passed", "p: { inherit (p) version postInstall; }")
    assert made["version"] == __version__
    assert "docs/man_pages.py man\ninstallManPage man/*.1\n" in made["postInstall"]
    for shell in ("bash", "fish", "zsh"):
        assert f"--{shell} <(_AGENT_COMPLETE={shell}_source $out/bin/agent)" in made["postInstall"]


def test_both_names_of_the_module_are_one_module(nix):
    keys = nix.eval(
        "nixosModules", "modules: [ modules.default.key modules.nixos-hydra-upgrade.key ]"
    )
    assert len(set(keys)) == 1


@pytest.mark.parametrize("name", VM_TESTS)
def test_the_script_of_a_vm_test_uses_only_what_there_is(nix, name):
    script = nix.eval(f"checks.{SYSTEM}.{name}.passed", "test: test.testScript")
    known = 'builtins = ["hydra", "machine"]'
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert ruff is not None
    argv = (ruff, "check", "--isolated", "--no-cache", "--select", "E9,F", "--config", known)
    checked = subprocess.run(
        [*argv, "--stdin-filename", f"{name}.py", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
    assert "begin()" in script


def test_the_lock_file_pins_nixpkgs():
    locked = json.loads((CHECKOUT / "flake.lock").read_text())["nodes"]["nixpkgs"]["locked"]
    assert locked["narHash"].startswith("sha256-")
    assert locked["rev"] in locked["url"] or locked["rev"][:12] in locked["url"]
