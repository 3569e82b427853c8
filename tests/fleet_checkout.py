"""A fleet's flake as a checkout with a remote, whose input moves; nix is real, in its own store.

A host is a toplevel made of packages, whose versions are the input's. A version has a meaning:
`broken-…` does not build, `….large` has 10 KiB, and a package without one does not evaluate.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from typing import TYPE_CHECKING

from adapters.checkout import Checkout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.demo.layout import Layout

_BASE = "{ outputs = _: { versions = builtins.fromJSON (builtins.readFile ./versions.json); }; }\n"
_HOSTS = """{
  inputs.base.url = "git+file://@base@?ref=main";
  outputs = { self, base }:
    let
      build = name: more: derivation ({
        inherit name;
        system = "@system@";
        builder = "/bin/sh";
      } // more);
      package = name:
        let version = base.versions.${name}; in
        build "${name}-${version}" {
          args = [ "-c" ''
            echo "building $name" >> ${toString @log@}
            case $name in *-broken-*) echo "cc: $name is broken" >&2; exit 1 ;; esac
            echo $name > $out
            case $name in *.large)
              line=$(printf %0512d 0)
              for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo $line; done >> $out
            esac
          '' ];
        };
      host = name: packages: {
        config.system.build.toplevel = build "nixos-system-${name}" {
          packages = map package packages;
          args = [ "-c" ''
            echo "building $name" >> ${toString @log@}
            echo $packages > $out
          '' ];
          revision = @revision@;
        };
      };
    in
    { nixosConfigurations = builtins.mapAttrs host (builtins.fromJSON (builtins.readFile ./fleet.json)); };
}
"""
FLEET = {"db": ("postgres",), "iso-minimal": ("linux",), "web": ("linux", "nginx")}
VERSIONS = {"linux": "6.1", "nginx": "1.28", "postgres": "17", "spare": "1"}


class FleetCheckout:
    """`checkout` has the fleet, `base` is the input that it locks."""

    def __init__(
        self,
        layout: Layout,
        directory: Path,
        fleet: Mapping[str, tuple[str, ...]] | None = None,
        *,
        names_revision: bool = False,
    ) -> None:
        self.layout = layout
        self.base = directory / "base"
        self.base.mkdir(parents=True)
        self.log = directory / "builds"
        self.log.touch()
        self.environment = {
            **os.environ,
            **layout.environment(),
            "GIT_CONFIG_GLOBAL": str(layout.root / "home/.gitconfig"),
        }
        self._git_base("init", "--quiet", "--initial-branch=main")
        self.release()
        revision = 'self.rev or self.dirtyRev or "dirty"' if names_revision else '""'
        flake = _HOSTS
        for name, text in {
            "@base@": str(self.base),
            "@system@": f"{platform.machine()}-linux",
            "@log@": f'"{self.log}"',
            "@revision@": revision,
        }.items():
            flake = flake.replace(name, text)
        files = {"flake.nix": flake, "fleet.json": json.dumps(fleet or FLEET)}
        self.checkout = Checkout(directory / "repository", files)
        self.path = self.checkout.path
        self.nix("flake", "lock")
        self.checkout.commit({}, "Lock")
        self.checkout.git("push", "--quiet", "origin", "main")

    def release(self, **versions: str | None) -> None:
        """Let the input have other versions; None is a package that it has no more."""
        wanted = {name: text for name, text in {**VERSIONS, **versions}.items() if text is not None}
        (self.base / "flake.nix").write_text(_BASE)
        (self.base / "versions.json").write_text(json.dumps(wanted))
        self._git_base("add", "--all")
        self._git_base("commit", "--quiet", "--allow-empty", "--message", json.dumps(wanted))

    def builds(self) -> list[str]:
        """Return the names of the derivations whose builders have run, in order."""
        return [line.removeprefix("building ") for line in self.log.read_text().splitlines()]

    def nix(self, *arguments: str) -> str:
        """Run nix in the checkout."""
        features = ("--extra-experimental-features", "nix-command flakes")
        done = subprocess.run(
            ("nix", *features, *arguments),
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def locked(self, revision: str = "HEAD") -> str:
        """Return the revision of the input that a commit locks."""
        lock = json.loads(self.checkout.git("show", f"{revision}:flake.lock"))
        return str(lock["nodes"]["base"]["locked"]["rev"])

    def upstream(self) -> str:
        """Return the input's newest revision."""
        return self._git_base("rev-parse", "HEAD")

    def _git_base(self, *arguments: str) -> str:
        return self.git(self.base, *arguments)

    def git(self, directory: Path, *arguments: str) -> str:
        """Run git anywhere."""
        person = ("-c", "user.name=person", "-c", "user.email=person@localhost")
        done = subprocess.run(
            ("git", *person, "-C", str(directory), *arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
