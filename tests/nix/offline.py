"""Real nix on flakes, with no network: nixpkgs is a stub, and the store is the test's own."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.adapters.process import run_now
from agent.demo.host import Layout, remove_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "stub"
FOLDERS = ("nix", "templates", "tests/nix/stub")
# Of the rest an evaluation reads these alone, and otherwise looks what is there: each of them is copied
# into nix's store by every evaluation.
FILES = (
    *("flake.nix", "module.nix", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"),
    *("agent/__init__.py", "benchmarks/runs.py", "contrib/github/flake-update.yaml"),
    "docs/man_pages.py",
)
NIX = ("nix", "--extra-experimental-features", "nix-command flakes")


class OfflineNix:
    """Nix below a root; `flake` is this project's flake there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        layout = Layout(root / "host")
        layout.make()
        layout.write_nix_conf((), ())
        self._environment: Mapping[str, str] = {**os.environ, **layout.environment()}
        self.flake = root / "flake"
        self.flake.mkdir()
        for name in FILES:
            (self.flake / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, self.flake / name)
        for name in FOLDERS:
            shutil.copytree(
                CHECKOUT / name,
                self.flake / name,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        # Nix 2.8 cannot read the lock of a tarball, and nixpkgs is overridden: it pins nothing.
        (self.flake / "flake.lock").write_text(
            json.dumps({"nodes": {"root": {}}, "root": "root", "version": 7})
        )

    def eval(self, attribute: str, apply: str, *, flake: Path | None = None) -> Any:
        """Return an attribute of a flake, by default this project's, after a function of Nix."""
        argv = ("eval", "--json", f"path:{flake or self.flake}#{attribute}", "--apply", apply)
        return json.loads(self._run(*argv, *self._inputs(flake)))

    def check(self, flake: Path | None = None) -> None:
        """Let `nix flake check` evaluate every output of a flake, and build nothing."""
        where = f"path:{flake or self.flake}"
        self._run("flake", "check", "--no-build", where, *self._inputs(flake))

    def new(self, template: str) -> Path:
        """Return a directory that nix has made from a template of the flake."""
        made = self.root / "made" / template
        made.parent.mkdir(exist_ok=True)
        self._run("flake", "new", str(made), "--template", f"path:{self._offerer}#{template}")
        return made

    @functools.cached_property
    def _offerer(self) -> Path:
        # `nix flake new` overrides no inputs.
        offerer = shutil.copytree(self.flake, self.root / "offerer")
        flake = offerer / "flake.nix"
        flake.write_text(re.sub(r"(nixpkgs\.url = )[^;]+", rf'\1"path:{STUB}"', flake.read_text()))
        return offerer

    def close(self) -> None:
        """Remove everything."""
        remove_tree(self.root)

    def _inputs(self, flake: Path | None) -> tuple[str, ...]:
        inputs = {"nixpkgs": STUB}
        if flake is not None:
            inputs["nixos-hydra-agent"] = self.flake
        overrides = (("--override-input", name, f"path:{path}") for name, path in inputs.items())
        return (*(word for words in overrides for word in words), "--no-write-lock-file")

    def _run(self, *arguments: str) -> str:
        return run_now((*NIX, *arguments), env=self._environment)
