"""A throw-away host and the farm that builds its systems: real nix in a store of its own.

Everything lies below one root. Store paths depend on the store's directory, so farm and host use
the same one, one after the other: the farm builds, signs and publishes all systems to a binary
cache and is closed, which empties the store; the host begins with its first system, substituted
from that cache.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.adapters.process import run_now
from agent.demo.layout import Layout, copy_files, remove_tree
from agent.domain.store_path import StorePath
from agent.domain.target import NIXOS, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    Fleet = Mapping[str, Mapping[str, object]]
    """Host name to parameters: see `files/base/system.nix` for what each may set."""

__all__ = ["Farm", "Layout", "ThrowawayHost", "remove_tree"]

_FLAKES: Final = ("--extra-experimental-features", "nix-command flakes")
_BUILDERS_TOOLS: Final = ("sh", "mkdir", "ln", "sed", "chmod", "head", "cp", "dirname")
_GIT: Final = ("git", "-c", "user.name=demo", "-c", "user.email=demo@localhost")


class Farm:
    """What Hydra has: the fleet's flake in git, builders, and a signed binary cache.

    `root` is made; all programs run synchronously.
    """

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self._repositories = root / "repos"
        self.hosts = self._repositories / "hosts"
        """The fleet's git repository."""
        self._key = root / "etc/cache.secret-key"
        self._prepare()

    def _prepare(self) -> None:
        layout = self.layout
        layout.make()
        layout.write_nix_conf((), ())
        self._key.write_text(
            self._nix("key", "generate-secret", "--key-name", "demo-farm-1").strip()
        )
        self._key.chmod(0o600)
        self.public_key = run_now(
            ("nix", *_FLAKES, "key", "convert-secret-to-public"),
            env=self._environment(),
            stdin=self._key.read_text(),
        ).strip()
        files = resources.files(__package__) / "files"
        for name in ("base", "hosts"):
            copy_files(files / name, self._repositories / name, mode=0o644)
            self._git(name, "init", "--quiet", "--initial-branch=main")
        flake = self.hosts / "flake.nix"
        flake.write_text(flake.read_text().replace("@repositories@", str(self._repositories)))
        self.commit_all("base", "The shape of a system")

    def commit(
        self, fleet: Fleet, message: str = "Change the fleet", *, homes: Fleet | None = None
    ) -> str:
        """Commit the fleet's parameters and return the revision; the lock file is made at first.

        `homes` are those of users: see `files/base/home.nix`.
        """
        directories = {str(Path(_find(tool)).parent) for tool in _BUILDERS_TOOLS}
        content = {
            "platform": f"{platform.machine()}-linux",
            "path": ":".join(sorted(directories)),
            "hosts": fleet,
            "homes": homes or {},
        }
        (self.hosts / "fleet.json").write_text(json.dumps(content, indent=2) + "\n")
        self._git("hosts", "add", "--all")
        if not (self.hosts / "flake.lock").exists():
            self._nix("flake", "lock", str(self.hosts))
        return self.commit_all("hosts", message)

    @property
    def origin(self) -> str:
        """Where the fleet's flake and its inputs are, as `trust.allow_insecure` names it."""
        return f"git+file://{self._repositories}"

    def reference(self, revision: str) -> str:
        """Return the locked flake reference of a revision, in the form that Hydra records."""
        return f"git+file://{self.hosts}?ref=main&rev={revision}"

    def derivation(self, revision: str, host: str) -> str:
        """Return the derivation of a host's toplevel."""
        installable = f"{self.reference(revision)}#{NIXOS.toplevel_of(host)}.drvPath"
        return self._nix("eval", "--raw", installable)

    def build(self, revision: str, name: str, target: Target = NIXOS) -> StorePath:
        """Build the toplevel of a host, or what `target` has in its place."""
        installable = f"{self.reference(revision)}#{target.toplevel_of(name)}"
        built = json.loads(self._nix("build", "--no-link", "--json", installable))
        return StorePath(built[0]["outputs"]["out"])

    def publish(self, *paths: StorePath) -> None:
        """Sign the closures of store paths and add them to the binary cache."""
        cache = f"file://{self.layout.cache}?compression=none&secret-key={self._key}"
        self._nix("copy", "--to", cache, *paths)

    def close(self) -> None:
        """Empty the store, so that the host can begin in it."""
        self.layout.empty_store()

    def commit_all(self, repository: str, message: str) -> str:
        """Commit whatever was changed in the fleet's repository, `hosts`, or its input `base`."""
        self._git(repository, "add", "--all")
        self._git(repository, "commit", "--quiet", "--allow-empty", "--message", message)
        return self._git(repository, "rev-parse", "HEAD").strip()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.layout.environment()}

    def _git(self, repository: str, *arguments: str) -> str:
        return run_now(
            (*_GIT, "-C", str(self._repositories / repository), *arguments),
            env=self._environment(),
        )

    def _nix(self, *arguments: str) -> str:
        return run_now(("nix", *_FLAKES, *arguments), env=self._environment())


class ThrowawayHost:
    """A host that runs, has booted, and boots by default one system, below a farm's root."""

    def __init__(
        self, layout: Layout, *, substituters: tuple[str, ...], trusted_keys: tuple[str, ...]
    ) -> None:
        self.paths = layout
        layout.write_nix_conf(substituters, trusted_keys)

    def environment(self) -> dict[str, str]:
        """Return what is to be added to the environment of a process on this host."""
        return self.paths.environment()

    def begin(self, toplevel: StorePath) -> None:
        """Forget everything that ever happened here, and install a system."""
        self.paths.forget()
        self.install(toplevel)

    def install(self, toplevel: StorePath) -> None:
        """Substitute a system and make it the running, booted and profile's one."""
        env = {**os.environ, **self.environment()}
        run_now(("nix-env", "-p", str(self.paths.profile), "--set", toplevel), env=env)
        _point(self.paths.boot / "default", toplevel)
        self.power_cycle()

    def power_cycle(self) -> None:
        """Boot what the boot loader has for this once, or else as its default."""
        once = self.paths.boot / "efivars/LoaderEntryOneShot"
        if once.exists():
            entry = self.paths.boot / "loader/entries" / once.read_text()
            (init,) = re.findall(r"\binit=(\S+)/init\b", entry.read_text())
            system = Path(init)
            once.unlink()
        else:
            system = (self.paths.boot / "default").readlink()
        _point(self.paths.booted_system, system)
        _point(self.paths.current_system, system)


def _point(link: Path, target: Path | str) -> None:
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _find(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        raise FileNotFoundError(f"the demo's builders need {tool}, which is not on PATH")
    return found
