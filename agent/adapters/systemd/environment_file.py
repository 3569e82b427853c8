"""Variables for transient units, in files that only their owner can read.

What systemd-run is given by `--setenv` is in its arguments or, given by name, in the unit's
`Environment=`, which everybody may ask the manager for. `EnvironmentFile=` is read when the unit
starts, and the manager does not show what is in it.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_DIRECTORY: Final = "nixos-hydra-agent-environment"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Within double quotes (parse_env_file_internal() in src/basic/env-file.c).
_ESCAPED: Final = re.compile(r'["\\`$]')
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class EnvironmentFiles:
    """Files below `run_dir`, which is `/run` or `$XDG_RUNTIME_DIR`: they end with the boot."""

    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir / _DIRECTORY

    def write(self, name: str, variables: Mapping[str, str]) -> Path:
        """Write the file of a unit in place of what it was, and return it; raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        # O_NOFOLLOW and O_DIRECTORY: whatever else has that name is not written to.
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchmod(directory, 0o700)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(name, flags, 0o600, dir_fd=directory)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(environment_file(variables))
        finally:
            os.close(directory)
        return self._directory / name

    def remove(self, pattern: str) -> None:
        """Remove files by a shell pattern; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            for file in self._directory.glob(pattern):
                with contextlib.suppress(OSError):
                    file.unlink()


def environment_file(variables: Mapping[str, str]) -> str:
    """Return variables as systemd.exec(5) has them in a file, each in double quotes.

    Within those line breaks stand for themselves, and so do `%`, `#` and `;`.
    """
    return "".join(f'{name}="{_ESCAPED.sub(_escaped, variables[name])}"\n' for name in variables)


def portable(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return those that systemd takes: with a plain name, and text without control characters.

    One value that is not UTF-8 would make it refuse the whole file (load_env_file_push() in
    src/basic/env-file.c).
    """
    return {
        name: value
        for name, value in variables
        if _NAME.fullmatch(name) and not _CONTROL.search(value) and _is_utf8(value)
    }


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that were none, as Python keeps them
        return False
    return True
