"""What NixOS's boot loader installers write: entries of systems, and which one is the default.

systemd-boot: `loader/loader.conf` and `loader/entries/nixos-generation-N[+LEFT[-DONE]].conf`, or
`nixos-HASH[+LEFT[-DONE]].conf` (systemd-boot-builder.py, which where tries are counted writes the
default as `preferred`, beside `default nixos-*` for when its tries are used up). GRUB:
`grub/grub.cfg`, the default first and the generations in a submenu (install-grub.pl). Both name a
system by the `init=` of its kernel's command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.adapters.whole_file import replace_file
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.domain.store_path import StorePath

_MAX_FILE: Final = 4 << 20
_COUNTED: Final = re.compile(r"\+[0-9]+(-[0-9]+)?\Z")
_NAME: Final = re.compile(r"nixos-.*\.conf")
_DEFAULT: Final = re.compile(r"^[ \t]*default[ \t]+(\S+)", re.MULTILINE)
_PREFERRED: Final = re.compile(r"^[ \t]*preferred[ \t]+(\S+)", re.MULTILINE)
_GRUB_DEFAULT: Final = re.compile(r"^[ \t]*set[ \t]+default=(\S*)", re.MULTILINE)
_INIT: Final = re.compile(r"\binit=(\S+)/init\b")
_TITLE: Final = re.compile(r"""\s*(menuentry|submenu)\s+(?:"([^"]*)"|'([^']*)')""")


class SystemdBootEntries:
    """The files of systemd-boot below the boot partition."""

    name = "systemd-boot"

    def __init__(self, boot: Path, store_dir: str) -> None:
        self._loader = boot / "loader"
        self._entries_dir = self._loader / "entries"
        self._store_dir = store_dir

    def are_there(self) -> bool:
        """Whether this is the host's boot loader."""
        return _is_there(self._loader / "loader.conf")

    def default(self) -> StorePath | None:
        """Return the system that is started by default; None where that is not clear."""
        text = _text(self._loader / "loader.conf")
        found = _last(_PREFERRED, text) or _last(_DEFAULT, text)
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

    def make_default(self, toplevel: StorePath) -> bool:
        """Name the entry of `toplevel` as the one to start, where the installer names its own.

        False, with the file as it was, if there is no such entry or it cannot be written. What the
        loader falls back to when that entry's tries are used up stays.
        """
        entry, file = self.entry_of(toplevel), self._loader / "loader.conf"
        text = _text(file)
        wanted = _PREFERRED if _PREFERRED.search(text) else _DEFAULT
        if entry is None or not wanted.search(text):
            return False
        word = "preferred" if wanted is _PREFERRED else "default"
        changed = wanted.sub(lambda _: f"{word} {entry}", text)
        try:
            replace_file(file, changed)
        except OSError:
            return False
        return True

    def are_counted(self) -> bool:
        """Whether the loader counts how often an entry was tried without success."""
        return any(_COUNTED.search(file.name.removesuffix(".conf")) for file in self._files())

    def _is_given_up(self, name: str) -> bool:
        """Whether an entry has no tries left; the loader then skips it, if it can."""
        left = re.compile(rf"{re.escape(name)}\+0+(-[0-9]+)?\.conf")
        return any(left.fullmatch(file.name) for file in self._files())

    def _entries(self) -> Iterator[tuple[str, StorePath]]:
        """Yield each entry's name, without the counter of its tries, and its system."""
        for file in self._files():
            options = re.search(r"^options\s(.*)$", _text(file), re.MULTILINE)
            path = _system_of(options[1] if options else "", self._store_dir)
            if path is not None:
                yield _COUNTED.sub("", file.name.removesuffix(".conf")), path

    def _files(self) -> list[Path]:
        """Return the files of NixOS's entries; those of unified kernel images say nothing."""
        try:
            return [
                file for file in sorted(self._entries_dir.iterdir()) if _NAME.fullmatch(file.name)
            ]
        except OSError:
            return []


class GrubEntries:
    """The file of GRUB below the boot partition."""

    name = "grub"

    def __init__(self, boot: Path, store_dir: str) -> None:
        self._file = boot / "grub/grub.cfg"
        self._store_dir = store_dir

    def are_there(self) -> bool:
        """Whether this is the host's boot loader."""
        return _is_there(self._file)

    def default(self) -> StorePath | None:
        """Return the system of the default entry; None where that is not clear.

        It is counted from 0, of all that is in the menu's first level. `"${saved_entry}"` is what
        was started last, or what an administrator has chosen.
        """
        chosen = [found[1] for found in _GRUB_DEFAULT.finditer(_text(self._file))]
        lasting = [value for value in chosen if "next_entry" not in value]
        place = lasting[-1].strip("\"'") if lasting else "0"
        if not re.fullmatch(r"[0-9]{1,4}", place):
            return None
        first_level = [entry for entry in self._entries() if entry.submenu == ""]
        return next((entry.system for entry in first_level[int(place) :]), None)

    def entry_of(self, toplevel: StorePath) -> str | None:
        """Return the place of the generation that starts `toplevel`, as grub-reboot names it."""
        found = (entry for entry in self._entries() if entry.system == toplevel and entry.submenu)
        return next((f"{entry.submenu}>{entry.title}" for entry in found), None)

    def _entries(self) -> list[_GrubEntry]:
        """Return the entries in the menu's order; a submenu is one that starts nothing itself."""
        entries: list[_GrubEntry] = []
        submenu, depth = "", 0
        for line in _text(self._file).splitlines():
            if found := _TITLE.match(line):
                name = found[2] or found[3] or ""
                entries.append(_GrubEntry(submenu, name))
                if found[1] == "submenu":
                    submenu = name
            elif entries and (path := _system_of(line, self._store_dir)):
                last = entries[-1]
                entries[-1] = replace(last, system=last.system or path)
            depth += line.rstrip().endswith("{") - (line.strip() == "}")
            if depth == 0:
                submenu = ""
        return entries


@dataclass(frozen=True, slots=True)
class _GrubEntry:
    """An entry of GRUB's menu; its submenu is empty on the first level, `system` is of NixOS."""

    submenu: str
    title: str
    system: StorePath | None = None


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


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match: of two such lines systemd-boot uses the later one."""
    return next(reversed(list(pattern.finditer(text))), None)


def _is_there(file: Path) -> bool:
    """Whether a file is there and can be seen."""
    try:
        return file.exists()
    except OSError:
        return False
