"""A host's files below a directory, for the tests of what is read from them."""

from __future__ import annotations

from pathlib import Path

from agent.adapters.host import HostFiles
from agent.adapters.process import Runner
from fakes.events import RememberedEvents, SteppedClock


class Root:
    """A host's files below a directory; `add` puts a system into its store."""

    def __init__(self, path):
        self.path = path
        self.store = path / "store"
        self.profiles = path / "profiles"
        self.boot = path / "boot"
        self.run = path / "run"
        for directory in (self.store, self.profiles, self.run):
            directory.mkdir()
        self.current = self.run / "current-system"
        self.booted = self.run / "booted-system"
        self.profile = self.profiles / "system"
        self.host = HostFiles(
            Runner(RememberedEvents(), SteppedClock()),
            current_system=self.current,
            booted_system=self.booted,
            profile=self.profile,
            store_dir=self.store,
            boot=self.boot,
            routes=path / "net",
        )

    def name(self, letter):
        return str(self.store / f"{letter * 32}-nixos")

    def add(self, letter, *, artifacts=None, hostname=None, specialisations=None, units=None):
        path = Path(self.name(letter))
        path.mkdir()
        for name, text in (artifacts or {}).items():
            (path / name).write_text(text)
        for name, text in (units or {}).items():
            self.unit(letter, name, text)
        if hostname is not None:
            (path / "etc").mkdir(exist_ok=True)
            (path / "etc" / "hostname").write_text(hostname)
        for name, target in (specialisations or {}).items():
            (path / "specialisation").mkdir(exist_ok=True)
            (path / "specialisation" / name).symlink_to(target)
        return str(path)

    def unit(self, letter, name, text):
        """Write a file below the system's units; `name` may be in a directory of its own."""
        file = Path(self.name(letter), "etc/systemd/system", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def inhibitors(self, letter, text):
        """Write a system's `switch-inhibitors`, which NixOS links from elsewhere in the store."""
        file = self.store / f"{letter * 32}-switch-inhibitors"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        Path(self.name(letter), "switch-inhibitors").symlink_to(file)

    def generation(self, number, target):
        link = self.profiles / f"system-{number}-link"
        link.symlink_to(target)
        self.profile.unlink(missing_ok=True)
        self.profile.symlink_to(link.name)
