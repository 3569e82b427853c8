"""Decides whether an error proves that the target fails, or only that it could not be checked."""

from __future__ import annotations

import errno
import socket
from typing import Final

_OWN: Final = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
        *(errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT),  # in a sandbox without that address family
    )
)


def is_about_target(error: Exception) -> bool:
    """Return whether a network error proves something about the target.

    A name that does not resolve does; but the resolver also reports that if no file descriptor is
    left.
    """
    match error:
        case socket.gaierror(errno=socket.EAI_MEMORY):
            return False
        case socket.gaierror(errno=socket.EAI_AGAIN | socket.EAI_SYSTEM):
            return _has_descriptor_left()
        case OSError():
            return error.errno not in _OWN
        case _:
            return True


def _has_descriptor_left() -> bool:
    try:
        socket.socket().close()
    except OSError:
        return False
    return True
