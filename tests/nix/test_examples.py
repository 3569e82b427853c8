"""Every Nix example of the documents is evaluated, with the modules in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nix.configurations import LEAST, with_options
from nix.evaluation import evaluate

ROOT = Path(__file__).parents[2]
OF_HOMES = ROOT / "docs/getting-started-home.md"
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page != OF_HOMES),
]

AGENT = """{
  packages.x86_64-linux.default = {
    type = "derivation"; name = "agent"; outPath = "/agent"; meta.mainProgram = "agent";
  };
}"""
MODULE = f"(import {ROOT}/module.nix {{ self = {AGENT}; }})"
UPDATER = f"(import {ROOT}/nix/updater {{ self = {AGENT}; }})"
# A flake is called as nix would, and a flake's jobs are looked at. Anything else is a module: of a
# whole host, or a part of one.
FLAKE = """
(let
  outputs = (EXAMPLE).outputs {
    self = outputs;
    nixpkgs.lib.nixosSystem = { modules }: { isWhole = true; imports = modules; };
    nixos-hydra-agent.nixosModules.default = MODULE;
  };
in builtins.head (builtins.attrValues outputs.nixosConfigurations))
"""
JOBS = """
(let
  self.nixosConfigurations.web-1.config.system.build.toplevel = "/toplevel";
  made = { EXAMPLE };
in assert made.hydraJobs == { web-1 = "/toplevel"; }; { })
"""
HOST = """
(let
  inputs.nixos-hydra-agent.nixosModules = { default = MODULE; flake-updater = UPDATER; };
in { isWhole = true; imports = [ EXAMPLE ]; })
"""
PART = "{ imports = [ LEAST { EXAMPLE } ]; }"


def blocks():
    """Yield what is fenced as Nix, and the choices in tables, as modules by their places."""
    for page in PAGES:
        text, name = page.read_text(), str(page.relative_to(ROOT))
        for found in re.finditer(r"^( *)```nix\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{name}:{line}", as_module(found[2])
        _, _, table = text.partition("| you want | set |\n|---|---|\n")
        for row in table.partition("\n\n")[0].splitlines():
            for code in re.findall(r"`([^`]+ = [^`]+)` \|$", row):
                yield f"{name}: {code}", with_options(f"{code};")


def as_module(text):
    if "outputs =" in text:
        frame = FLAKE
    elif "hydraJobs =" in text:
        frame = JOBS
    else:
        frame = HOST if "imports =" in text else PART
        # Of a host's file, what is between its braces.
        text = f"{{ {text} }}" if text.startswith("imports =") else text
    named = {"MODULE": MODULE, "UPDATER": UPDATER, "LEAST": LEAST, "EXAMPLE": text}
    for name, expression in named.items():
        frame = frame.replace(name, expression)
    return frame


EXAMPLES = dict(blocks())


@pytest.fixture(scope="module")
def systems():
    return evaluate(EXAMPLES)


@pytest.mark.parametrize("place", EXAMPLES)
def test_an_example_evaluates(systems, place):
    assert systems[place]["problems"] == []


def test_the_examples_are_found():
    pages = {place.partition(":")[0] for place in EXAMPLES}
    assert {"README.md", "docs/getting-started.md", "docs/flake-updates.md"} <= pages
    assert len(EXAMPLES) > 20


def test_the_examples_of_a_whole_host_enable_the_agent(systems):
    for page in ("README.md", "docs/getting-started.md"):
        made = [systems[place] for place in EXAMPLES if re.match(rf"{page}:\d", place)]
        whole = [found["settings"]["hydra"] for found in made if found["settings"]]
        assert any(hydra["project"] == "nix-config" for hydra in whole)


def test_the_example_of_the_updater_proposes_to_a_forge(systems):
    (place,) = [place for place in EXAMPLES if place.startswith("docs/flake-updates.md")]
    assert systems[place]["updater"]["flake_update"]["forge"]["repository"] == "vincent/home"


def test_the_first_host_needs_one_import_and_ten_lines():
    text = (ROOT / "docs/getting-started.md").read_text()
    _, _, example = text.partition("imports = [ inputs.nixos-hydra-agent.nixosModules.default ];\n")
    lines = example.partition("```")[0].strip().splitlines()
    assert 0 < len(lines) <= 10
