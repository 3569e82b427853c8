"""Generates the page of what the flake uses from nixpkgs, from the list behind the tests' stub."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SEEN = Path(__file__).parents[1] / "tests" / "nix" / "stub" / "seen.toml"
HEADINGS = {
    "packages": "Packages and functions of the package set",
    "python3Packages": "Of `python3Packages`",
    "lib": "Of `lib`",
    "nixos": "Options of NixOS",
    "home-manager": "Options of home-manager",
    "flake": "Outputs of nixpkgs' flake",
    "module-arguments": "Arguments of modules",
    "test-driver": "Methods of a machine in the NixOS test driver",
}
INTRODUCTION = """\
# What is used from nixpkgs

Generated from `tests/nix/stub/seen.toml` by `make docs`; do not edit.

Every attribute, function and option that `flake.nix`, `module.nix`, `nix/` and `templates/` use,
with a file that declares or uses it. Files are from nixpkgs unless home-manager is named; the
revision in which the file was read follows the `@`. The revisions are from several years, since not
all of them were available; without one, the file's revision is unknown. The tests' stub has exactly
these names: code that uses another one does not evaluate with it. Whether the release that
`flake.lock` pins has each of them is [unproven](../design/unproven.md) until the flake's checks
have run with it."""


def seen_page() -> str:
    """Return `docs/reference/nixpkgs.md`."""
    seen = tomllib.loads(SEEN.read_text())
    lines = [INTRODUCTION]
    for kind, heading in HEADINGS.items():
        lines += ["", f"## {heading}", "", *_table(kind, seen[kind])]
    return "\n".join(lines) + "\n"


def _table(kind: str, names: Mapping[str, str | list[str]]) -> Iterator[str]:
    if kind == "lib":
        yield f"In {names['seen']}: {', '.join(f'`{name}`' for name in names['names'])}."
        return
    yield "| name | seen in |"
    yield "|---|---|"
    for name, place in names.items():
        yield f"| `{name}` | {place} |"
