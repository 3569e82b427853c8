"""What NixOS's boot loader installers write: entries of systems, and which one is the default.

systemd-boot: `loader/loader.conf` and `loader/entries/nixos-generation-N[+LEFT[-DONE]].conf`, or
`nixos-HASH[+LEFT[-DONE]].conf` (systemd-boot-builder.py, which where tries are counted writes the
default as `preferred`, beside `default nixos-*` for when its tries are used up). GRUB:
`grub/grub.cfg`, the default first and the generations in a submenu (install-grub.pl). Both name a
system by the `init=` of its kernel's command line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.domain.store_path import StorePath

_MAX_FILE: Final = 4 << 20
_COUNTED: Final = re.compile(r"\+[0-9]+(-[0-9]+)?\Z")
_DEFAULT: Final = re.compile(r"^default\s+(\S+)", re.MULTILINE)
_PREFERRED: Final = re.compile(r"^preferred\s+(\S+)", re.MULTILINE)
_INIT: Final = re.compile(r"\binit=(\S+)/init\b")
_TITLE: Final = re.compile(r"""\s*(menuentry|submenu)\s+(?:"([^"]*)"|'([^']*)')""")


class SystemdBootEntries:
    """The files of systemd-boot below the boot partition."""

    name = "systemd-boot"

    def __init__(self, boot: Path, store_dir: str) -> None:
        self._loader = boot / "loader"
        self._store_dir = store_dir

    def are_there(self) -> bool:
        """Whether this is the host's boot loader."""
        return (self._loader / "loader.conf").exists()

    def default(self) -> StorePath | None:
        """Return the system that is started by default; None where that is not clear."""
        text = _text(self._loader / "loader.conf")
        found = _PREFERRED.search(text) or _DEFAULT.search(text)
        if found is None or found[1].startswith("@") or "/" in found[1]:
            return None
        wanted = found[1].removesuffix(".conf")
        if found.re is _PREFERRED and self._is_given_up(wanted):
            return None
        return next((path for name, path in self._entries() if name == wanted), None)

    def entry_of(self, toplevel: StorePath) -> str | None:
        """Return the id of the newest generation's entry that starts `toplevel`."""
        found = [name for name, path in self._entries() if path == toplevel]
        return f"{max(found, key=_generation)}.conf" if found else None

    def are_counted(self) -> bool:
        """Whether the loader counts how often an entry was tried without success."""
        return any(
            _COUNTED.search(file.name.removesuffix(".conf"))
            for file in (self._loader / "entries").glob("nixos-*.conf")
        )

    def _is_given_up(self, name: str) -> bool:
        """Whether no try is left to an entry; the loader passes over it, if it may."""
        entries = self._loader / "entries"
        return any(entries.glob(f"{name}+0.conf")) or any(entries.glob(f"{name}+0-*.conf"))

    def _entries(self) -> Iterator[tuple[str, StorePath]]:
        """Yield each entry's name, without the counter of its tries, and its system."""
        for file in (self._loader / "entries").glob("nixos-*.conf"):
            options = re.search(r"^options\s(.*)$", _text(file), re.MULTILINE)
            path = _system_of(options[1] if options else "", self._store_dir)
            if path is not None:
                yield _COUNTED.sub("", file.name.removesuffix(".conf")), path


class GrubEntries:
    """The file of GRUB below the boot partition."""

    name = "grub"

    def __init__(self, boot: Path, store_dir: str) -> None:
        self._file = boot / "grub/grub.cfg"
        self._store_dir = store_dir

    def are_there(self) -> bool:
        """Whether this is the host's boot loader."""
        return self._file.exists()

    def default(self) -> StorePath | None:
        """Return the system of the first entry, which is NixOS's default."""
        return next((path for title, path in self._entries() if ">" not in title), None)

    def entry_of(self, toplevel: StorePath) -> str | None:
        """Return the place of the generation that starts `toplevel`, as grub-reboot names it."""
        found = (title for title, path in self._entries() if path == toplevel and ">" in title)
        return next(found, None)

    def _entries(self) -> Iterator[tuple[str, StorePath]]:
        submenu, title, depth = "", "", 0
        for line in _text(self._file).splitlines():
            if found := _TITLE.match(line):
                name = found[2] or found[3] or ""
                if found[1] == "submenu":
                    submenu = f"{name}>"
                else:
                    title = submenu + name
            elif title and (path := _system_of(line, self._store_dir)):
                yield title, path
                title = ""
            depth += line.rstrip().endswith("{") - (line.strip() == "}")
            if depth == 0:
                submenu = ""


def _system_of(command_line: str, store_dir: str) -> StorePath | None:
    found = _INIT.search(command_line)
    return parse_store_path(found[1], store_dir) if found else None


def _generation(name: str) -> int:
    found = re.search(r"-generation-([0-9]{1,9})", name)
    return int(found[1]) if found else 0


def _text(file: Path) -> str:
    try:
        with file.open(errors="replace") as stream:
            return stream.read(_MAX_FILE)
    except OSError:
        return ""
