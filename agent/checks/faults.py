"""Decides whether an error proves that the target fails, or only that it could not be asked."""

from __future__ import annotations

import errno
import socket
from typing import Final

_OWN: Final = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
        *(errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT),  # as a sandbox without that family has it
    )
)


def is_about_target(error: Exception) -> bool:
    """Return whether an error of the network says something of the target.

    A name that does not resolve does; but the resolver also says that it has no answer where it
    finds no descriptor to ask with.
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
