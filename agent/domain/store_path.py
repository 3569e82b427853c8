"""Store paths: the identity of a system."""

from __future__ import annotations

import re
from typing import Final, NewType

StorePath = NewType("StorePath", str)
"""An absolute path directly below the store directory, as nix names it."""

# The alphabet of nix's base 32 leaves out e, o, t and u; a name has 1 to 211 characters and does
# not start with a dot (nix: src/libstore/path.cc).
_BASE_NAME: Final = re.compile(
    r"[0-9abcdfghijklmnpqrsvwxyz]{32}-[A-Za-z0-9+\-_?=][A-Za-z0-9+\-._?=]{0,210}"
)


def parse_store_path(text: object, store_dir: str) -> StorePath | None:
    """Return `text` as a store path in `store_dir`, or None if it is not one."""
    if not isinstance(text, str) or not text.startswith(f"{store_dir}/"):
        return None
    base_name = text.removeprefix(f"{store_dir}/")
    return StorePath(text) if _BASE_NAME.fullmatch(base_name) else None
