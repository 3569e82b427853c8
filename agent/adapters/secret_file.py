"""Credentials: read from files that not everybody may read."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from agent.domain.errors import ConfigError, Kind

if TYPE_CHECKING:
    from pathlib import Path

_MAX_SIZE: Final = 64 * 1024


def read_secret(path: Path) -> str:
    """Return the one line that a file holds: printable ASCII without spaces.

    Raises:
        ConfigError: SECRET_MISSING, SECRET_EXPOSED, SECRET_UNUSABLE.
    """
    lines = read_secrets(path)
    if len(lines) != 1 or not lines[0].isascii() or " " in lines[0]:
        raise ConfigError(
            Kind.SECRET_UNUSABLE,
            f"{path} holds no token: one line of ASCII without spaces",
            hint="write the token, and nothing else, into it",
        )
    return lines[0]


def read_secrets(path: Path) -> tuple[str, ...]:
    """Return the lines of a file of credentials, without those that are empty or comments (`#`).

    Raises:
        ConfigError: SECRET_MISSING, SECRET_EXPOSED, SECRET_UNUSABLE.
    """
    try:
        # What is a pipe must not be waited for.
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(number, "rb") as stream:
            _refuse_exposed(path, os.fstat(stream.fileno()))
            content = stream.read(_MAX_SIZE + 1)
            text = content.decode()
    except FileNotFoundError as error:
        raise ConfigError(
            Kind.SECRET_MISSING,
            f"there is no file {path}",
            hint="write the credential into it, with mode 0400, or name another file",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        number = getattr(error, "errno", None) or errno.EILSEQ
        raise _unusable(path, f"cannot be read: {os.strerror(number)}") from error
    lines = (line.strip() for line in text.splitlines())
    found = tuple(line for line in lines if line and not line.startswith("#"))
    if len(content) > _MAX_SIZE or not all(line.isprintable() for line in found):
        raise _unusable(path, "is no text of at most 64 KiB")
    return found


def _refuse_exposed(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "is no ordinary file")
    if status.st_mode & stat.S_IROTH:
        raise ConfigError(
            Kind.SECRET_EXPOSED,
            f"{path} may be read by everybody (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 0400 {path}, and consider the credential known to others",
        )


def _unusable(path: Path, wrong: str) -> ConfigError:
    return ConfigError(
        Kind.SECRET_UNUSABLE, f"{path} {wrong}", hint="write the credential into it, mode 0400"
    )
