"""The stand-ins of nixpkgs, NixOS and home-manager have what was seen there, and nothing else."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib

import pytest

from nix.evaluation import HERE, NIXPKGS_LIB
from nix.offline import CHECKOUT, OfflineNix

SEEN = tomllib.loads((HERE / "stub" / "seen.toml").read_text())
LIB = SEEN["lib"]["names"]
SOURCES = [
    *(CHECKOUT / name for name in ("flake.nix", "module.nix")),
    *(path for folder in ("nix", "templates") for path in (CHECKOUT / folder).rglob("*.nix")),
]
SCRIPTS = [*(CHECKOUT / "nix" / "tests").glob("*.nix"), CHECKOUT / "nix" / "tests" / "scene.py"]
EVERY_OUTPUT = "outputs: builtins.deepSeq outputs true"
KINDS = ("packages", "python3Packages", "lib", "nixos", "home-manager")


def evaluated(expression):
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://", "--expr"]
    done = subprocess.run([*argv, expression], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def names():
    """The names of the stand-ins, by kind."""
    return evaluated(f"import {HERE}/names.nix")


@pytest.fixture(scope="module")
def nix(tmp_path_factory):
    offline = OfflineNix(tmp_path_factory.mktemp("seen").resolve())
    yield offline
    offline.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_stand_ins_have_no_name_that_was_not_seen(names, kind):
    known = {"lib": LIB}.get(kind) or list(SEEN[kind])
    # An option whose parts are anything has them below its own name.
    known += [name.removesuffix(".<name>") for name in known]
    assert sorted(set(names[kind]) - set(known)) == []


def test_what_was_seen_is_in_the_stand_ins(names):
    assert names["missing"] == {"packages": [], "python3Packages": []}
    assert sorted(set(LIB) - set(names["lib"])) == []
    assert sorted(set(SEEN["home-manager"]) - set(names["home-manager"])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_seen_is_in_use(kind):
    text = "\n".join(path.read_text() for path in SOURCES)
    words = set(re.findall(r"[A-Za-z_][\w'-]*", text)) | {"evalModules"}
    known = LIB if kind == "lib" else SEEN[kind]
    last = {name: name.removesuffix(".<name>").rpartition(".")[2] for name in known}
    assert sorted(name for name, word in last.items() if word not in words) == []


@pytest.mark.parametrize("attribute", ["packages", "checks", "devShells", "formatter", "apps"])
def test_every_output_of_the_flake_uses_only_what_was_seen(nix, attribute):
    assert nix.eval(attribute, EVERY_OUTPUT) is True


def test_an_attribute_that_was_not_seen_ends_the_evaluation(nix):
    python = nix.flake / "nix" / "python.nix"
    kept = python.read_text()
    python.write_text(
        kept.replace("packages.pytest\n", "packages.pytest\n    packages.codespell\n")
    )
    try:
        with pytest.raises(Exception, match="attribute 'codespell' missing"):
            nix.eval("devShells", EVERY_OUTPUT)
    finally:
        python.write_text(kept)


def test_an_option_that_was_not_seen_ends_the_evaluation(nix):
    host = nix.new("host")
    file = host / "configuration.nix"
    file.write_text(file.read_text().replace("boot.loader.efi.can", "boot.loader.efi.may"))
    with pytest.raises(Exception, match=r"not in seen\.toml: boot\.loader\.efi\.mayTouch"):
        nix.check(host)


def test_the_scripts_of_the_vm_tests_ask_the_driver_for_nothing_else():
    asked = set()
    for path in SCRIPTS:
        text = path.read_text()
        script = re.search(r"testScript = ''\n(.*?)\n  '';", text, re.DOTALL)
        for node in ast.walk(ast.parse(_dedented(script[1]) if script else "")):
            asked |= _asked_by(node)
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(text)):
                asked |= _asked_by(node)
    assert asked == set(SEEN["test-driver"])


def _asked_by(node):
    match node:
        case ast.Attribute(value=ast.Name("machine" | "hydra" | "one"), attr=name):
            return {name}
        case _:
            return set()


def _dedented(script):
    return "\n".join(line[4:] for line in script.splitlines())


@pytest.mark.skipif(NIXPKGS_LIB is None, reason="NIXPKGS_LIB names no nixpkgs")
def test_nixpkgs_own_lib_has_every_name():
    names = " ".join(json.dumps(name) for name in LIB)
    has = 'lib.hasAttrByPath (lib.splitString "." name) lib'
    missing = evaluated(
        f"let lib = import {NIXPKGS_LIB}; in builtins.filter (name: !({has})) [ {names} ]"
    )
    assert missing == []
