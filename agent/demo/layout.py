"""Where a throw-away host keeps its things: everything below one root, nix's own included."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

MARKER: Final = ".agent-demo-root"
"""The file without which the stand-ins and the systems' scripts refuse to run."""

_OF_THE_HOST: Final = ("boot", "inject", "log", "run", "state", "timers", "tmp")


class Layout:
    """Where things are below the root of a throw-away host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store_dir = root / "nix/store"
        self.profile = root / "nix/var/nix/profiles/system"
        self.marks_dir = root / "nix/var/nix/gcroots/nixos-hydra-agent"
        self.current_system = root / "run/current-system"
        self.booted_system = root / "run/booted-system"
        self.boot = root / "boot"
        """What would be `/boot`; its link `default` is the boot loader."""
        self.state_dir = root / "state"
        self.cache = root / "cache"
        """The farm's binary cache, as files; any web server can serve it."""
        self.reboots = root / "reboots"
        """The file in which the stand-in for systemctl notes each reboot asked for."""

    def settings(self) -> dict[str, str]:
        """Return the agent's settings `paths.*` for this host."""
        names = ("current_system", "booted_system", "profile", "store_dir", "state_dir")
        return {name: str(getattr(self, name)) for name in (*names, "marks_dir", "boot")}

    def environment(self) -> dict[str, str]:
        """Return what the environment of a process needs to be on this host, and only there."""
        state = self.root / "nix/var"
        return {
            "AGENT_DEMO_ROOT": str(self.root),
            "PATH": f"{self.root / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "XDG_CACHE_HOME": str(self.root / "home/.cache"),
            "XDG_CONFIG_HOME": str(self.root / "home/.config"),
            "GIT_CONFIG_GLOBAL": str(self.root / "home/.gitconfig"),
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "NIX_STORE_DIR": str(self.store_dir),
            "NIX_STATE_DIR": str(state / "nix"),
            "NIX_LOG_DIR": str(state / "log/nix"),
            "NIX_CONF_DIR": str(self.root / "etc/nix"),
            "NIX_USER_CONF_FILES": "",
            "NIX_CONFIG": "",
            "NIX_PATH": "",
            "NIX_REMOTE": "local",
        }

    def make(self) -> None:
        """Make the directories and the stand-ins, everything but systems."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / MARKER).touch()
        for name in ("bin", "etc/nix", "home", *_OF_THE_HOST):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "home/.gitconfig").write_text("[safe]\n\tdirectory = *\n")
        (self.root / "etc/NIXOS").touch()
        (self.root / "etc/nix/registry.json").write_text('{"flakes":[],"version":2}\n')
        self._make_store()
        copy_files(resources.files(__package__) / "files/bin", self.root / "bin", mode=0o755)

    def write_nix_conf(self, substituters: Iterable[str], trusted_keys: Iterable[str]) -> None:
        """Write `nix.conf`; what it names are URLs and `name:key` pairs."""
        lines = {
            "experimental-features": "nix-command flakes",
            "sandbox": "false",
            "build-users-group": "",
            "substituters": " ".join(substituters),
            "trusted-public-keys": " ".join(trusted_keys),
            "flake-registry": str(self.root / "etc/nix/registry.json"),
            # A cache that is down is reported at once, not after five attempts.
            "download-attempts": "1",
            "connect-timeout": "5",
        }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self.root / "etc/nix/nix.conf").write_text(text)

    def empty_store(self) -> None:
        """Remove all store paths, and nix's memory of them."""
        remove_tree(self.root / "nix")
        remove_tree(self.root / "home/.cache")
        self._make_store()

    def forget(self) -> None:
        """Remove all traces of a host, and leave what the farm made."""
        self.empty_store()
        self.reboots.unlink(missing_ok=True)
        for name in _OF_THE_HOST:
            remove_tree(self.root / name)
            (self.root / name).mkdir()
        (self.root / "etc/NIXOS").touch()

    def _make_store(self) -> None:
        self.store_dir.mkdir(parents=True, exist_ok=True)
        for directory in (self.profile.parent, self.marks_dir):
            directory.mkdir(parents=True, exist_ok=True)
        roots = self.marks_dir.parent
        for link in (self.current_system, self.booted_system):
            if not (roots / link.name).is_symlink():
                (roots / link.name).symlink_to(link)


def remove_tree(directory: Path) -> None:
    """Remove a directory, store paths included: nix takes away the right to write."""
    for path, _, _ in os.walk(directory):
        Path(path).chmod(0o700)  # never of the target of a link: os.walk follows none
    shutil.rmtree(directory, ignore_errors=True)


def copy_files(source: Traversable, target: Path, *, mode: int) -> None:
    """Copy the files of a directory of the package; what is there already is overwritten."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        copy = target / file.name
        copy.write_bytes(file.read_bytes())
        copy.chmod(mode)
