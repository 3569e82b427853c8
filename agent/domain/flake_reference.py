"""Locked flake references, as Hydra's evals name them."""

from __future__ import annotations

import re
from typing import Final, NewType
from urllib.parse import parse_qs, urlsplit

from agent.domain.errors import HydraError, Kind

LockedFlakeReference = NewType("LockedFlakeReference", str)
"""A flake reference to one immutable source tree, safe to pass as an argument."""

_MAX_LENGTH: Final = 4096
_SAFE: Final = re.compile(r"[A-Za-z0-9+:/?=&%._~@,\[\]-]+")
_REVISION: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NAR_HASH: Final = re.compile(r"sha(?:256|512)-[A-Za-z0-9+/]+=*")
_FORGES: Final = frozenset({"github", "gitlab", "sourcehut"})
_REPOSITORIES: Final = ("git", "hg")
_TARBALLS: Final = frozenset({"http", "https", "file", "tarball", "path"})


def parse_locked_flake_reference(text: str | None) -> LockedFlakeReference:
    """Return `text` as a locked flake reference.

    The forms are those that Hydra records in `/eval/N` (recorded `eval-*.json`): git and Mercurial
    need a `rev`, forges a revision in the path, tarballs and plain paths a `narHash`.

    Raises:
        HydraError: the reference cannot be used; the kind says why.
    """
    if not text:
        raise HydraError(
            Kind.EVAL_WITHOUT_FLAKE,
            "Hydra's eval names no flake",
            hint="legacy jobsets work only with strategy = 'store-path'",
        )
    if text.startswith("-"):
        raise HydraError(
            Kind.FLAKE_LOOKS_LIKE_OPTION,
            f"refusing the flake reference {text[:200]!r}: it starts with a dash",
        )
    if len(text) > _MAX_LENGTH or not _SAFE.fullmatch(text):
        raise HydraError(
            Kind.FLAKE_UNSAFE_CHARACTERS,
            f"refusing the flake reference {text[:200]!r}: it is too long or has characters that no"
            " flake URL needs",
        )
    if not _is_locked(text):
        raise HydraError(
            Kind.FLAKE_UNLOCKED,
            f"refusing the flake reference {text[:200]!r}: it names no fixed revision or narHash",
        )
    return LockedFlakeReference(text)


def _is_locked(text: str) -> bool:
    try:
        url = urlsplit(text)
        query = parse_qs(url.query, strict_parsing=bool(url.query))
    except ValueError as error:
        raise HydraError(
            Kind.FLAKE_UNSUPPORTED, f"refusing the flake reference {text[:200]!r}: {error}"
        ) from error
    scheme = url.scheme.split("+", 1)[0]
    revision = query.get("rev", [""])[-1]
    if scheme in _REPOSITORIES:
        return bool(_REVISION.fullmatch(revision))
    if scheme in _FORGES:
        in_path = url.path.split("/")[2:3] or [""]
        return any(_REVISION.fullmatch(part) for part in (*in_path, revision))
    if scheme in _TARBALLS:
        # A '+' in a query may arrive unescaped, and parse_qs turns it into a space.
        return bool(_NAR_HASH.fullmatch(query.get("narHash", [""])[-1].replace(" ", "+")))
    raise HydraError(
        Kind.FLAKE_UNSUPPORTED,
        f"refusing the flake reference {text[:200]!r}: type {scheme!r} is not known",
    )
