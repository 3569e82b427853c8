"""Tells what is wrong with the state directory."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from agent.domain.errors import HostError, Kind

if TYPE_CHECKING:
    from pathlib import Path

_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_WRITE_HINT: Final = "run the agent as root, or let it write to paths.state_dir"


def state_fault(file: Path, error: OSError) -> HostError:
    """Return the fault that an error on a file of the state directory amounts to."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _READ_ONLY:
        kind, hint = Kind.STATE_READ_ONLY, _WRITE_HINT
    elif error.errno in _FULL:
        kind, hint = Kind.STATE_FULL, "free some room in the file system of paths.state_dir"
    else:
        kind, hint = Kind.STATE_UNUSABLE, "check paths.state_dir"
    return HostError(kind, f"cannot use {file}: {why}", hint=hint)
