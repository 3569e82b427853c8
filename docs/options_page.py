"""Generates the reference pages of the modules' options by evaluating them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Module:
    """A module whose options have a page."""

    title: str
    source: str
    prefix: str
    evaluation: str
    """The file below `tests/nix/` that evaluates it."""
    subject: str
    """What is built with the module."""
    attribute: str = "options"
    """The attribute of the evaluation that lists the options."""


NIXOS: Final = Module(
    "Options of the NixOS module",
    "nix/module/",
    "system.autoUpgradeHydra",
    "evaluate.nix",
    "system",
)
HOME: Final = Module(
    "Options of the home-manager module",
    "nix/home/",
    "services.autoUpgradeHydra",
    "evaluate-home.nix",
    "home",
)
UPDATER: Final = Module(
    "Options of the updater's NixOS module",
    "nix/updater/",
    "services.nix-flake-updater",
    "evaluate.nix",
    "system",
    "updaterOptions",
)


def options(module: Module = NIXOS) -> list[dict[str, Any]]:
    """Return every option of a module, as listed by `tests/nix/option-list.nix`.

    Raises:
        SystemExit: there is no nix, or it cannot evaluate the module.
    """
    nix = shutil.which("nix-instantiate")
    if nix is None:
        raise SystemExit("the page of the options needs nix-instantiate: see .ci/setup")
    # The store is a dummy: nothing is built, and nix needs no place of its own.
    argv = [nix, "--eval", "--strict", "--json", "--store", "dummy://", "--attr", module.attribute]
    argv += [str(ROOT / "tests/nix" / module.evaluation), "--arg", "cases", "{ }"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    made: list[dict[str, Any]] = json.loads(done.stdout)
    return made


def options_page(module: Module = NIXOS) -> str:
    """Return `docs/reference/options.md`, or that of another module."""
    lines = [
        f"# {module.title}",
        "",
        f"Generated from `{module.source}` by `make docs`; do not edit.",
        "",
        f"All are below `{module.prefix}`.",
        "",
        "The types and defaults of the agent's settings come from the agent itself; durations,",
        "sizes and checks are described in [settings](settings.md). A wrong type or an unknown",
        "name fails the evaluation, and any other mistake in the settings fails the build of the",
        f"{module.subject}.",
        "",
    ]
    for option in options(module):
        if not option["isVisible"]:
            continue
        lines += [f"## `{option['name']}`", "", *_paragraphs(option["description"])]
        lines += [f"- type: {option['type']}", f"- default: {_shown(option['default'])}"]
        if option["example"] is not None:
            lines.append(f"- example: {_shown(option['example'])}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _paragraphs(text: str) -> list[str]:
    # Roles of NixOS's manual, such as {option}`nix.gc.options`.
    plain = re.sub(r"(?<!`)\{\w+\}`", "`", " ".join(text.split()))
    return [plain, ""]


def _shown(value: dict[str, Any] | None) -> str:
    if value is None:
        return "none: it is required"
    return f"`{value['expression'] if 'expression' in value else in_nix(value['value'])}`"


def in_nix(value: object) -> str:
    """Return a JSON value as a Nix expression."""
    match value:
        case None:
            return "null"
        case list():
            return " ".join(["[", *map(in_nix, value), "]"])
        case dict():
            said = (f"{key} = {in_nix(item)};" for key, item in value.items())
            return " ".join(["{", *said, "}"])
        case _:
            return json.dumps(value)
